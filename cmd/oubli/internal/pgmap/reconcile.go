package pgmap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// ReconcileConfig says what to reconcile.
type ReconcileConfig struct {
	DB     *pgxpool.Pool
	Keys   *keystore.Store
	Tables []*Table

	// Adopting tells which tables may still hold plaintext, where an empty text is a
	// value. Default: none.
	Adopting func(*Table) bool

	// Plaintext also blanks plaintext of people who are erased. Nothing in such a value
	// proves that the keystore is the right one, as the key id of an envelope does. So
	// it is done after everything else, and not at all where a value named a subject or
	// a key that the keystore does not know.
	Plaintext bool

	DryRun    bool          // change nothing, and report what would be done
	MaxAlarms int           // how many alarms are named. Default: 100
	Patience  time.Duration // how long a row is tried that others keep locked. Default: 30 s

	Progress func(ReconcileProgress) // called after each page. Default: none
}

// ReconcileProgress is how far a call of Reconcile came.
type ReconcileProgress struct {
	Table string // logical name
	Rows  int64  // of the table so far
	Of    int64  // as the planner estimates, -1: it does not know
}

// ReconcileReport is what stood in the tables, and what was done about it.
type ReconcileReport struct {
	DryRun bool             `json:"dry_run"`
	Tables []ReconcileTable `json:"tables"` // those that were begun
	Alarms []Alarm          `json:"alarms"` // the first; the tables count all

	// PlaintextLeft: plaintext of erased people was to be blanked, and was not, since
	// values name subjects or keys that the keystore does not know.
	PlaintextLeft bool `json:"plaintext_left"`
}

// ReconcileTable counts the values of one table, but for rows.
type ReconcileTable struct {
	Table            string `json:"table"` // logical name
	Rows             int64  `json:"rows"`
	Open             int64  `json:"open"`              // opens for its subject
	Withheld         int64  `json:"withheld"`          // of somebody restricted, or being erased
	Blank            int64  `json:"blank"`             // was blank
	Blanked          int64  `json:"blanked"`           // its key is destroyed: blanked (again), or would be
	Plaintext        int64  `json:"plaintext"`         // was never sealed
	PlaintextErased  int64  `json:"plaintext_erased"`  // of these: of people, or purposes, that are erased
	PlaintextBlanked int64  `json:"plaintext_blanked"` // of these: blanked, or would be
	Alarms           int64  `json:"alarms"`            // none of this: see Alarm
}

// Alarm is a value that is neither readable nor erased: it names a subject or a key that
// the keystore does not know, was altered, or is a blank of somebody who is not erased.
// Nothing is done about it.
type Alarm struct {
	Table   string   `json:"table"`            // logical name
	Key     []string `json:"key"`              // of the row
	Subject string   `json:"subject"`          // empty if the row names nobody
	Field   string   `json:"field"`            // logical name
	KeyID   string   `json:"key_id,omitempty"` // of the envelope
	Cause   string   `json:"cause"`
	Err     error    `json:"-"` // wraps a sentinel of package keystore, or fieldcrypt.ErrVersion
}

// AlarmCount counts the alarms of all tables.
func (r *ReconcileReport) AlarmCount() int64 {
	var n int64
	for _, t := range r.Tables {
		n += t.Alarms
	}
	return n
}

// Reconcile goes through all rows of the tables, after the database came back from a
// backup that is older than some erasures. Values whose key is destroyed are blanked
// again; a value is blanked only if the keystore has the tombstone of that very key, so
// that neither a wrong keystore nor one that does not answer blanks anything. What
// belongs to somebody else who has the id now is left alone, and so is what is to be kept.
//
// Rows are read without locks, a few at a time, and saved only if nobody changed them
// meanwhile, each page by itself. A call that fails, as with [keystore.ErrUnavailable],
// may have done some of them: rightly, and the next call does the rest. The report is
// never nil, and says how far it came.
func Reconcile(ctx context.Context, cfg ReconcileConfig) (*ReconcileReport, error) {
	if cfg.MaxAlarms <= 0 {
		cfg.MaxAlarms = 100
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 30 * time.Second
	}
	report := &ReconcileReport{DryRun: cfg.DryRun, Tables: []ReconcileTable{}, Alarms: []Alarm{}}
	tables, err := codecsOf(cfg.Keys, cfg.Tables, cfg.Adopting)
	if err != nil {
		return report, err
	}
	r := &reconciler{cfg: cfg, report: report}
	for _, t := range tables {
		report.Tables = append(report.Tables, ReconcileTable{Table: t.Map.Table})
		if err := r.walk(ctx, t, len(report.Tables)-1, false); err != nil {
			return report, err
		}
	}
	if !cfg.Plaintext {
		return report, nil
	}
	for i, t := range tables {
		switch {
		case report.Tables[i].PlaintextErased == 0:
		case r.unknown:
			report.PlaintextLeft = true
		default:
			if err := r.walk(ctx, t, i, true); err != nil {
				return report, err
			}
		}
	}
	return report, nil
}

type reconciler struct {
	cfg     ReconcileConfig
	report  *ReconcileReport
	unknown bool // a value names a subject or a key that the keystore does not know
}

// walk goes through the rows of a table. With plaintext it is the second time: for the
// plaintext of erased people, and counts nothing else.
func (r *reconciler) walk(ctx context.Context, t codecTable, at int, plaintext bool) error {
	sum := &r.report.Tables[at]
	size := firstPage()
	o := PageOptions{}
	for {
		o.Limit = size.rows
		rows, err := t.Page(ctx, r.cfg.DB, o)
		if err != nil || len(rows) == 0 {
			return err
		}
		o.After = rows[len(rows)-1].Key
		size.next(len(rows), bytesOf(rows))
		err = r.page(ctx, t, rows, plaintext, func(row Row, before []fieldcrypt.Found, changed []bool) {
			if plaintext {
				sum.addPlaintext(before, changed)
				return
			}
			sum.add(before, changed)
			r.alarms(t, row, before)
		})
		if err != nil {
			return fmt.Errorf("reconcile table %q: %w", t.Map.Table, err)
		}
		if r.cfg.Progress != nil && !plaintext {
			r.cfg.Progress(ReconcileProgress{Table: t.Map.Table, Rows: sum.Rows, Of: t.Rows})
		}
	}
}

// page reconciles some rows, and calls count for each once it is as it should be. Those
// that others changed, or have locked, are read again and done again.
func (r *reconciler) page(ctx context.Context, t codecTable, rows []Row, plaintext bool, count func(Row, []fieldcrypt.Found, []bool)) error {
	started, pause := time.Now(), 5*time.Millisecond
	for {
		var err error
		if rows, err = r.attempt(ctx, t, rows, plaintext, count); err != nil || len(rows) == 0 {
			return err
		}
		if time.Since(started) > r.cfg.Patience {
			return fmt.Errorf("%w: row (%s) of %s, and %d more, could not be saved for %v: a transaction keeps them locked, or a trigger, rule or policy does not let the change through; what was done stays done, try again",
				keystore.ErrUnavailable, strings.Join(rows[0].Key, ", "), t.Quoted, len(rows)-1, r.cfg.Patience)
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		case <-ctx.Done():
			return ctx.Err()
		}
		keys := make([][]string, len(rows))
		for i, row := range rows {
			keys[i] = row.Key
		}
		if rows, err = t.Again(ctx, r.cfg.DB, keys); err != nil {
			return err
		}
	}
}

// attempt reconciles rows once and returns those that it could not save.
func (r *reconciler) attempt(ctx context.Context, t codecTable, rows []Row, plaintext bool, count func(Row, []fieldcrypt.Found, []bool)) (missed []Row, err error) {
	stood := make([][]fieldcrypt.Cell, len(rows))
	for i, row := range rows {
		stood[i] = slices.Clone(row.Cells)
	}
	before, err := t.codec.Reconcile(ctx, cellsOf(rows), true)
	if err != nil {
		return nil, err
	}
	changed := make([][]bool, len(rows))
	var save []Row
	for i, row := range rows {
		changed[i] = make([]bool, len(t.Fields))
		saves := false
		for n := range t.Fields {
			old, now := stood[i][t.FieldAt()+n], &row.Cells[t.FieldAt()+n]
			changed[i][n] = old.Null != now.Null || old.Text != now.Text
			if before[i][n].Content == fieldcrypt.ContentPlain && !plaintext {
				*now = old // only counted
			} else if changed[i][n] {
				saves = true
			}
		}
		if saves {
			save = append(save, row)
		}
	}
	if !r.cfg.DryRun {
		if missed, err = t.saveBlanks(ctx, r.cfg.DB, save, SaveOptions{SkipLocked: true}); lost(err) {
			missed, err = save, nil
		}
	}
	if err != nil {
		return nil, err
	}
	left := missed
	for i, row := range rows {
		if len(left) > 0 && slices.Equal(left[0].Key, row.Key) {
			left = left[1:] // in the order of rows
			continue
		}
		count(row, before[i], changed[i])
	}
	return missed, nil
}

// add counts the values of a row.
func (c *ReconcileTable) add(before []fieldcrypt.Found, changed []bool) {
	c.Rows++
	for n, f := range before {
		switch f.Content {
		case fieldcrypt.ContentSealed:
			c.Open++
		case fieldcrypt.ContentWithheld:
			c.Withheld++
		case fieldcrypt.ContentBlank:
			c.Blank++
		case fieldcrypt.ContentErased:
			if changed[n] {
				c.Blanked++
			}
		case fieldcrypt.ContentPlain:
			c.Plaintext++
			if changed[n] {
				c.PlaintextErased++
			}
		case fieldcrypt.ContentBad:
			c.Alarms++
		}
	}
}

// addPlaintext counts what a second walk did to a row. An erasure may have ended
// since the first.
func (c *ReconcileTable) addPlaintext(before []fieldcrypt.Found, changed []bool) {
	for n, f := range before {
		switch {
		case !changed[n]:
		case f.Content == fieldcrypt.ContentPlain:
			c.PlaintextBlanked++
		default:
			c.Blanked++
		}
	}
}

// alarms takes note of the values of a row that are not as they should be.
func (r *reconciler) alarms(t codecTable, row Row, before []fieldcrypt.Found) {
	for n, f := range before {
		if f.Content != fieldcrypt.ContentBad {
			continue
		}
		if errors.Is(f.Err, keystore.ErrUnknownSubject) || errors.Is(f.Err, keystore.ErrUnknownKey) {
			r.unknown = true
		}
		if len(r.report.Alarms) >= r.cfg.MaxAlarms {
			continue
		}
		a := Alarm{Table: t.Map.Table, Key: row.Key, Field: t.Fields[n].Logical, Err: f.Err, Cause: f.Err.Error()}
		if f.KeyID != 0 {
			a.KeyID = fmt.Sprintf("%08x", f.KeyID)
		}
		var of *fieldcrypt.RowError
		if errors.As(f.Err, &of) {
			if a.Cause = of.Err.Error(); !of.Subject.IsZero() {
				a.Subject = of.Subject.String()
			}
		}
		r.report.Alarms = append(r.report.Alarms, a)
	}
}

// pageSize keeps pages to some megabytes, however long the values are.
type pageSize struct{ rows int }

func firstPage() pageSize { return pageSize{20} }

// next learns from a page of some rows and bytes how many rows the following should have.
func (p *pageSize) next(rows, bytes int) {
	const aim, most = 4 << 20, 1000
	p.rows = max(1, min(2*p.rows, most, rows*aim/(bytes+1)+1))
}

// bytesOf is how long the values of rows are.
func bytesOf(rows []Row) (n int) {
	for _, r := range rows {
		for _, c := range r.Cells {
			n += len(c.Text)
		}
	}
	return n
}
