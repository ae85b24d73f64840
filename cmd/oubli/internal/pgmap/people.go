package pgmap

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// People are the columns that the data map shows in lists of people, or nil if it shows
// none. Values reads each table once, for all who are asked for, and opens what is personal
// with one round trip to the keystore for each kind. Where Reveal is not set personal
// values do not even leave the database, sealed or not. A row that does not open reads as
// withheld.
func (ts *Tables) People() admin.Columns {
	if len(ts.people.columns) == 0 {
		return nil
	}
	return ts.people
}

// people implements admin.Columns.
type people struct {
	ts      *Tables
	columns []admin.Column
	kinds   []shownKind
}

// shownKind is what is shown of a kind.
type shownKind struct {
	kind  string
	table *Table                // its fields are those that are shown
	codec *fieldcrypt.BoundRows // nil if none is
	shown []shownColumn
}

// shownColumn is a column of the table.
type shownColumn struct {
	Column
	at    int // among the columns of all kinds, where it has its name's place
	field int // of the table; -1: it is not personal
}

func newPeople(ts *Tables, keys *keystore.Store, adopting func(*Table) bool) (*people, error) {
	p := &people{ts: ts}
	for _, t := range ts.tables {
		if t.Shown == nil {
			continue
		}
		k := shownKind{kind: t.Map.Kind}
		k.table = t.only(func(f Field) bool { return slices.ContainsFunc(t.Shown, func(c Column) bool { return c.Num == f.Num }) })
		for i, c := range t.Shown {
			k.shown = append(k.shown, shownColumn{c, p.place(t.Map.Show[i], t.field(c) >= 0), k.table.field(c)})
		}
		if len(k.table.Fields) > 0 {
			var err error
			if k.codec, err = k.table.Codec(keys, adopting != nil && adopting(t.Table)); err != nil {
				return nil, err
			}
		}
		p.kinds = append(p.kinds, k)
	}
	return p, nil
}

// place finds or makes the column of a name.
func (p *people) place(name string, personal bool) int {
	at := slices.IndexFunc(p.columns, func(c admin.Column) bool { return c.Name == name })
	if at < 0 {
		at = len(p.columns)
		p.columns = append(p.columns, admin.Column{Name: name})
	}
	p.columns[at].Personal = p.columns[at].Personal || personal
	return at
}

// only is a table with some of its fields.
func (t *Table) only(wanted func(Field) bool) *Table {
	less := *t
	less.Fields, less.Map.Fields, less.Map.Columns = nil, nil, nil
	for i, f := range t.Fields {
		if wanted(f) {
			less.Fields = append(less.Fields, f)
			less.Map.Fields = append(less.Map.Fields, t.Map.Fields[i])
			less.Map.Columns = append(less.Map.Columns, t.Map.Columns[i])
		}
	}
	return &less
}

// Columns implements admin.Columns.
func (p *people) Columns() []admin.Column { return slices.Clone(p.columns) }

// Values implements admin.Columns.
func (p *people) Values(ctx context.Context, asks []admin.Ask) ([][]admin.Value, error) {
	values := make([][]admin.Value, len(asks))
	for _, k := range p.kinds {
		of := map[keystore.Subject][]int{} // where it is asked for
		var all, reveal []keystore.Subject
		for i, ask := range asks {
			if ask.Subject.Kind() != k.kind {
				continue
			}
			if of[ask.Subject] == nil {
				all = append(all, ask.Subject)
			}
			of[ask.Subject] = append(of[ask.Subject], i)
			if ask.Reveal {
				reveal = append(reveal, ask.Subject)
			}
		}
		rows, err := p.read(ctx, p.ts.pool, k, all, reveal)
		if err == nil {
			err = k.open(ctx, rows, reveal)
		}
		if err != nil {
			return nil, fmt.Errorf("what lists show of a %s: %w", k.kind, err)
		}
		for _, row := range rows {
			for _, i := range of[row.subject] {
				if values[i] == nil { // two spellings of a UUID are two rows
					values[i] = k.values(row, asks[i].Reveal, len(p.columns))
				}
			}
		}
	}
	return values, nil
}

// shownRow is the row of somebody.
type shownRow struct {
	subject keystore.Subject
	cells   []fieldcrypt.Cell // as the codec has them; of those who are not to be revealed they are NULL
	others  []string          // by shown column
	failed  bool              // it does not open
}

// read reads the first row of each subject, in the order of the table's key.
func (p *people) read(ctx context.Context, db DB, k shownKind, all, reveal []keystore.Subject) ([]shownRow, error) {
	t := k.table
	if all = slices.DeleteFunc(all, func(s keystore.Subject) bool { return !t.mayHave(s) }); len(all) == 0 {
		return nil, nil
	}
	if i := slices.IndexFunc(all, isUUID); i >= 0 && textual(t.Subject.Base) {
		var err error
		if t, err = p.ts.spelled(ctx, t, all[i]); err != nil {
			return nil, err
		}
	}
	ids := t.spellings(all...)
	rows, err := t.firstRows(ctx, db, k.shown, t.typed()+t.among("$1"), ids, reveal)
	if e := (*Error)(nil); errors.As(err, &e) && strings.HasPrefix(e.Code(), "22") {
		// The type does not take one of the ids, so nobody has that. Without the index
		// the others are found.
		rows, err = t.firstRows(ctx, db, k.shown, t.among("$1"), ids, reveal)
	}
	return rows, err
}

// firstRows reads the first row of each subject that a condition with the parameter ids
// finds, and of those in reveal what is personal.
func (t *Table) firstRows(ctx context.Context, db DB, shown []shownColumn, where string, ids []string, reveal []keystore.Subject) ([]shownRow, error) {
	exprs := []string{t.idText()}
	if t.bound() {
		exprs = append(exprs, "t."+t.Bound.Quoted+"::pg_catalog.text")
	}
	for _, f := range t.Fields {
		exprs = append(exprs, "CASE WHEN "+t.among("$2")+" THEN "+Canonical("t."+f.Quoted, f.Base)+" END")
	}
	for _, c := range shown {
		if c.field < 0 {
			exprs = append(exprs, fmt.Sprintf("pg_catalog.left(t.%s::pg_catalog.text, %d)", c.Quoted, longest+1))
		}
	}
	found, err := db.Query(ctx, "SELECT DISTINCT ON (1) "+strings.Join(exprs, ", ")+" FROM "+t.Quoted+" AS t WHERE "+where+" ORDER BY 1, "+t.keys(), ids, t.spellings(reveal...))
	if err != nil {
		return nil, Fail("read "+t.Quoted, err)
	}
	texts, data, into := make([]*string, len(exprs)), make([][]byte, len(exprs)), make([]any, len(exprs))
	at := t.FieldAt()
	for i := range into {
		if n := i - at; n >= 0 && n < len(t.Fields) && t.Fields[n].Binary {
			into[i] = &data[i]
		} else {
			into[i] = &texts[i]
		}
	}
	var rows []shownRow
	_, err = pgx.ForEachRow(found, into, func() error {
		s, err := keystore.NewSubject(t.Map.Kind, *texts[0], keystore.AllowAt())
		if err != nil {
			return nil // what the condition found to be equal to an id, and is none
		}
		row := shownRow{subject: s, others: make([]string, len(shown))}
		for i := range at + len(t.Fields) {
			row.cells = append(row.cells, cell(texts[i], data[i]))
		}
		n := at + len(t.Fields)
		for i, c := range shown {
			if c.field < 0 {
				if texts[n] != nil {
					row.others[i] = *texts[n]
				}
				n++
			}
		}
		rows = append(rows, row)
		return nil
	})
	return rows, Fail("read "+t.Quoted, err)
}

// open opens the rows of those in reveal.
func (k shownKind) open(ctx context.Context, rows []shownRow, reveal []keystore.Subject) error {
	if k.codec == nil {
		return nil
	}
	var cells [][]fieldcrypt.Cell
	var of []int
	for i, row := range rows {
		if slices.Contains(reveal, row.subject) {
			cells, of = append(cells, row.cells), append(of, i)
		}
	}
	if cells == nil {
		return nil
	}
	_, err := k.codec.Open(ctx, cells)
	var failed *fieldcrypt.BatchError
	if !errors.As(err, &failed) {
		return err
	}
	for _, e := range failed.Rows {
		rows[of[e.Row]].failed = true
	}
	return nil
}

// values are what is shown of a row, each in the place of its column.
func (k shownKind) values(row shownRow, reveal bool, columns int) []admin.Value {
	values := make([]admin.Value, columns)
	for i, c := range k.shown {
		v := &values[c.at]
		switch {
		case c.field < 0:
			v.Text = readable(row.others[i])
		case !reveal:
			v.Masked = true
		case row.failed:
			v.State = fieldcrypt.StatusWithheld
		default:
			cell := row.cells[k.table.FieldAt()+c.field]
			if v.State = cell.Status; v.State == "" {
				v.State = fieldcrypt.StatusOpen // NULL
			}
			if !cell.Null {
				v.Text = readable(cell.Text)
			}
		}
	}
	return values
}

// longest is how many characters of a value are shown.
const longest = 300

// readable is a value as text, bytes as PostgreSQL writes them, and no more of it than a
// list has room for.
func readable(text string) string {
	if !utf8.ValidString(text) {
		text = `\x` + hex.EncodeToString([]byte(text))
	}
	n := 0
	for at := range text {
		if n++; n > longest {
			return text[:at] + "…"
		}
	}
	return text
}
