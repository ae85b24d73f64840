package pgadopt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// backfill seals the plaintext of one table.
type backfill struct {
	c      Config
	table  *pgmap.Table
	codec  *fieldcrypt.BoundRows
	phase  Phase    // that the record was in when it was looked at last
	cursor []string // of the record
	done   int64
	report TableRun
	meter  meter
}

func newBackfill(c Config, t *pgmap.Table, r *Record) (*backfill, error) {
	codec, err := t.Codec(c.Keys, true)
	return &backfill{
		c: c, table: t, codec: codec, phase: r.Phase, cursor: r.Cursor, done: r.Done,
		report: TableRun{Table: t.Map.Table, Phase: r.Phase}, meter: meter{tell: c.Progress},
	}, err
}

// maxArrivals is how many passes may find plaintext that came after the one before.
const maxArrivals = 8

// run goes through the whole table, and then looks for what is still plain until nothing
// is: rows that had changed, or were locked, or came behind the cursor.
func (b *backfill) run(ctx context.Context) error {
	start := time.Now()
	defer func() { b.report.Took = time.Since(start) }()
	first, err := b.pass(ctx, pgmap.All)
	if err != nil {
		return err
	}
	missed, arrivals, patient := first.missed, 0, patient{}
	var last tally
	for {
		n, err := b.count(ctx)
		if err != nil {
			return err
		}
		if last = (tally{}); n == 0 {
			break
		}
		if last, err = b.pass(ctx, pgmap.Plain); err != nil {
			return err
		}
		if last.Values == 0 && last.Retried == 0 {
			break
		}
		if last.Values > missed*int64(len(b.table.Fields)) && b.report.Passes > 2 {
			if arrivals++; arrivals == maxArrivals {
				return fmt.Errorf("%w: plaintext keeps arriving, %d values during the last pass: a program still writes %s without a codec; change or stop it",
					keystore.ErrState, last.Values, b.table.Quoted)
			}
		}
		if last.Values > 0 {
			patient.progress()
		}
		missed = last.missed
		if (missed > 0 || last.Values == 0) && !patient.wait(ctx) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%w: %d rows of %s have been locked, or changed all the time, for %v: is there a transaction that stays open?",
				keystore.ErrUnavailable, missed, b.table.Quoted, patience)
		}
	}
	r := &b.report
	r.Withheld, r.Erased, r.Withdrawn = last.Withheld, last.Erased, last.Plain
	r.Bad, r.BadRows = first.Bad, max(first.BadRows, last.BadRows)
	named := tally{}
	named.name(last.Named...)
	for _, n := range first.Named {
		if n.bad {
			named.name(n)
		}
	}
	r.Named = named.Named
	return b.finish(ctx)
}

// count counts the rows that hold plaintext, by a look at it: the first pass has looked
// closely at every row, and so do verify and enforce.
func (b *backfill) count(ctx context.Context) (n int64, err error) {
	err = retry(ctx, func() error {
		return reading(ctx, b.c.DB, func(tx pgx.Tx) (err error) {
			n, err = b.table.Count(ctx, tx, pgmap.Obvious)
			return err
		})
	})
	return n, err
}

// finish notes what the run came to. The cursor starts anew: the next run reads all again.
func (b *backfill) finish(ctx context.Context) error {
	r := &b.report
	to := PhaseAdopted
	if r.Withheld+r.Erased+r.Withdrawn+r.BadRows > 0 {
		to = PhaseWidened
	}
	for b.phase != PhaseEnforced {
		was := b.phase
		err := retry(ctx, func() error { return SetPhase(ctx, b.c.DB, b.table.Map.Table, b.phase, to) })
		if err == nil {
			r.Phase = to
			return nil
		}
		if !errors.Is(err, ErrPhase) {
			return err
		}
		if lookErr := b.look(ctx); lookErr != nil {
			return lookErr
		}
		if b.phase == was {
			return err
		}
	}
	return nil
}

// look reads the record again, after somebody else changed its phase.
func (b *backfill) look(ctx context.Context) error {
	records, err := recordsAgain(ctx, b.c.DB)
	if err != nil {
		return err
	}
	r := records[b.table.Map.Table]
	if r == nil || r.Phase == PhaseNone || r.Phase == PhaseUndoing {
		return fmt.Errorf("%w: it is being undone", ErrPhase)
	}
	b.phase, b.report.Phase = r.Phase, r.Phase
	return nil
}

// pass goes through the rows of a filter: all of them from the durable cursor on, others
// from the first.
func (b *backfill) pass(ctx context.Context, only pgmap.Filter) (tally, error) {
	m := &mover{scan: scan{db: b.c.DB, table: b.table, only: only}, change: b.seal, pace: newPace()}
	m.guard = func(ctx context.Context, tx pgx.Tx) error {
		return CheckPhase(ctx, tx, b.table.Map.Table, PhaseWidened, PhaseAdopted, PhaseEnforced)
	}
	step := "look again"
	if only == pgmap.All {
		step = "seal"
		m.after, m.rows = b.cursor, b.done
		m.mark = func(ctx context.Context, tx pgx.Tx, last []string, rows int64) error {
			return SaveCursor(ctx, tx, b.table.Map.Table, b.phase, last, rows)
		}
	}
	b.report.Passes++
	b.meter.start(b.table, step, m.rows)
	from := m.rows
	tell := func(force bool) {
		b.meter.at(m.rows, b.report.Sealed+m.count.Values, b.report.Retried+m.count.Retried, force)
	}
	m.moved = func() { tell(false) }
	err := m.pass(ctx)
	for errors.Is(err, ErrPhase) {
		was := b.phase
		if lookErr := b.look(ctx); lookErr != nil {
			err = lookErr
		}
		if b.phase == was {
			break
		}
		err = m.pass(ctx) // another run came to its end, and this one goes on
	}
	tell(true)
	if only == pgmap.All {
		b.report.Rows = m.rows - from
	}
	b.report.Sealed += m.count.Values
	b.report.Retried += m.count.Retried
	b.report.Writes += m.count.writes
	return m.count, err
}

// seal seals the plaintext of a page.
func (b *backfill) seal(ctx context.Context, rows []pgmap.Row) (page, error) {
	found, err := b.codec.Adopt(ctx, cellsOf(rows))
	if err != nil {
		return page{}, keysAway{err}
	}
	p := page{rows: make([]pgmap.Row, 0, len(rows)), edits: make([]edit, 0, len(rows))}
	for i := range rows {
		values := 0
		for _, f := range found[i] {
			if f.Adopted {
				values++
			}
		}
		if values > 0 {
			p.rows, p.edits = append(p.rows, rows[i]), append(p.edits, edit{at: i, values: values})
		}
		if values < len(found[i]) {
			p.count.left(b.table, &rows[i], found[i])
		}
	}
	return p, nil
}
