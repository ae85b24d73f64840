// Package pgrows is a ready-made repository for a PostgreSQL table whose personal
// columns are sealed: rows go in and come out as plain structs, through pgx.
//
//	codec, err := fieldcrypt.NewCodec[Customer](keys, "customers", nil)
//	customers, err := pgrows.New[Customer, int64](pool, codec, nil)
//
//	ada, err = customers.Create(ctx, ada)                          // its id is the database's
//	ada, err = customers.Get(ctx, ada.ID)
//	for c, err := range customers.Find(ctx, map[string]any{"country": "NL"}) { … }
//
//	tx, err := pool.Begin(ctx)
//	_, err = customers.WithTx(tx).UpdateFields(ctx, ada.ID, Customer{Email: "ada@example.org"}, "email")
//
//	anonymize.Register(eraser, codec, customers)                   // a Table is a Source, too
//
// Queries of your own are read with [CollectRows], which opens the whole result with
// one round trip to the keystore.
//
// # Columns
//
// A field is the column that its db tag names, else the one with the field's name, as
// pgx.RowToStructByName has it: case and underscores do not matter then, embedded
// structs are taken apart, `db:"-"` is no column, and neither is a fieldcrypt.Status.
// The logical name in the oubli tag is part of what values are bound to, and may differ:
// a column can be renamed at any time. Personal fields may also stand inside a column,
// as in a struct that is stored as jsonb.
//
// The database is asked once what the table is like: its primary key, its identity
// columns and defaults, and whether the columns can hold envelopes. What does not fit is
// reported by name, by the first call or by [Table.Check]; columns without a field are
// left alone. A statement that fails because the table was altered makes the next call
// look again.
//
// A string or [fieldcrypt.Private] stands as a text envelope in a column of type text,
// varchar (if it is wide enough) or bytea, a []byte as a binary one in a bytea.
//
// # Transactions
//
// The keys of a new person are made, and are durable, before the row that is sealed
// under them is written, by a transaction of the keystore's own: pgstore takes no
// connection of the pool or transaction that a Table uses, so nothing here waits for a
// second one. That also means that a rollback of the row leaves the keys: nobody
// needs them then, they hold nothing, they are found by the next row of that person,
// from the cache or anew, and an erasure of the person destroys them. A drawn id leaves
// a gap in its sequence.
//
// An erasure blanks the rows that it sees. A row that is committed later, by a
// transaction begun before, keeps its envelopes; their keys are destroyed, and it reads
// as erased like all others.
package pgrows
