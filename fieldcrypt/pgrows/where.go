package pgrows

import (
	"reflect"
	"strconv"
	"strings"
	"unsafe"
)

// where is the condition of a statement, with the statement's arguments.
type where struct {
	parts []string
	args  []any
}

// arg adds an argument and returns its placeholder.
func (w *where) arg(v any) string {
	w.args = append(w.args, v)
	return "$" + strconv.Itoa(len(w.args))
}

func (w *where) sql() string {
	if len(w.parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.parts, " AND ")
}

// is demands that a column has a value, see Table.Find.
func (w *where) is(d dbColumn, value any) {
	v := reflect.ValueOf(value)
	if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		w.parts = append(w.parts, d.quoted+" IS NULL")
		return
	}
	p := w.arg(value)
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8 && !d.array {
		p = "ANY (" + p + ")"
	}
	w.parts = append(w.parts, d.quoted+" = "+p)
}

// like demands that columns are as in row. None of them is personal.
func (w *where) like(c *catalog, columns []int, l *layout, row unsafe.Pointer) {
	for _, i := range columns {
		w.parts = append(w.parts, c.columns[i].quoted+" = "+w.arg(l.columns[i].value(row).Interface()))
	}
}

// behind demands that a row comes after another one in the order of the key.
func (w *where) behind(c *catalog, l *layout, row unsafe.Pointer) {
	values := make([]string, len(c.key))
	for n, i := range c.key {
		values[n] = w.arg(l.columns[i].value(row).Interface())
	}
	w.parts = append(w.parts, c.pageKeys+" > ("+strings.Join(values, ", ")+")")
}
