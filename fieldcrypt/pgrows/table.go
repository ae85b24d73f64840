package pgrows

import (
	"context"
	"fmt"
	"reflect"
	"sync/atomic"
	"unsafe"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// DB runs statements: a *pgxpool.Pool, *pgxpool.Conn, *pgx.Conn or pgx.Tx.
type DB interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Options of a Table. nil means the defaults.
type Options struct {
	// Name is the table in the database, as pgx.Identifier{"sales", "Customer"}. It
	// is always quoted. Default: the codec's table name, which the server looks for
	// along its search_path.
	Name pgx.Identifier

	// Key names the columns that a row is found by. They must be unique and NOT NULL.
	// Default: the primary key.
	Key []string
}

// Table is a table whose rows are of type T and are found by an ID: the type of the
// key's column, or for a key of several columns a struct of them. It is safe for
// concurrent use if its DB is.
type Table[T any, ID comparable] struct {
	*shared
	db    DB
	codec *fieldcrypt.Codec[T]
}

// shared is what a Table and those made of it by WithTx have in common.
type shared struct {
	layout   *layout
	ordered  []*column // all columns, in the order of the layout
	name     string    // quoted
	keyNames []string
	id       reflect.Type
	catalog  atomic.Pointer[catalog]
}

// New makes a Table. It reads T's tags, and nothing from the database: that happens with
// the first call, or with Check. The error names all mistakes and wraps keystore.ErrInvalid.
func New[T any, ID comparable](db DB, codec *fieldcrypt.Codec[T], o *Options) (*Table[T, ID], error) {
	if db == nil || codec == nil {
		return nil, fmt.Errorf("%w: a table needs a database and a codec", keystore.ErrInvalid)
	}
	if o == nil {
		o = &Options{}
	}
	l, err := layoutOf(reflect.TypeFor[T](), codec.Fields())
	if err != nil {
		return nil, err
	}
	name := o.Name
	if len(name) == 0 {
		name = pgx.Identifier{codec.Table()}
	}
	s := &shared{layout: l, name: name.Sanitize(), keyNames: o.Key, id: reflect.TypeFor[ID]()}
	for i := range l.columns {
		s.ordered = append(s.ordered, &l.columns[i])
	}
	return &Table[T, ID]{shared: s, db: db, codec: codec}, nil
}

var _ fieldcrypt.Repository[struct{}, int] = (*Table[struct{}, int])(nil)

// WithTx returns the same table inside a transaction. It takes no other connection
// than that of tx; the keystore has connections of its own.
func (t *Table[T, ID]) WithTx(tx pgx.Tx) *Table[T, ID] {
	return &Table[T, ID]{shared: t.shared, db: tx, codec: t.codec}
}

// Check looks at the table in the database and reports everything that does not fit T:
// for a program that wants to know when it starts.
func (t *Table[T, ID]) Check(ctx context.Context) error {
	_, err := t.look(ctx, "check")
	return err
}

// look returns what the database says of the table, which is asked once.
func (t *Table[T, ID]) look(ctx context.Context, op string) (*catalog, error) {
	if c := t.catalog.Load(); c != nil {
		return c, nil
	}
	c, err := readCatalog(ctx, t.db, t.layout, t.name, t.id, t.keyNames)
	if err != nil {
		return nil, t.fail(op, err)
	}
	t.catalog.Store(c)
	return c, nil
}

// fail completes an error of the database.
func (t *Table[T, ID]) fail(op string, err error) error {
	if outdated(err) {
		t.catalog.Store(nil) // the next call looks again
	}
	return &Error{Op: op, Table: t.name, Err: err}
}

// query appends the rows of a statement that gives all columns, as they are stored.
//
// A statement that was prepared before somebody changed the type of a column fails once in
// each connection, before it has done anything, and pgx forgets it. So it runs again: an
// adoption changes types under a working application. In a transaction it cannot.
func (t *Table[T, ID]) query(ctx context.Context, op string, to []T, sql string, args ...any) ([]T, error) {
	const connections = 100
	_, inTx := t.db.(pgx.Tx)
	before := len(to)
	for try := 0; ; try++ {
		to = to[:before]
		rows, err := t.db.Query(ctx, sql, args...)
		if err == nil {
			err = scanAll(rows, t.ordered, func() *T {
				var none T
				to = append(to, none)
				return &to[len(to)-1]
			})
		}
		switch {
		case err == nil:
			return to, nil
		case inTx || try == connections || !replanned(err):
			return nil, t.fail(op, err)
		}
	}
}

// scanAll reads the rows of a result to where next says, and closes it.
func scanAll[T any](rows pgx.Rows, columns []*column, next func() *T) error {
	defer rows.Close()
	var s *scanner
	for rows.Next() {
		if s == nil {
			var err error
			if s, err = newScanner(columns, rows.FieldDescriptions(), rows.TypeMap()); err != nil {
				return err
			}
		}
		if err := s.scan(unsafe.Pointer(next()), rows.RawValues()); err != nil {
			return err
		}
	}
	return rows.Err()
}

// open opens the only row of a result.
func (t *Table[T, ID]) open(ctx context.Context, op string, rows []T) (T, error) {
	var none T
	if len(rows) == 0 {
		return none, t.fail(op, errNoRow)
	}
	if err := t.codec.Open(ctx, &rows[0]); err != nil {
		return none, one(err)
	}
	return rows[0], nil
}
