package pgadopt

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// opener turns what is sealed into what it was before the adoption.
type opener struct {
	db    *pgxpool.Pool
	table *pgmap.Table
	keys  *keystore.Store
	codec *fieldcrypt.BoundRows
	types []originalType // by field

	mu    sync.Mutex
	known map[string]bool // what was found about single texts
}

// originalType is what a column was before it was adopted, and is to be again.
type originalType struct {
	sql   string
	text  bool // takes every text up to its length
	date  bool // a day or a moment
	chars int  // at most so many; 0: any
}

var lengths = regexp.MustCompile(`^(?:character varying|character)\((\d+)\)$`)

func newOriginalType(sql string) originalType {
	t := originalType{sql: sql}
	t.date = sql == "date" || strings.HasPrefix(sql, "timestamp")
	if m := lengths.FindStringSubmatch(sql); m != nil {
		t.text = true
		t.chars, _ = strconv.Atoi(m[1])
	}
	t.text = t.text || sql == "text" || sql == "bytea" || sql == "character varying"
	return t
}

func newOpener(c Config, t *pgmap.Table, r *Record) (*opener, error) {
	codec, err := t.Codec(c.Keys, true)
	o := &opener{db: c.DB, table: t, keys: c.Keys, codec: codec, known: map[string]bool{}}
	for _, f := range t.Fields {
		sql := f.Type
		for _, s := range r.Saved.Columns {
			if s.Name == f.Name {
				sql = s.Type
			}
		}
		o.types = append(o.types, newOriginalType(sql))
	}
	return o, err
}

var envelopeOrBlank = regexp.MustCompile(`^oubli1(\.[A-Za-z0-9_-]{44,}$|~[A-Za-z0-9_-]{10,}~)`)

// sealedForm tells whether a cell has the form of an envelope or a blank, as
// pgmap.LooksSealed does.
func sealedForm(c fieldcrypt.Cell, binary bool) bool {
	switch {
	case c.Null:
		return false
	case binary && len(c.Text) >= fieldcrypt.Overhead && c.Text[0] == 0xb1:
		return true
	}
	return strings.HasPrefix(c.Text, "oubli1") && envelopeOrBlank.MatchString(c.Text)
}

// open opens a page. Rows that cannot be opened, and values that are withheld, stay as
// they are.
func (o *opener) open(ctx context.Context, rows []pgmap.Row) (page, error) {
	cells, before := cellsOf(rows), make([][]fieldcrypt.Cell, len(rows))
	for i := range cells {
		before[i] = slices.Clone(cells[i])
	}
	bad := map[int]*fieldcrypt.RowError{}
	var batch *fieldcrypt.BatchError
	if _, err := o.codec.Open(ctx, cells); errors.As(err, &batch) {
		for _, e := range batch.Rows {
			bad[e.Row] = e
		}
	} else if err != nil {
		return page{}, keysAway{err}
	}
	var p page
	at := o.table.FieldAt()
	for i := range rows {
		if e := bad[i]; e != nil {
			copy(cells[i], before[i])
			if rowless(e) && !o.holdsSealed(before[i]) {
				continue // a row of nobody, as an order of a guest
			}
			p.count.Bad++
			p.count.name(Named{Key: rows[i].Key, Field: e.Field, Subject: subjectOf(o.table, &rows[i]), What: cause(e)})
			continue
		}
		values := 0
		for f := range o.table.Fields {
			now, was := &cells[i][at+f], before[i][at+f]
			sealed := sealedForm(was, o.table.Fields[f].Binary)
			switch now.Status {
			case fieldcrypt.StatusWithheld:
				if *now = was; sealed {
					p.count.Withheld++
					p.count.name(Named{Key: rows[i].Key, Field: o.table.Fields[f].Logical, Subject: subjectOf(o.table, &rows[i]),
						What: "of somebody who is restricted or being erased: release the person, finish the erasure, or name the purpose"})
				}
			case fieldcrypt.StatusErased:
				if !sealed {
					*now = was
					continue
				}
				back, err := o.erased(ctx, f, *now)
				if err != nil {
					return page{}, err
				}
				*now = back
				p.count.Erased++
				values++
			case fieldcrypt.StatusOpen:
				if now.Text != was.Text {
					values++
				}
			}
		}
		if values > 0 {
			p.rows, p.edits = append(p.rows, rows[i]), append(p.edits, edit{at: i, values: values})
		}
	}
	return p, nil
}

// errOvertaken: what is being written is read again.
var errOvertaken = fmt.Errorf("%w: somebody was erased or restricted while their rows were being opened", keystore.ErrUnavailable)

// still looks, just before opened rows are committed, whether their people may still be
// read: nobody's plaintext comes back who was erased after it was opened.
func (o *opener) still(ctx context.Context, rows []pgmap.Row) error {
	at := o.table.FieldAt()
	var people []keystore.Subject
	for i := range rows {
		for _, c := range rows[i].Cells[at:] {
			if c.Status == fieldcrypt.StatusOpen {
				s, err := keystore.NewSubject(o.table.Map.Kind, rows[i].Cells[0].Text, keystore.AllowAt())
				if err != nil {
					return err
				}
				people = append(people, s)
				break
			}
		}
	}
	found, err := o.keys.Lookup(ctx, nil, people...)
	if err != nil {
		return keysAway{err}
	}
	for _, k := range found {
		if err := k.Err(); err != nil && !errors.Is(err, keystore.ErrUnknownSubject) {
			return errOvertaken
		}
	}
	if !keystore.Fresh(found...) {
		return errOvertaken
	}
	return nil
}

// holdsSealed tells whether a row has anything to open.
func (o *opener) holdsSealed(cells []fieldcrypt.Cell) bool {
	for i, f := range o.table.Fields {
		if sealedForm(cells[o.table.FieldAt()+i], f.Binary) {
			return true
		}
	}
	return false
}

func subjectOf(t *pgmap.Table, row *pgmap.Row) string {
	if row.Cells[0].Null {
		return ""
	}
	return t.Map.Kind + "/" + row.Cells[0].Text
}

var year = regexp.MustCompile(`^\d{4}$`)

// erased is what an erased value becomes that reads as c: its replacement where the
// column takes it, the first of January for a year, else NULL.
func (o *opener) erased(ctx context.Context, f int, c fieldcrypt.Cell) (fieldcrypt.Cell, error) {
	t := o.types[f]
	switch {
	case c.Null:
		return fieldcrypt.Cell{Null: true}, nil
	case t.date && year.MatchString(c.Text):
		c.Text += "-01-01"
		if t.sql != "date" {
			c.Text += "T00:00:00Z"
		}
		return fieldcrypt.Cell{Text: c.Text}, nil
	case o.table.Fields[f].NotNull:
		return fieldcrypt.Cell{Text: c.Text}, nil
	}
	fits, err := o.takes(ctx, f, c.Text)
	if err != nil || !fits {
		return fieldcrypt.Cell{Null: true}, err
	}
	return fieldcrypt.Cell{Text: c.Text}, nil
}

// takes tells whether a replacement is a value of a column's original type. There are few
// different ones.
func (o *opener) takes(ctx context.Context, f int, text string) (bool, error) {
	name := strconv.Itoa(f) + "\x00" + text
	o.mu.Lock()
	fits, known := o.known[name]
	o.mu.Unlock()
	if known {
		return fits, nil
	}
	bad, err := o.unfit(ctx, f, []string{text})
	if err != nil {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.known) < 10_000 {
		o.known[name] = len(bad) == 0
	}
	return len(bad) == 0, nil
}

// unfit tells which of some texts are no values of a column's original type.
func (o *opener) unfit(ctx context.Context, f int, texts []string) (bad []int, err error) {
	t := o.types[f]
	if t.text {
		for i, s := range texts {
			if t.chars > 0 && utf8.RuneCountInString(strings.TrimRight(s, " ")) > t.chars {
				bad = append(bad, i)
			}
		}
		return bad, nil
	}
	err = reading(ctx, o.db, func(tx pgx.Tx) error {
		var n int
		return tx.QueryRow(ctx, "SELECT pg_catalog.count("+pgmap.FromText("v", t.sql)+") FROM pg_catalog.unnest($1::pg_catalog.text[]) AS v", texts).Scan(&n)
	})
	var pg *pgmap.Error
	switch {
	case err == nil:
	case !errors.As(err, &pg) || !strings.HasPrefix(pg.Code(), "22") && !strings.HasPrefix(pg.Code(), "23"):
		return nil, err
	case len(texts) == 1:
		return []int{0}, nil
	default:
		half := len(texts) / 2
		first, err := o.unfit(ctx, f, texts[:half])
		if err != nil {
			return nil, err
		}
		rest, err := o.unfit(ctx, f, texts[half:])
		for _, i := range rest {
			first = append(first, half+i)
		}
		return first, err
	}
	return nil, nil
}
