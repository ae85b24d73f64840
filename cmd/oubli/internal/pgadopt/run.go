package pgadopt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

// Config is what Run, Verify and Undo work on.
type Config struct {
	DB     *pgxpool.Pool // of the application; up to two connections are used at a time
	Keys   *keystore.Store
	Tables []*pgmap.Table
	// Progress is told now and then how far the work has come, by one goroutine at a
	// time. It may be nil.
	Progress func(Progress)
}

// Progress is how far the work on a table has come.
type Progress struct {
	Table   string        // logical name
	Step    string        // what is being done: seal, look again, verify, check, open
	Rows    int64         // done in this step, earlier runs of it included
	Total   int64         // rows there are, as the planner estimates; 0: it does not know
	Values  int64         // sealed, verified or opened by this run
	Retried int64         // rows that had changed or were locked
	Rate    float64       // rows a second
	Left    time.Duration // until the step is done, as it goes now; 0: no telling
}

// RunReport is what Run did.
type RunReport struct {
	Tables []TableRun `json:"tables"`
}

// TableRun is what Run did with a table.
type TableRun struct {
	Table     string        `json:"table"`
	Phase     Phase         `json:"phase"`  // where the table is now
	Rows      int64         `json:"rows"`   // read, those that earlier runs had done not
	Sealed    int64         `json:"sealed"` // values
	Retried   int64         `json:"retried"`
	Passes    int           `json:"passes"`
	Writes    int64         `json:"writes"`    // transactions
	Withheld  int64         `json:"withheld"`  // plaintext of people who are restricted or being erased
	Erased    int64         `json:"erased"`    // plaintext of people who are erased
	Withdrawn int64         `json:"withdrawn"` // plaintext under a purpose that was withdrawn
	Bad       int64         `json:"bad"`       // values that look sealed and do not authenticate
	BadRows   int64         `json:"bad_rows"`  // rows with a value, and without a valid person or key
	Named     []Named       `json:"named,omitempty"`
	Took      time.Duration `json:"took"`
}

// Err says what keeps the table from being adopted, or nil.
func (r *TableRun) Err() error {
	c := complaints{about: fmt.Sprintf("table %q", r.Table)}
	c.say(r.Withheld, keystore.ErrState, "values stay plaintext because the person is restricted or being erased")
	c.say(r.Erased, keystore.ErrErased, "values stay plaintext because the person is erased")
	c.say(r.Withdrawn, keystore.ErrWithdrawn, "values stay plaintext because their purpose was withdrawn")
	c.say(r.Bad, keystore.ErrTampered, "values look sealed and do not authenticate")
	c.say(r.BadRows, keystore.ErrInvalid, "rows have values and no valid id of a person or row")
	return c.err()
}

// Run seals the plaintext of the tables, which must be widened, while applications work on
// them. It reads a page, seals it, and writes those rows that are still what was read, in
// transactions of some milliseconds; a cursor that commits with them lets the next Run go
// on where this one ended, however it ended. Then it looks for plaintext until there is
// none. Several may run at once.
//
// Plaintext that nobody may seal, and values that look sealed and are not, are left alone
// and reported, and the error says so; so does it when a program goes on writing
// plaintext. ctx may name a purpose, see keystore.WithPurpose, for people who are
// restricted. A connection that is cut, a deadlock and a lock are survived for a minute; a
// keystore that is away ends the run with keystore.ErrUnavailable.
func Run(ctx context.Context, c Config) (RunReport, error) {
	var report RunReport
	records, err := recordsAgain(ctx, c.DB)
	if err != nil {
		return report, err
	}
	var errs []error
	for _, t := range c.Tables {
		r := records[t.Map.Table]
		switch {
		case r == nil, r.Phase == PhaseNone:
			errs = append(errs, fmt.Errorf("%w: table %q is not widened yet", keystore.ErrState, t.Map.Table))
		case r.Phase == PhaseUndoing:
			errs = append(errs, fmt.Errorf("%w: the adoption of table %q is being undone", keystore.ErrState, t.Map.Table))
		case r.Relation != t.Quoted:
			errs = append(errs, fmt.Errorf("%w: table %q was widened as %s, and the data map means %s", keystore.ErrState, t.Map.Table, r.Relation, t.Quoted))
		}
	}
	if errs != nil {
		return report, errors.Join(errs...)
	}
	for _, t := range c.Tables {
		r := records[t.Map.Table]
		if r.Phase == PhaseEnforced && enforced(t) {
			report.Tables = append(report.Tables, TableRun{Table: t.Map.Table, Phase: r.Phase})
			continue
		}
		if err := firstLook(ctx, c, t, r); err != nil {
			return report, err
		}
		if err := bind(ctx, c, t); err != nil {
			return report, err
		}
		b, err := newBackfill(c, t, r)
		if err != nil {
			return report, err
		}
		err = b.run(ctx)
		report.Tables = append(report.Tables, b.report)
		if err != nil {
			return report, errors.Join(append(errs, fmt.Errorf("table %q: %w (run it again to go on)", t.Map.Table, err))...)
		}
		errs = append(errs, b.report.Err())
	}
	return report, errors.Join(errs...)
}

// meter tells a Progress function now and then.
type meter struct {
	tell  func(Progress)
	last  Progress
	begin time.Time
	from  int64 // rows at begin
	next  time.Time
}

const every = 250 * time.Millisecond

// start begins a step at so many rows.
func (m *meter) start(table *pgmap.Table, step string, rows int64) {
	m.last = Progress{Table: table.Map.Table, Step: step, Rows: rows, Total: max(0, table.Rows)}
	m.begin, m.from = time.Now(), rows
	m.next = m.begin.Add(every)
}

func (m *meter) at(rows, values, retried int64, force bool) {
	now := time.Now()
	if m.tell == nil || !force && now.Before(m.next) {
		return
	}
	m.next = now.Add(every)
	p := &m.last
	p.Rows, p.Values, p.Retried, p.Left = rows, values, retried, 0
	if spent := now.Sub(m.begin).Seconds(); spent > 0 {
		p.Rate = float64(rows-m.from) / spent
	}
	if p.Rate > 0 && p.Total > rows {
		p.Left = time.Duration(float64(p.Total-rows) / p.Rate * float64(time.Second))
	}
	m.tell(*p)
}
