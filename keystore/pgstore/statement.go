package pgstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/oubli/oubli/keystore"
)

// statement is a query with the types of its parameters. Parameters and results are
// binary, and nothing depends on the query mode that the application's DSN chooses.
type statement struct {
	name string // under which direct connections prepare it
	sql  string // {schema} stands for the quoted schema
	oids []uint32
}

var (
	rowTypes   = []uint32{pgtype.Int2ArrayOID, pgtype.ByteaArrayOID}                      // page, key
	namedTypes = []uint32{pgtype.Int2ArrayOID, pgtype.ByteaArrayOID, pgtype.Int8ArrayOID} // page, key, rev
	putTypes   = []uint32{pgtype.Int2ArrayOID, pgtype.ByteaArrayOID, pgtype.Int8ArrayOID, pgtype.ByteaArrayOID}
)

// The planner is left no choice in these. unnest gives the keys in the order of the arrays;
// it stands in a select list, since several of them are slow in FROM. A lateral subquery with
// a limit or a lock is run once for each key, and each run is a look-up in the primary key.
// So locks are taken in the order of the arrays.
var (
	// Every row of an answer tells whether the server is a standby; there is always one.
	getStatement = statement{"oubli_get", `
select k.n, r.rev, r.value, pg_is_in_recovery()
from (select pg_catalog.unnest($1::smallint[]) page, pg_catalog.unnest($2::bytea[]) key, pg_catalog.unnest($3::bigint[]) n) k
left join lateral (select rev, value from {schema}.records where page = k.page and key = k.key limit 1) r on true`,
		namedTypes}

	scanStatement = statement{"oubli_scan", `
select r.page, r.key, r.rev, r.value, pg_is_in_recovery()
from (select 1) one
left join lateral (select page, key, rev, value from {schema}.records
	where (page, key) >= ($1, $2) and (page, key) < ($3, $4)
	order by page, key limit $5) r on true
order by r.page, r.key`,
		[]uint32{pgtype.Int2OID, pgtype.ByteaOID, pgtype.Int2OID, pgtype.ByteaOID, pgtype.Int8OID}}

	// beginStatement is the first of every commit. It makes the commit durable whatever
	// the role's or the database's default says, locks the guards, and looks for records
	// where there must be none. It fails, by a cast of the reason to a number, rather than
	// to let the commit go on.
	beginStatement = statement{"oubli_begin", `
select {durable},
	cast(case
		when current_setting('fsync') <> 'on' then '` + reasonFsync + `'
		when (select count(*) from (select pg_catalog.unnest($1::smallint[]) page, pg_catalog.unnest($2::bytea[]) key, pg_catalog.unnest($3::bigint[]) rev) k
			cross join lateral (select 1 from {schema}.records r
				where r.page = k.page and r.key = k.key and r.rev = k.rev {for share}) held)
			<> coalesce(pg_catalog.array_length($1::smallint[], 1), 0) then '` + reasonConflict + `'
		when exists (select 1 from (select pg_catalog.unnest($4::smallint[]) page, pg_catalog.unnest($5::bytea[]) key) k
			cross join lateral (select 1 from {schema}.records r where r.page = k.page and r.key = k.key limit 1) there)
			then '` + reasonConflict + `'
		else '0' end as integer)`,
		append(namedTypes[:3:3], rowTypes...)}

	// createStatement is a whole commit: that of one new record beside one guard, which is
	// what a new subject costs. It inserts one row, or none where a revision does not hold.
	createStatement = statement{"oubli_create", `
with guard as materialized (
	select 1 from {schema}.records r where r.page = $1 and r.key = $2 and r.rev = $3 {for share})
insert into {schema}.records (page, key, rev, value)
select $4, $5, $6, $7 from guard
where {durable} is not null
	and cast(case when current_setting('fsync') = 'on' then '0' else '` + reasonFsync + `' end as integer) = 0
on conflict do nothing`,
		[]uint32{pgtype.Int2OID, pgtype.ByteaOID, pgtype.Int8OID, pgtype.Int2OID, pgtype.ByteaOID, pgtype.Int8OID, pgtype.ByteaOID}}

	// lockStatement locks and checks what will be replaced or deleted.
	lockStatement = statement{"oubli_lock", `
select cast(case
	when (select count(*) from (select pg_catalog.unnest($1::smallint[]) page, pg_catalog.unnest($2::bytea[]) key, pg_catalog.unnest($3::bigint[]) rev) k
		cross join lateral (select 1 from {schema}.records r
			where r.page = k.page and r.key = k.key and r.rev = k.rev for no key update) held)
		<> coalesce(pg_catalog.array_length($1::smallint[], 1), 0) then '` + reasonConflict + `'
	else '0' end as integer)`,
		namedTypes}

	updateStatement = statement{"oubli_update", `
update {schema}.records r set rev = k.rev, value = k.value
from (select pg_catalog.unnest($1::smallint[]) page, pg_catalog.unnest($2::bytea[]) key, pg_catalog.unnest($3::bigint[]) rev, pg_catalog.unnest($4::bytea[]) value) k
where r.page = k.page and r.key = k.key`,
		putTypes}

	insertStatement = statement{"oubli_insert", `
insert into {schema}.records (page, key, rev, value)
select page, key, rev, value
from (select pg_catalog.unnest($1::smallint[]) page, pg_catalog.unnest($2::bytea[]) key, pg_catalog.unnest($3::bigint[]) rev, pg_catalog.unnest($4::bytea[]) value) k`,
		putTypes}

	deleteStatement = statement{"oubli_delete", `
delete from {schema}.records r
using (select pg_catalog.unnest($1::smallint[]) page, pg_catalog.unnest($2::bytea[]) key) k
where r.page = k.page and r.key = k.key`,
		rowTypes}
)

// durable sets how the transaction that it stands in commits.
const durable = `set_config('synchronous_commit',
	case current_setting('synchronous_commit') when 'remote_apply' then 'remote_apply' else 'on' end, true)`

// What a commit's first statements fail with, as a part of the server's message.
const (
	reasonConflict = "oubli: a revision no longer holds"
	reasonFsync    = "oubli: fsync is off"
)

// step is a statement with its arguments.
type step struct {
	*statement
	args   [][]byte
	writes int64 // how many rows it must write, or it has met a conflict; 0: it says so itself
}

// session is what is known of a connection.
type session struct {
	direct   bool            // no pooler stands between: the session is ours alone
	prepared map[string]bool // names of statements
	warning  string          // the last that the server gave
}

const sessionKey = "oubli"

func sessionOf(c *pgconn.PgConn) *session { return c.CustomData()[sessionKey].(*session) }

// run runs steps as one transaction, in one round trip once they are prepared, and calls
// row with each row of an answer; values are valid during the call. complete is the
// number of steps that the server has finished.
func (s *Store) run(ctx context.Context, c *pgconn.PgConn, steps []step, row func(values [][]byte) error) (complete int, err error) {
	session := sessionOf(c)
	session.warning = ""
	batch := &pgconn.Batch{}
	for _, st := range steps {
		if !session.direct {
			batch.ExecParams(s.texts[st.name], st.args, st.oids, binaryFormat, binaryFormat)
			continue
		}
		if !session.prepared[st.name] {
			if _, err := c.Prepare(ctx, st.name, s.texts[st.name], st.oids); err != nil {
				return 0, &unsent{err}
			}
			session.prepared[st.name] = true
		}
		batch.ExecPrepared(st.name, st.args, binaryFormat, binaryFormat)
	}
	if c.IsClosed() || ctx.Err() != nil {
		return 0, &unsent{errors.Join(context.Cause(ctx), errLost)}
	}
	results := c.ExecBatch(ctx, batch)
	var rowErr error
	for results.NextResult() {
		r := results.ResultReader()
		for r.NextRow() {
			if rowErr == nil && row != nil {
				rowErr = row(r.Values())
			}
		}
		tag, err := r.Close()
		if err == nil && steps[complete].writes > tag.RowsAffected() {
			rowErr = fmt.Errorf("a record has changed: %w", keystore.ErrConflict)
		}
		if err == nil {
			complete++
		}
	}
	if err := results.Close(); errors.Is(err, pgconn.ErrConnClosed) {
		return complete, errors.Join(context.Cause(ctx), errLost)
	} else if err != nil {
		return complete, err
	}
	return complete, rowErr
}

// texts returns the SQL of all statements, by name.
func texts(schema, guardLock string) map[string]string {
	r := strings.NewReplacer("{schema}", quote(schema), "{for share}", guardLock, "{durable}", durable)
	texts := make(map[string]string)
	for _, st := range []*statement{&getStatement, &scanStatement, &beginStatement, &createStatement, &lockStatement, &updateStatement, &insertStatement, &deleteStatement} {
		texts[st.name] = r.Replace(st.sql)
	}
	return texts
}

var binaryFormat = []int16{1}

// rows is a list of rows, column by column, as arrays of the wire's binary format.
type rows struct {
	n                         int
	pages, keys, revs, values []byte
}

func (r *rows) addKey(key []byte) {
	r.n++
	r.pages = binary.BigEndian.AppendUint16(append(r.pages, 0, 0, 0, 2), uint16(pageOf(key)))
	r.keys = appendBytes(r.keys, restOf(key))
}

func (r *rows) addRev(rev keystore.Rev) {
	r.revs = binary.BigEndian.AppendUint64(append(r.revs, 0, 0, 0, 8), uint64(rev))
}

func (r *rows) addPut(key []byte, rev keystore.Rev, value []byte) {
	r.addKey(key)
	r.addRev(rev)
	r.values = appendBytes(r.values, value)
}

func appendBytes(b, element []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(element))), element...)
}

// named, keyed and put are the arguments for namedTypes, rowTypes and putTypes.
func (r *rows) keyed() [][]byte {
	return [][]byte{r.array(pgtype.Int2OID, r.pages), r.array(pgtype.ByteaOID, r.keys)}
}

func (r *rows) named() [][]byte { return append(r.keyed(), r.array(pgtype.Int8OID, r.revs)) }

func (r *rows) put() [][]byte { return append(r.named(), r.array(pgtype.ByteaOID, r.values)) }

// array gives elements the header of a one-dimensional array without nulls.
func (r *rows) array(oid uint32, elements []byte) []byte {
	b := make([]byte, 0, 20+len(elements))
	if r.n == 0 {
		b = binary.BigEndian.AppendUint32(b, 0) // no dimension
		b = binary.BigEndian.AppendUint32(b, 0)
		return binary.BigEndian.AppendUint32(b, oid)
	}
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, oid)
	b = binary.BigEndian.AppendUint32(b, uint32(r.n))
	b = binary.BigEndian.AppendUint32(b, 1) // the first index
	return append(b, elements...)
}

// pageOf and restOf split a key into the columns page and key. The empty key, which no
// record has, stands before all pages.
func pageOf(key []byte) int16 {
	if len(key) == 0 {
		return -1
	}
	return int16(key[0])
}

func restOf(key []byte) []byte {
	if len(key) == 0 {
		return []byte{} // nil would be NULL
	}
	return key[1:]
}

func int16Value(n int16) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
func int64Value(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// Values of an answer, which the server made: a wrong length is a server that is not PostgreSQL.
func parseInt(b []byte) (uint64, error) {
	switch len(b) {
	case 2:
		return uint64(binary.BigEndian.Uint16(b)), nil
	case 8:
		return binary.BigEndian.Uint64(b), nil
	}
	return 0, fmt.Errorf("a number of %d bytes in the server's answer", len(b))
}
