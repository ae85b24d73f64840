package admin

import (
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// values returns a row of each person's values, nil where there is none. What the viewer
// may not see is masked here once more, whatever the application returned.
func (q *request) values(sts []keystore.Status, reveal []bool) ([][]Value, error) {
	rows := make([][]Value, len(sts))
	if len(q.columns) == 0 || len(sts) == 0 {
		return rows, nil
	}
	asks := make([]Ask, len(sts))
	for i, st := range sts {
		asks[i] = Ask{Subject: st.Subject, Reveal: reveal[i]}
	}
	got, err := q.o.Columns.Values(q.ctx, asks)
	if err == nil && len(got) != len(asks) {
		err = fmt.Errorf("%d rows for %d people", len(got), len(asks))
	}
	if err != nil {
		return nil, &foreign{"the columns' Values", err}
	}
	for i, row := range got {
		if row == nil {
			continue
		}
		if len(row) != len(q.columns) {
			return nil, &foreign{"the columns' Values", fmt.Errorf("%d values for %d columns", len(row), len(q.columns))}
		}
		rows[i] = slices.Clone(row)
		for j, c := range q.columns {
			switch v := &rows[i][j]; {
			case c.Personal && !reveal[i]:
				*v = masked(sts[i].State)
			case c.Personal && v.Text == "" && sts[i].State == keystore.StateErased:
				v.State = fieldcrypt.StatusErased // where an erasure leaves NULL
			}
		}
	}
	return rows, nil
}

// masked is a personal value that is not for the viewer. That somebody is erased is no secret.
func masked(s keystore.State) Value {
	if s == keystore.StateErased {
		return Value{State: fieldcrypt.StatusErased}
	}
	return Value{Masked: true}
}

// TableColumns are columns of a registered table, by their logical names: of a person's
// first row, for tables that have one for each. Its Values make one round trip to the
// keystore. The error wraps [keystore.ErrInvalid].
func TableColumns[T any](t *anonymize.Table[T], names ...string) (Columns, error) {
	if t == nil || len(names) == 0 {
		return nil, invalid("columns need a table and names")
	}
	c := &tableColumns[T]{table: t}
	all := t.Columns()
	for _, name := range names {
		i := slices.IndexFunc(all, func(v fieldcrypt.NamedValue) bool { return v.Name == name })
		if i < 0 {
			return nil, invalid("the table of %T has no column %q", *new(T), name)
		}
		c.places, c.columns = append(c.places, i), append(c.columns, Column{Name: name, Personal: all[i].Personal})
	}
	return c, nil
}

type tableColumns[T any] struct {
	table   *anonymize.Table[T]
	columns []Column
	places  []int // of the columns in a row
}

func (c *tableColumns[T]) Columns() []Column { return slices.Clone(c.columns) }

func (c *tableColumns[T]) Values(ctx context.Context, asks []Ask) ([][]Value, error) {
	out := make([][]Value, len(asks))
	for _, reveal := range []bool{false, true} {
		var subjects []keystore.Subject
		var at []int
		for i, a := range asks {
			if a.Reveal == reveal {
				subjects, at = append(subjects, a.Subject), append(at, i)
			}
		}
		if len(subjects) == 0 {
			continue
		}
		read := c.table.Stored
		if reveal {
			read = c.table.Export
		}
		all, err := read(ctx, subjects...)
		if bad := (*fieldcrypt.BatchError)(nil); err != nil && !errors.As(err, &bad) {
			return nil, err // else rows that can't be opened are left closed: the others matter, too
		}
		for i, rows := range all {
			if len(rows) > 0 {
				out[at[i]] = c.row(rows[0])
			}
		}
	}
	return out, nil
}

// row picks the columns out of a row. What has no state was not opened.
func (c *tableColumns[T]) row(values []fieldcrypt.NamedValue) []Value {
	row := make([]Value, len(c.places))
	for i, p := range c.places {
		v := values[p]
		if v.Personal && v.State == "" {
			row[i] = Value{Masked: true}
			continue
		}
		row[i].Text, _ = textOf(v.Value)
		if v.Personal {
			row[i].State = v.State
		}
	}
	return row
}

// maxText is how many bytes of a value a page shows.
const maxText = 300

// textOf renders a value for people: dates without a time of day that they do not have,
// what has a text in it, everything else as JSON. null: there is none.
func textOf(v any) (text string, null bool) {
	for rv := reflect.ValueOf(v); ; rv = rv.Elem() {
		if !rv.IsValid() || (rv.Kind() == reflect.Pointer || rv.Kind() == reflect.Slice || rv.Kind() == reflect.Map) && rv.IsNil() {
			return "", true
		}
		switch x := rv.Interface().(type) {
		case time.Time:
			if x.Equal(x.Truncate(24 * time.Hour)) {
				return x.Format(time.DateOnly), false
			}
			return x.Format(time.DateTime), false
		case encoding.TextMarshaler:
			if b, err := x.MarshalText(); err == nil {
				return clip(string(b)), false
			}
		case []byte:
			if utf8.Valid(x) {
				return clip(string(x)), false
			}
		}
		if rv.Kind() == reflect.String {
			return clip(rv.String()), false
		}
		if rv.Kind() != reflect.Pointer && rv.Kind() != reflect.Interface {
			break
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("(%T)", v), false
	}
	return clip(string(b)), false
}

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	cut := maxText
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
