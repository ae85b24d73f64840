package pgrows

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unsafe"

	"github.com/oubli/oubli/keystore"
)

// pageRows is how many rows one statement reads of a list.
const pageRows = 1024

// Get returns the row with this id, opened. The error wraps pgx.ErrNoRows if
// there is none.
func (t *Table[T, ID]) Get(ctx context.Context, id ID) (T, error) {
	var none T
	c, err := t.look(ctx, "get")
	if err != nil {
		return none, err
	}
	rows, err := t.query(ctx, "get", nil, c.selects+c.byKey, c.ids.args(t.layout, unsafe.Pointer(&id))...)
	if err != nil {
		return none, err
	}
	return t.open(ctx, "get", rows)
}

// List yields all rows, opened, in the order of the key and with flat memory. Each
// statement reads a page of them behind the last row of the one before, so that no
// connection is held while the loop's body runs: it may use the same one, also inside a
// transaction. All of it is one snapshot only in a transaction that is REPEATABLE READ.
//
// A row that cannot be opened is yielded as it is stored, with its error, and the list
// goes on; see Codec.OpenSeq. An error of the database ends it.
func (t *Table[T, ID]) List(ctx context.Context) iter.Seq2[T, error] {
	return t.codec.OpenSeq(ctx, t.pages(ctx, "list", func(*catalog) (where, error) { return where{}, nil }))
}

// Find yields the rows whose columns have these values, as List does. nil stands for
// NULL, and a slice, for a column that is no array, for any of its elements. Names are
// logical ones, or those of columns or fields. A personal column is refused before anything is
// asked: the same value never seals to the same text twice.
func (t *Table[T, ID]) Find(ctx context.Context, values map[string]any) iter.Seq2[T, error] {
	return t.codec.OpenSeq(ctx, t.pages(ctx, "find", func(c *catalog) (w where, err error) {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			i := t.layout.find(name)
			w.is(c.columns[i], values[name])
		}
		return w, nil
	}, slices.Sorted(maps.Keys(values))...))
}

// RowsOf yields the rows of a person as they are stored, for an anonymize.Eraser.
func (t *Table[T, ID]) RowsOf(ctx context.Context, s keystore.Subject) iter.Seq2[T, error] {
	stored := t.pages(ctx, "rows of", func(c *catalog) (where, error) { return t.ofSubject(c, s) })
	return func(yield func(T, error) bool) {
		for row, err := range stored {
			if err == nil {
				// Equal to the database need not be the same person: citext, collations.
				if of, err := t.codec.SubjectOf(&row); err != nil || of != s {
					continue
				}
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

// ofSubject is the condition that a row belongs to s.
func (t *Table[T, ID]) ofSubject(c *catalog, s keystore.Subject) (w where, err error) {
	if s.Kind() != t.codec.Kind() {
		return w, fmt.Errorf("%w: %s: the table's subjects are of kind %s", keystore.ErrInvalid, s, t.codec.Kind())
	}
	column := c.columns[t.layout.subject]
	id, err := idValue(s.ID(), t.layout.columns[t.layout.subject].typ)
	if err != nil {
		return w, err
	}
	if upper := strings.ToUpper(s.ID()); column.text && upper != s.ID() && isUUID(s.ID()) {
		id = []string{s.ID(), upper} // as text, a UUID may stand there either way
	}
	w.is(column, id)
	return w, nil
}

// pages yields the rows of a condition as they are stored. names are the columns that
// the caller searches by.
func (t *Table[T, ID]) pages(ctx context.Context, op string, condition func(*catalog) (where, error), names ...string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		if err := t.searchable(names); err != nil {
			yield(none, t.fail(op, err))
			return
		}
		c, err := t.look(ctx, op)
		if err != nil {
			yield(none, err)
			return
		}
		w, err := condition(c)
		if err != nil {
			yield(none, t.fail(op, err))
			return
		}
		var rows []T
		page := w
		for {
			rows, err = t.query(ctx, op, rows[:0], c.selects+page.sql()+c.page, page.args...)
			if err != nil {
				yield(none, err)
				return
			}
			for _, row := range rows {
				if !yield(row, nil) {
					return
				}
			}
			if len(rows) < pageRows {
				return
			}
			page = where{slices.Clone(w.parts), slices.Clone(w.args)}
			page.behind(c, t.layout, unsafe.Pointer(&rows[len(rows)-1]))
		}
	}
}

// searchable refuses names that are no column, or a personal one.
func (t *Table[T, ID]) searchable(names []string) error {
	for _, name := range names {
		i := t.layout.find(name)
		if i < 0 {
			return t.noColumn(name)
		}
		if t.layout.columns[i].personal {
			return fmt.Errorf("%w: column %s is personal: no search finds what is sealed", keystore.ErrInvalid, name)
		}
	}
	return nil
}

func (t *Table[T, ID]) noColumn(name string) error {
	return fmt.Errorf("%w: no field of %s is column %s", keystore.ErrInvalid, t.layout.row, name)
}

// value is the field of a row that is the column.
func (c *column) value(row unsafe.Pointer) reflect.Value {
	return reflect.NewAt(c.typ, unsafe.Add(row, c.offset)).Elem()
}
