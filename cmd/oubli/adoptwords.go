package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
)

// everyLine is how often a work of hours says how far it is, where there is no terminal.
const everyLine = 30 * time.Second

// adoptProgress returns what shows how far a work on tables has come: a bar on a terminal,
// else a line now and then. end ends the show.
func (a *app) adoptProgress() (show func(pgadopt.Progress), end func()) {
	if !a.shows {
		next := time.Now().Add(everyLine)
		return func(p pgadopt.Progress) {
			if now := time.Now(); now.After(next) {
				next = now.Add(everyLine)
				a.say("%s", progressLine(p))
			}
		}, func() {}
	}
	var bar *progressbar.ProgressBar
	step, ended := "", func() {}
	return func(p pgadopt.Progress) {
		if what := p.Table + ": " + p.Step; what != step {
			ended()
			total := p.Total
			if total == 0 {
				total = -1
			}
			bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(a.err), progressbar.OptionSetDescription(what),
				progressbar.OptionShowIts(), progressbar.OptionSetItsString("rows"), progressbar.OptionShowCount(),
				progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(true))
			step, ended = what, a.show(bar)
		}
		if p.Total > 0 && p.Rows >= p.Total { // the total is an estimate; a bar that is full is gone
			bar.ChangeMax64(p.Rows + 1)
		}
		bar.Set64(p.Rows)
	}, func() { ended() }
}

func progressLine(p pgadopt.Progress) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %d", p.Table, p.Step, p.Rows)
	if p.Total > 0 {
		fmt.Fprintf(&b, " of about %d", max(p.Total, p.Rows))
	}
	fmt.Fprintf(&b, " rows, %.0f rows/s", p.Rate)
	if p.Left > 0 {
		fmt.Fprintf(&b, ", about %v left", p.Left.Round(time.Second))
	}
	return b.String()
}

// tally writes counts, but for those that are zero.
func tally(counts ...any) string {
	var parts []string
	for i := 0; i < len(counts); i += 2 {
		if n := counts[i].(int64); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, counts[i+1]))
		}
	}
	return strings.Join(parts, ", ")
}

// sayRun says what a run did.
func (a *app) sayRun(r pgadopt.RunReport) {
	for _, t := range r.Tables {
		line := fmt.Sprintf("%s: %s", t.Table, t.Phase)
		if t.Phase != pgadopt.PhaseEnforced {
			line += fmt.Sprintf("; %s read, %s sealed in %v", count(t.Rows, "row", "rows"), count(t.Sealed, "value", "values"), t.Took.Round(time.Millisecond))
			if t.Retried > 0 {
				line += fmt.Sprintf("; %s changed meanwhile and done again", count(t.Retried, "row", "rows"))
			}
		}
		a.say("%s", line)
		a.sayNamed(t.Table, t.Named)
	}
}

// sayUndone says what an undo did.
func (a *app) sayUndone(r pgadopt.UndoReport) {
	for _, t := range r.Tables {
		if t.Phase == pgadopt.PhaseNone {
			a.say("%s: as before; %s opened in %v", t.Table, count(t.Opened, "value", "values"), t.Took.Round(time.Millisecond))
		} else {
			a.say("%s: still %s", t.Table, t.Phase)
		}
		a.sayNamed(t.Table, t.Named)
	}
}

// sayNamed names values that somebody has to look at.
func (a *app) sayNamed(table string, list []pgadopt.Named) {
	for _, n := range list {
		a.warn("%s: %s", table, n)
	}
}

// verified writes what stands in the columns.
func (p *printer) verified(r pgadopt.VerifyReport) {
	for _, t := range r.Tables {
		p.line("%s: %s", t.Table, count(t.Rows, "row", "rows"))
		for _, c := range t.Columns {
			what := tally(c.Sealed, "sealed", c.Null, "NULL", c.Withheld, "withheld", c.Erased, "erased", c.Blank, "blank", c.Plain, "PLAINTEXT", c.Bad, "NOT AUTHENTIC")
			if what == "" {
				what = "empty"
			}
			p.line("  %s: %s", c.Column, what)
		}
	}
}
