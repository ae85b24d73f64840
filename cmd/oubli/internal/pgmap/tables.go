package pgmap

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// Tables are the tables of a data map as an anonymize.Eraser takes them: all rows of a
// person are blanked in one transaction. They are safe for concurrent use.
type Tables struct {
	pool   *pgxpool.Pool
	tables []codecTable
	people *people
	lock   time.Duration

	mu    sync.Mutex
	mixed map[uint32]bool // tables where UUIDs stand in mixed case, by oid, as far as is known
}

var _ anonymize.Tables = (*Tables)(nil)

// TablesOptions of NewTables. The zero value of each field is its default.
type TablesOptions struct {
	// Adopting tells which tables may still hold plaintext. Default: none.
	Adopting func(*Table) bool

	// LockTimeout is how long a transaction waits for a row that the application has
	// locked, before the erasure fails and is left to a later attempt. Default: 5 s.
	LockTimeout time.Duration
}

// codecTable is a table and what opens its rows.
type codecTable struct {
	*Table
	codec *fieldcrypt.BoundRows
}

// NewTables makes them of loaded tables, which are locked and blanked in this order. o
// may be nil. The error wraps keystore.ErrInvalid and names all mistakes.
func NewTables(pool *pgxpool.Pool, keys *keystore.Store, tables []*Table, o *TablesOptions) (*Tables, error) {
	if o == nil {
		o = &TablesOptions{}
	}
	list, err := codecsOf(keys, tables, o.Adopting)
	if err != nil {
		return nil, err
	}
	ts := &Tables{pool: pool, tables: list, lock: o.LockTimeout, mixed: map[uint32]bool{}}
	if ts.people, err = newPeople(ts, keys, o.Adopting); err != nil {
		return nil, err
	}
	if ts.lock <= 0 {
		ts.lock = 5 * time.Second
	}
	return ts, nil
}

// codecsOf makes the codecs of tables. adopting may be nil.
func codecsOf(keys *keystore.Store, tables []*Table, adopting func(*Table) bool) ([]codecTable, error) {
	var list []codecTable
	var mistakes []error
	for _, t := range tables {
		codec, err := t.Codec(keys, adopting != nil && adopting(t))
		if err == nil {
			err = t.needKey()
		}
		mistakes = append(mistakes, err)
		list = append(list, codecTable{t, codec})
	}
	return list, errors.Join(mistakes...)
}

// Tables describes the tables.
func (ts *Tables) Tables() []anonymize.TableInfo {
	infos := make([]anonymize.TableInfo, len(ts.tables))
	for i, t := range ts.tables {
		infos[i] = anonymize.TableInfo{Name: t.Map.Table, Kind: t.Map.Kind}
		for _, f := range t.Map.Fields {
			infos[i].Fields = append(infos[i].Fields, fieldcrypt.Field{Name: f.Name, Purpose: f.Purpose, Replace: f.Replace, Blank: f.Blank})
		}
	}
	return infos
}

// Blank implements anonymize.Tables. A row that the application keeps locked fails it
// with [keystore.ErrUnavailable], and nothing is changed.
func (ts *Tables) Blank(ctx context.Context, s keystore.Subject, keep []string) error {
	const tries = 5
	tables, err := ts.of(ctx, s)
	if err != nil {
		return ts.failed("blank rows", s, err)
	}
	for try := 1; ; try++ {
		err := ts.inTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, settings, fmt.Sprintf("%dms", ts.lock.Milliseconds())); err != nil {
				return Fail("begin a transaction", err)
			}
			for _, t := range tables {
				if err := t.blank(ctx, tx, s, keep); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil || try == tries || !lost(err) {
			return ts.failed("blank rows", s, err)
		}
		select {
		case <-time.After(rand.N(20 * time.Millisecond << try)):
		case <-ctx.Done():
			return ts.failed("blank rows", s, ctx.Err())
		}
	}
}

// settings of a transaction that blanks: the keys are destroyed after it, so it must be
// durable when it ends, whatever is usual here.
const settings = `
SELECT pg_catalog.set_config('lock_timeout', $1, true),
       CASE WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'
            THEN pg_catalog.set_config('synchronous_commit', 'on', true) END`

// lost tells whether a transaction was the victim of another, and may win the next time.
func lost(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Code() == "40001" || e.Code() == "40P01")
}

// blank blanks the rows of s in one table, until there is nothing to blank: rows may have
// come meanwhile, and triggers may have put back what was blanked.
func (t codecTable) blank(ctx context.Context, tx pgx.Tx, s keystore.Subject, keep []string) error {
	const most = 5
	for pass := 1; ; pass++ {
		n, last, err := t.blankOnce(ctx, tx, s, keep)
		switch {
		case err != nil || n == 0:
			return err
		case pass == most:
			return fmt.Errorf("%w: table %s does not keep the blanks of row (%s), and of %d more: a trigger puts values back, or a program goes on writing them in the clear",
				keystore.ErrState, t.Quoted, strings.Join(last.Key, ", "), n-1)
		}
	}
}

// blankOnce goes through the rows of s once, and tells how many it had to blank, and the
// last of them.
func (t codecTable) blankOnce(ctx context.Context, tx pgx.Tx, s keystore.Subject, keep []string) (n int, last Row, err error) {
	err = t.eachPage(ctx, tx, s, true, func(rows []Row, _ string, _ []any) error {
		if err := t.allOf(rows, s); err != nil {
			return err
		}
		changed, err := t.codec.Blank(ctx, cellsOf(rows), keep)
		if err != nil {
			return t.about(rows, err)
		}
		var save []Row
		for i, fields := range changed {
			if slices.Contains(fields, true) {
				save = append(save, rows[i])
			}
		}
		if len(save) == 0 {
			return nil
		}
		n, last = n+len(save), save[len(save)-1]
		missed, err := t.saveBlanks(ctx, tx, save, SaveOptions{})
		if err == nil && missed != nil {
			// They are locked, so it is this transaction that changed them, or kept them
			// from being changed: a trigger, a rule or a policy.
			err = fmt.Errorf("%w: table %s did not take the blanks of row (%s), and of %d more; look at its triggers, rules and policies",
				keystore.ErrState, t.Quoted, strings.Join(missed[0].Key, ", "), len(missed)-1)
		}
		return err
	})
	return n, last, err
}

// allOf refuses rows of somebody else, whatever the database took for equal: what is
// blanked is gone.
func (t *Table) allOf(rows []Row, s keystore.Subject) error {
	for _, row := range rows {
		of, err := keystore.NewSubject(t.Map.Kind, row.Cells[0].Text, keystore.AllowAt())
		if err != nil || of != s {
			return fmt.Errorf("%w: the database took row (%s) of table %s for one of %s, which it is not", keystore.ErrTampered, strings.Join(row.Key, ", "), t.Quoted, s)
		}
	}
	return nil
}

// saveBlanks is Save, and says what to do about a column that does not take a blank.
func (t *Table) saveBlanks(ctx context.Context, db DB, rows []Row, o SaveOptions) (missed []Row, err error) {
	missed, err = t.Save(ctx, db, rows, o)
	if e := (*Error)(nil); errors.As(err, &e) && (strings.HasPrefix(e.Code(), "22") || e.Code() == notNull) {
		err = fmt.Errorf("%w: a personal column does not take blanks; widen it, with oubli adopt, or give a column that is NOT NULL a replace: in the data map", err)
	}
	return missed, err
}

// SQLSTATEs.
const (
	lockTimeout = "55P03"
	notNull     = "23502"
)

// Count implements anonymize.Tables.
func (ts *Tables) Count(ctx context.Context, s keystore.Subject) (map[string]int, error) {
	tables, err := ts.of(ctx, s)
	counts := map[string]int{}
	for _, t := range tables {
		where, args := t.ofSubject(s)
		var n int64
		if err = ts.pool.QueryRow(ctx, "SELECT pg_catalog.count(*) FROM "+t.Quoted+" AS t WHERE "+where, args...).Scan(&n); err != nil {
			err = Fail("count rows of "+t.Quoted, err)
			break
		}
		counts[t.Map.Table] = int(n)
	}
	return counts, ts.failed("count rows", s, err)
}

// eachPage calls f with the rows of a subject, a page at a time in the order of their
// key, and how a query of this page ends.
func (t *Table) eachPage(ctx context.Context, db DB, s keystore.Subject, lock bool, f func(rows []Row, tail string, args []any) error) error {
	var after []string
	size := firstPage()
	for {
		tail, args := t.pageOf(s, after, size.rows)
		sql := t.selects() + tail
		if lock {
			sql += " FOR UPDATE OF t"
		}
		rows, err := t.read(ctx, db, sql, args...)
		if err != nil || len(rows) == 0 {
			return err
		}
		n := bytesOf(rows)
		if err := f(rows, tail, args); err != nil {
			return err
		}
		if len(rows) < size.rows { // also with lock: rows that are gone when their lock is had do not count for LIMIT
			return nil
		}
		after = rows[len(rows)-1].Key
		size.next(len(rows), n)
	}
}

// pageOf ends a query of a page of a subject's rows.
func (t *Table) pageOf(s keystore.Subject, after []string, limit int) (tail string, args []any) {
	where, args := t.ofSubject(s)
	if after != nil {
		var is string
		is, args = t.beyond(after, args)
		where += " AND " + is
	}
	return " WHERE " + where + t.inOrder(limit), args
}

// inTx runs f in a transaction.
func (ts *Tables) inTx(ctx context.Context, o pgx.TxOptions, f func(pgx.Tx) error) error {
	tx, err := ts.pool.BeginTx(ctx, o)
	if err != nil {
		return Fail("begin a transaction", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // does nothing once it is committed
	if err := f(tx); err != nil {
		return err
	}
	return Fail("commit", tx.Commit(ctx))
}

// failed completes an error about a subject.
func (ts *Tables) failed(op string, s keystore.Subject, err error) error {
	if err == nil {
		return nil
	}
	e := &keystore.Error{Op: op, Subject: s, Err: err}
	if pg := (*Error)(nil); errors.As(err, &pg) && pg.Code() == lockTimeout {
		e.Hint = fmt.Sprintf("a transaction of the application has kept a row locked for %v; nothing was changed: end it, or try again", ts.lock)
	}
	return e
}

// about says which row an error of a codec is about, by its key.
func (t *Table) about(rows []Row, err error) error {
	var row *fieldcrypt.RowError
	if !errors.As(err, &row) || row.Row >= len(rows) {
		return fmt.Errorf("table %s: %w", t.Quoted, err)
	}
	return fmt.Errorf("table %s, key (%s): %w", t.Quoted, strings.Join(rows[row.Row].Key, ", "), err)
}

func cellsOf(rows []Row) [][]fieldcrypt.Cell {
	cells := make([][]fieldcrypt.Cell, len(rows))
	for i, r := range rows {
		cells[i] = r.Cells
	}
	return cells
}
