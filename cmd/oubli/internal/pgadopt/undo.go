package pgadopt

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

// UndoReport is what Undo did.
type UndoReport struct {
	Tables []TableUndo `json:"tables"`
}

// TableUndo is what Undo did with a table.
type TableUndo struct {
	Table    string        `json:"table"`
	Phase    Phase         `json:"phase"`    // where the table is now
	Opened   int64         `json:"opened"`   // values, those of erased people included
	Retried  int64         `json:"retried"`  // rows that had changed or were locked
	Withheld int64         `json:"withheld"` // values of people who are restricted or being erased
	Bad      int64         `json:"bad"`      // rows with a value that does not authenticate
	Unfit    int64         `json:"unfit"`    // values that the column does not take as it was
	Named    []Named       `json:"named,omitempty"`
	Took     time.Duration `json:"took"`

	names tally
}

// Err says what keeps the adoption from being undone, or nil.
func (r *TableUndo) Err() error {
	c := complaints{about: fmt.Sprintf("table %q", r.Table)}
	c.say(r.Withheld, keystore.ErrState, "values are withheld, of people who are restricted or being erased")
	c.say(r.Bad, keystore.ErrTampered, "rows have a value that does not open")
	c.say(r.Unfit, keystore.ErrInvalid, "values cannot be put back")
	return c.err()
}

// Undo brings tables back from any phase: what is sealed is opened, what is blank or
// erased becomes its replacement or NULL, of a year in a date its first of January, and
// the columns are what they were. Applications may work meanwhile, through codecs that
// take plaintext too (fieldcrypt.Options.Adopting). Only the last step locks a table: it
// opens what was sealed while the rest was opened, and puts the definitions back.
//
// First all tables are read: if something cannot be put back, nothing is changed, and the
// report names it. Values are withheld unless ctx names the purpose that they are kept
// for, see keystore.WithPurpose. An Undo that was interrupted is resumed by another.
func Undo(ctx context.Context, c Config) (UndoReport, error) {
	var report UndoReport
	records, err := recordsAgain(ctx, c.DB)
	if err != nil {
		return report, err
	}
	var all []*undo
	var done []TableUndo
	var errs []error
	for _, t := range c.Tables {
		r := records[t.Map.Table]
		if r == nil || r.Phase == PhaseNone {
			errs = append(errs, fmt.Errorf("%w: table %q was not adopted", keystore.ErrState, t.Map.Table))
			continue
		}
		if r.Relation != t.Quoted {
			errs = append(errs, fmt.Errorf("%w: table %q was adopted as %s, and the data map means %s", keystore.ErrState, t.Map.Table, r.Relation, t.Quoted))
			continue
		}
		if r.stale(t) { // somebody else has undone it
			if err := forget(ctx, c.DB, t); err != nil {
				return report, err
			}
			done = append(done, TableUndo{Table: t.Map.Table})
			continue
		}
		if err := r.bound(ctx, c, t); err != nil {
			errs = append(errs, err)
			continue
		}
		o, err := newOpener(c, t, r)
		if err != nil {
			return report, err
		}
		all = append(all, &undo{opener: o, config: c, record: r, report: TableUndo{Table: t.Map.Table, Phase: r.Phase}})
	}
	if errs != nil {
		return report, errors.Join(errs...)
	}
	tell := func() UndoReport {
		report.Tables = slices.Clone(done)
		for _, u := range all {
			u.report.Named = u.report.names.Named
			report.Tables = append(report.Tables, u.report)
		}
		return report
	}
	for _, u := range all {
		check := undoCheck{opener: u.opener, report: &u.report, seed: maphash.MakeSeed()}
		if err := check.run(ctx, c.Progress); err != nil {
			return tell(), fmt.Errorf("table %q: %w", u.report.Table, err)
		}
		errs = append(errs, u.report.Err())
	}
	if err := errors.Join(errs...); err != nil {
		return tell(), fmt.Errorf("%w\n(nothing was changed)", err)
	}
	for _, u := range all {
		if err := u.run(ctx); err != nil {
			return tell(), fmt.Errorf("table %q: %w%s (undo it again to go on)", u.report.Table, err, unkept(err))
		}
	}
	return tell(), nil
}

// unkept says what to do where a check or an index does not take what is open again. It
// is found late: checks, and indexes over more than personal columns, are the database's
// to judge.
func unkept(err error) string {
	var pg *pgmap.Error
	if !errors.As(err, &pg) || pg.Code() != "23505" && pg.Code() != "23514" && pg.Code() != "23502" {
		return ""
	}
	return ": replacements of erased people, or values that came since the adoption began, do not keep it; correct these rows, or drop it"
}

// undo undoes the adoption of one table.
type undo struct {
	*opener
	config Config
	record *Record
	report TableUndo
	meter  meter
}

const (
	// few is how many values are left to the step that locks the table.
	few = 500
	// maxPasses is how often the table is gone through before, at most.
	maxPasses = 5
)

func (u *undo) run(ctx context.Context) error {
	start := time.Now()
	defer func() { u.report.Took = time.Since(start) }()
	if err := Reopen(ctx, u.db, u.table); err != nil {
		return err
	}
	u.meter.tell = u.config.Progress
	cursor, done := u.record.Cursor, u.record.Done
	if u.record.Phase != PhaseUndoing {
		cursor, done = nil, 0
	}
	u.report.Phase = PhaseUndoing
	for n := range maxPasses {
		found, err := u.pass(ctx, cursor, done, n == 0)
		if err != nil {
			return err
		}
		if u.report.Withheld, u.report.Bad = found.Withheld, found.Bad; found.Withheld+found.Bad > 0 {
			u.report.names.name(found.Named...)
			return u.report.Err()
		}
		if cursor == nil && found.Values <= few {
			break
		}
		cursor, done = nil, 0
	}
	err := RetryDDL(ctx, u.db, u.table, "undo the adoption of", u.last)
	if err == nil {
		u.report.Phase = PhaseNone
	}
	return err
}

// pass opens what is sealed after the cursor; with mark, it notes how far it came.
func (u *undo) pass(ctx context.Context, cursor []string, done int64, mark bool) (tally, error) {
	m := &mover{scan: scan{db: u.db, table: u.table, only: pgmap.Sealed, after: cursor}, rows: done, change: u.open, still: u.still, pace: newPace()}
	m.guard = func(ctx context.Context, tx pgx.Tx) error {
		return CheckPhase(ctx, tx, u.table.Map.Table, PhaseUndoing)
	}
	if mark {
		m.mark = func(ctx context.Context, tx pgx.Tx, last []string, rows int64) error {
			return SaveCursor(ctx, tx, u.table.Map.Table, PhaseUndoing, last, rows)
		}
	}
	u.meter.start(u.table, "open", done)
	tell := func(force bool) {
		u.meter.at(m.rows, u.report.Opened+m.count.Values, u.report.Retried+m.count.Retried, force)
	}
	m.moved = func() { tell(false) }
	err := m.pass(ctx)
	tell(true)
	u.report.Opened += m.count.Values
	u.report.Retried += m.count.Retried
	return m.count, err
}

// last is the step that locks the table.
func (u *undo) last(ctx context.Context, tx pgx.Tx) error {
	if err := Lock(ctx, tx, u.table); err != nil {
		return err
	}
	var opened int64
	var after []string
	for {
		rows, err := u.table.Page(ctx, tx, pgmap.PageOptions{After: after, Limit: maxRows, Only: pgmap.Sealed})
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		after = rows[len(rows)-1].Key
		p, err := u.open(ctx, rows)
		if err != nil {
			return err
		}
		if p.count.Withheld+p.count.Bad > 0 {
			r := TableUndo{Table: u.report.Table, Withheld: p.count.Withheld, Bad: p.count.Bad}
			u.report.names.name(p.count.Named...)
			return r.Err()
		}
		missed, err := u.table.Save(ctx, tx, p.rows, pgmap.SaveOptions{})
		if err != nil {
			return err
		}
		if len(missed) > 0 {
			return fmt.Errorf("%w: %d rows of %s were not written: does a trigger or a policy keep us from it?", keystore.ErrState, len(missed), u.table.Quoted)
		}
		for _, e := range p.edits {
			opened += int64(e.values)
		}
	}
	if err := u.checkLengths(ctx, tx); err != nil {
		return err
	}
	// A table with triggers that wait for the commit takes no other types.
	if _, err := tx.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
		return pgmap.Fail("look at the constraints", err)
	}
	if err := Restore(ctx, tx, u.table); err != nil {
		return err
	}
	u.report.Opened += opened
	return nil
}

// checkLengths refuses values that came since the check and that the type of a column
// would cut.
func (u *undo) checkLengths(ctx context.Context, tx pgx.Tx) error {
	for i, t := range u.types {
		if t.chars == 0 {
			continue
		}
		f := u.table.Fields[i]
		var n int64
		err := tx.QueryRow(ctx, fmt.Sprintf("SELECT pg_catalog.count(*) FROM %s WHERE pg_catalog.char_length(pg_catalog.rtrim(%s::pg_catalog.text)) > %d",
			u.table.Quoted, f.Quoted, t.chars)).Scan(&n)
		if err != nil {
			return pgmap.Fail("measure column "+f.Logical, err)
		}
		if n > 0 {
			return fmt.Errorf("%w: %d values of column %s are longer than %s: shorten them", keystore.ErrInvalid, n, f.Logical, t.sql)
		}
	}
	return nil
}
