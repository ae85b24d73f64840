package pgadopt

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"
)

// width is how wide a plan is written.
const width = 100

// Write writes the plan for people.
func (p *Plan) Write(w io.Writer) error {
	out := &planWriter{w: bufio.NewWriter(w)}
	for _, t := range p.Tables {
		out.table(t)
		out.findings(p.about(t.Table))
	}
	if found := p.about(""); len(found) > 0 {
		out.heading("The database as a whole")
		out.findings(found)
	}
	if found := p.level(Unmapped); len(found) > 0 {
		out.heading("Looks personal, and is not in the map")
		for _, f := range found {
			out.item(f)
		}
	}
	out.heading("Summary")
	if n := len(p.Blocked()); n > 0 {
		out.text("  ", fmt.Sprintf("%s in the way of the adoption, above under \"blocks\", with what to do. Nothing was changed.", standing(n)))
	} else {
		out.text("  ", "Nothing stands in the way of the adoption. Nothing was changed.")
	}
	out.text("  ", fmt.Sprintf("Times are rough: those of rewrites are %d times what reading the table took now, or 40 MB/s of table and indexes if that is longer; those of run are %d rows a second. Rewrites need room for a second copy of the table and its indexes, and as much WAL: PostgreSQL does not say how much is free.", rewriteFactor, backfillRate))
	return out.w.Flush()
}

// about returns what is known of a table, or of the database as a whole, without what is
// not mapped.
func (p *Plan) about(table string) (found []Finding) {
	for _, f := range p.Findings {
		if f.Table == table && f.Level != Unmapped {
			found = append(found, f)
		}
	}
	return found
}

type planWriter struct {
	w      *bufio.Writer
	headed bool
}

func (o *planWriter) heading(text string) {
	if o.headed {
		fmt.Fprintln(o.w)
	}
	o.headed = true
	fmt.Fprintf(o.w, "%s\n%s\n", text, strings.Repeat("-", min(utf8.RuneCountInString(text), width)))
}

func (o *planWriter) table(t TablePlan) {
	o.heading(fmt.Sprintf("%s: %s", t.Table, t.Relation))
	rows := fmt.Sprintf("%d rows", t.Rows)
	switch {
	case t.Rows == 1:
		rows = "1 row"
	case t.Rows < 0:
		rows = "an unknown number of rows"
	}
	o.text("  ", fmt.Sprintf("%s; %s, %s and %s of indexes; rows belong to subjects of kind %s", phaseText(t.Phase), rows, size(t.Bytes), size(t.IndexBytes), t.Kind))
	fmt.Fprintln(o.w)
	columns := tabwriter.NewWriter(o.w, 0, 0, 2, ' ', 0)
	for _, c := range t.Columns {
		becomes := c.To
		switch {
		case c.From == c.To:
			becomes = "stays " + c.To
		case c.Rewrite:
			becomes += ", rewriting the table"
		}
		if c.Name != c.Column {
			becomes += ", called " + c.Name
		}
		fmt.Fprintf(columns, "  %s\t%s\t%s\n", c.Column, c.From, becomes)
	}
	columns.Flush()
	fmt.Fprintln(o.w)
	o.text("  ", "A value of n bytes becomes 51 + 4n/3 characters of text, or n + 33 bytes of bytea; a column that had a limit has none until undo.")
	if times := t.Seconds.text(); times != "" {
		o.text("  ", times)
	}
	if t.Seconds.Enforce > 0 {
		o.text("  ", fmt.Sprintf("enforce needs about %s of free disk, and as much WAL", size(t.Sealed+t.IndexBytes)))
	}
}

func phaseText(p Phase) string {
	switch p {
	case PhaseNone:
		return "not adopted yet"
	case PhaseWidened:
		return "widened, and being sealed"
	case PhaseAdopted:
		return "sealed, and not enforced yet"
	case PhaseEnforced:
		return "enforced"
	case PhaseUndoing:
		return "being undone"
	}
	return string(p)
}

func (s Seconds) text() string {
	var parts []string
	add := func(what string, seconds float64) {
		if seconds > 0 {
			parts = append(parts, what+" "+duration(seconds))
		}
	}
	add("widening rewrites the table under an exclusive lock, about", s.Widen)
	add("run about", s.Backfill)
	add("enforce rewrites the table under an exclusive lock, about", s.Enforce)
	return strings.Join(parts, "; ")
}

func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Second:
		return "1 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.0f h", d.Hours())
}

func size(bytes int64) string {
	switch {
	case bytes < 10<<10:
		return fmt.Sprintf("%d bytes", bytes)
	case bytes < 10<<20:
		return fmt.Sprintf("%d kB", bytes>>10)
	case bytes < 10<<30:
		return fmt.Sprintf("%d MB", bytes>>20)
	}
	return fmt.Sprintf("%d GB", bytes>>30)
}

// findings writes what blocks, then what changes, then notes.
func (o *planWriter) findings(all []Finding) {
	for _, l := range []Level{Blocks, Changes, Note} {
		first := true
		for _, f := range all {
			if f.Level != l {
				continue
			}
			if first {
				fmt.Fprintf(o.w, "\n  %s\n", map[Level]string{Blocks: "blocks", Changes: "changes", Note: "to know"}[l])
			}
			first = false
			o.item(f)
		}
	}
}

func standing(n int) string {
	if n == 1 {
		return "1 finding stands"
	}
	return fmt.Sprintf("%d findings stand", n)
}

// item writes a finding below the heading of its table.
func (o *planWriter) item(f Finding) {
	column := f.Column
	if f.Level == Unmapped && f.Table != "" { // has a heading of its own
		column = f.Table + "." + column
	}
	var subject []string
	for _, part := range []string{column, f.Object} {
		if part != "" {
			subject = append(subject, part)
		}
	}
	text := f.What
	if subject != nil {
		text = strings.Join(subject, ", ") + ": " + text
	}
	o.text("  * ", text)
	o.text("    -> ", f.Do)
}

// text wraps a text behind an indent, whose further lines are as deep.
func (o *planWriter) text(indent, text string) {
	line, n := indent, utf8.RuneCountInString(indent)
	deep := strings.Repeat(" ", n)
	empty := true
	for _, word := range strings.Fields(text) {
		length := utf8.RuneCountInString(word)
		if !empty && n+1+length > width {
			fmt.Fprintln(o.w, line)
			line, n, empty = deep, len(deep), true
		}
		if !empty {
			line, n = line+" ", n+1
		}
		line, n, empty = line+word, n+length, false
	}
	fmt.Fprintln(o.w, line)
}
