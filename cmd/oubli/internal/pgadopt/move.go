package pgadopt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

// mover rewrites the personal cells of a table's rows, a page at a time: one goroutine
// reads, one changes what was read (seals it, or opens it), one writes. Nothing is locked
// between reading and writing: a row is written only while it is still the version that
// was read.
type mover struct {
	scan
	// change changes cells in place and tells which rows it changed.
	change func(ctx context.Context, rows []pgmap.Row) (page, error)
	// mark, if there is one, notes in the transaction of a write how far it has come. It,
	// or else guard, fails if the work is not to be done any more.
	mark  func(ctx context.Context, tx pgx.Tx, last []string, rows int64) error
	guard func(ctx context.Context, tx pgx.Tx) error
	// still, if there is one, fails if rows may not be written any more.
	still func(ctx context.Context, rows []pgmap.Row) error
	// moved, if there is one, is told after each write.
	moved func()

	rows  int64 // that were read and are done with
	count tally // of what is done with
	pace  pace
	skip  int // so many writes more don't wait for locks
}

// page is what was read at once.
type page struct {
	rows  []pgmap.Row // those that were changed
	edits []edit      // of each of them
	last  []string    // the key of the last row that was read
	read  int         // how many were read
	count tally       // of what was found and is left
}

// edit is what was done to a row.
type edit struct {
	at     int // where in the page it stood
	values int // how many values of it were changed
}

// A transaction sets what it needs whatever the role's settings are. Waiting for a lock is
// cut short: others wait for those that are held meanwhile, and a deadlock is broken
// before the server looks for a victim. A write that a crash of the server takes back is
// done again, together with its mark.
const beginWrite = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '5ms'; SET LOCAL synchronous_commit = off; " +
	// Rows are found by their key, however many the planner thinks there are.
	"SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off; SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL jit = off"

// skipsFor is how many writes pass over locked rows after one that met a lock.
const skipsFor = 50

// writeLimit ends a write that the server does not answer.
const writeLimit = 30 * time.Second

// pass goes once through the rows after m.after. It resumes by itself after errors that
// pass.
func (m *mover) pass(ctx context.Context) error {
	var p patient
	for {
		rows, values := m.rows, m.count.Values
		err := m.stream(ctx)
		if err == nil || !passing(err) {
			return err
		}
		if m.rows != rows || m.count.Values != values {
			p.progress()
		}
		if !p.wait(ctx) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

func (m *mover) stream(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	read, changed := make(chan []pgmap.Row), make(chan page) // each has a page in hand
	var both sync.WaitGroup
	both.Go(func() {
		defer close(read)
		if err := m.into(ctx, read); err != nil {
			stop(err)
		}
	})
	both.Go(func() {
		defer close(changed)
		for rows := range read {
			p, err := m.change(ctx, rows)
			if err != nil {
				stop(err)
				return
			}
			p.last, p.read = rows[len(rows)-1].Key, len(rows)
			select {
			case changed <- p:
			case <-ctx.Done():
				return
			}
		}
	})
	for p := range changed {
		if ctx.Err() != nil {
			continue
		}
		if err := m.write(ctx, p); err != nil {
			stop(err)
		}
	}
	both.Wait()
	return context.Cause(ctx)
}

// write writes a page in as many transactions as it takes. It stops between two.
func (m *mover) write(ctx context.Context, p page) error {
	start := m.rows
	var late []pgmap.Row
	for len(p.rows) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(m.pace.rows, len(p.rows))
		last, done := p.rows[n-1].Key, start+int64(p.edits[n-1].at+1)
		if n == len(p.rows) {
			last, done = p.last, start+int64(p.read)
		}
		missed, err := m.save(ctx, p.rows[:n], func(ctx context.Context, tx pgx.Tx) error {
			if m.mark == nil || n < len(p.rows) { // a mark in each transaction would be felt
				return m.guard(ctx, tx)
			}
			return m.mark(ctx, tx, last, done)
		})
		if err != nil {
			return err
		}
		m.saved(p.rows[:n], p.edits[:n], missed)
		late = append(late, missed...)
		m.after, m.rows = last, done
		p.rows, p.edits = p.rows[n:], p.edits[n:]
		m.tell()
	}
	m.after, m.rows = p.last, start+int64(p.read)
	m.count.add(p.count)
	m.tell()
	return m.settle(ctx, late)
}

func (m *mover) tell() {
	if m.moved != nil {
		m.moved()
	}
}

// saved counts the values of rows that were written.
func (m *mover) saved(rows []pgmap.Row, edits []edit, missed []pgmap.Row) {
	for _, c := range edits {
		m.count.Values += int64(c.values)
	}
	if len(missed) == 0 {
		return
	}
	not := make(map[string]bool, len(missed))
	for i := range missed {
		not[joined(missed[i].Key)] = true
	}
	for i := range rows {
		if not[joined(rows[i].Key)] {
			m.count.Values -= int64(edits[i].values)
		}
	}
}

// joined is a key's columns as one string, for maps.
func joined(key []string) string { return strings.Join(key, "\x00") }

// save writes rows in one transaction. A lock that somebody holds is waited for shortly
// once; then the locked rows are passed over, and missed.
func (m *mover) save(ctx context.Context, rows []pgmap.Row, mark func(context.Context, pgx.Tx) error) ([]pgmap.Row, error) {
	// Whoever cancels waits for the transaction that is under way.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	missed, err := m.try(ctx, rows, m.skip > 0, mark)
	if m.skip > 0 {
		m.skip--
	} else if refusedLock(err) {
		m.skip = skipsFor
		missed, err = m.try(ctx, rows, true, mark)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: the server did not answer within %v", keystore.ErrUnavailable, writeLimit)
	}
	return missed, err
}

func (m *mover) try(ctx context.Context, rows []pgmap.Row, skip bool, mark func(context.Context, pgx.Tx) error) (missed []pgmap.Row, err error) {
	var start time.Time
	err = pgx.BeginTxFunc(ctx, m.db, pgx.TxOptions{BeginQuery: beginWrite}, func(tx pgx.Tx) (err error) {
		start = time.Now()
		if missed, err = m.table.Save(ctx, tx, rows, pgmap.SaveOptions{SkipLocked: skip}); err != nil {
			return err
		}
		if err := mark(ctx, tx); err != nil || m.still == nil {
			return err
		}
		return m.still(ctx, rows)
	})
	if err != nil {
		return nil, fail("write rows of "+m.table.Quoted, err)
	}
	m.pace.took(len(rows), time.Since(start))
	m.count.writes++
	return missed, nil
}

// settle reads rows again that were changed or locked, and tries a few times more, with
// next to no time between reading and writing. What is still missed is left to the next
// pass.
func (m *mover) settle(ctx context.Context, missed []pgmap.Row) error {
	m.count.Retried += int64(len(missed))
	for len(missed) > 0 {
		n := min(m.pace.rows, len(missed))
		if err := m.settleSome(ctx, missed[:n]); err != nil {
			return err
		}
		missed = missed[n:]
	}
	return nil
}

func (m *mover) settleSome(ctx context.Context, missed []pgmap.Row) error {
	const tries = 4
	for try := range tries {
		keys := make([][]string, len(missed))
		for i := range missed {
			keys[i] = missed[i].Key
		}
		var rows []pgmap.Row
		err := reading(ctx, m.db, func(tx pgx.Tx) (err error) {
			rows, err = m.table.Again(ctx, tx, keys)
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		p, err := m.change(ctx, rows)
		if err != nil || len(p.rows) == 0 {
			return err
		}
		missed, err = m.save(ctx, p.rows, m.guard)
		if err != nil {
			return err
		}
		m.saved(p.rows, p.edits, missed)
		if len(missed) == 0 {
			return nil
		}
		if !sleep(ctx, time.Millisecond<<try) {
			return context.Cause(ctx)
		}
	}
	m.count.missed += int64(len(missed))
	return nil
}
