package pgadopt

import (
	"fmt"
	"io"
	"time"
)

// Report says what Enforce did, and what it could not do.
type Report struct {
	Tables []EnforcedTable `json:"tables"`
	// Done are the steps that took plaintext out of what the database keeps besides.
	Done []string `json:"done"`
	// Left are those that could not be done: plaintext may be left in the data directory.
	Left []Advice `json:"left"`
	// Elsewhere is where plaintext may be that no statement reaches: WAL, backups, logs.
	Elsewhere []Advice `json:"elsewhere"`
	// At and LSN: files and WAL from before may hold plaintext. Zero while Left is not
	// empty; LSN also where another server enforced, and this one was restored from a dump.
	At  time.Time `json:"at,omitzero"`
	LSN string    `json:"lsn,omitempty"`
}

// EnforcedTable is what Enforce did with a table.
type EnforcedTable struct {
	Table    string        `json:"table"`    // logical name
	Relation string        `json:"relation"` // schema and name, quoted
	Locked   time.Duration `json:"locked"`   // how long nobody else could read or write it
	Already  bool          `json:"already"`  // it was enforced before
}

// Advice is something that somebody should see to.
type Advice struct {
	What string `json:"what"`
	Do   string `json:"do"`
}

// Clean tells whether all that Enforce sees to was done.
func (r *Report) Clean() bool { return len(r.Left) == 0 }

// Write writes the report for people.
func (r *Report) Write(w io.Writer) error {
	p := &printer{w: w}
	for _, t := range r.Tables {
		if t.Already {
			p.printf("%s: enforced already\n", t.Table)
			continue
		}
		p.printf("%s: enforced and rewritten; locked for %v\n", t.Table, t.Locked.Round(time.Millisecond))
	}
	for _, d := range r.Done {
		p.printf("done: %s\n", d)
	}
	advise := func(title string, list []Advice) {
		if len(list) > 0 {
			p.printf("\n%s\n", title)
		}
		for _, a := range list {
			p.printf("  - %s\n    %s\n", a.What, a.Do)
		}
	}
	advise("NOT DONE: plaintext may be left in the data directory", r.Left)
	advise("Where plaintext from before may still be:", r.Elsewhere)
	if r.Clean() {
		from := r.At.UTC().Format(time.RFC3339)
		if r.LSN != "" {
			from += " and WAL position " + r.LSN
		}
		p.printf("\nFrom %s on, the data directory holds no plaintext of these columns outside of its WAL and what is listed above.\n", from)
	}
	return p.err
}

// printer keeps the first error of many writes.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
