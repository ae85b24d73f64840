package pgrows

import (
	"fmt"
	"reflect"
	"slices"
	"unsafe"
)

// ids takes values of a table's ID type apart: one column, or a struct with a field for
// each column of the key.
type ids struct {
	parts []idPart // by column of the key
}

type idPart struct {
	column int // of the layout
	typ    reflect.Type
	offset uintptr
}

func newIDs(l *layout, c *catalog, id reflect.Type) (ids, error) {
	if len(c.key) == 1 {
		p := idPart{column: c.key[0], typ: id}
		return ids{[]idPart{p}}, p.check(l)
	}
	if id.Kind() != reflect.Struct {
		return ids{}, fmt.Errorf("the key has %d columns: ids must be a struct of them, not %s", len(c.key), id)
	}
	w := &walker{}
	w.walk(id, "", 0)
	var x ids
	for _, k := range c.key {
		at := w.best(func(f *column) int { return f.fits(c.columns[k].name) })
		if at < 0 {
			return ids{}, fmt.Errorf("%s has no field for column %s of the key", id, c.columns[k].name)
		}
		p := idPart{column: k, typ: w.columns[at].typ, offset: w.columns[at].offset}
		if err := p.check(l); err != nil {
			return ids{}, err
		}
		x.parts = append(x.parts, p)
	}
	if len(w.columns) != len(c.key) {
		return ids{}, fmt.Errorf("%s has fields that are not in the key", id)
	}
	return x, nil
}

func (p idPart) check(l *layout) error {
	f := &l.columns[p.column]
	if p.typ != f.typ && (p.typ.Kind() != f.typ.Kind() || !p.typ.ConvertibleTo(f.typ)) {
		return fmt.Errorf("ids have type %s, field %s has %s", p.typ, f.field, f.typ)
	}
	return nil
}

// values gives the values of the key's columns, in their fields' types.
func (x ids) values(l *layout, id unsafe.Pointer) []reflect.Value {
	vs := make([]reflect.Value, len(x.parts))
	for i, p := range x.parts {
		v := reflect.NewAt(p.typ, unsafe.Add(id, p.offset)).Elem()
		vs[i] = v.Convert(l.columns[p.column].typ)
	}
	return vs
}

// args gives the same as arguments.
func (x ids) args(l *layout, id unsafe.Pointer) []any {
	vs := x.values(l, id)
	args := make([]any, len(vs))
	for i, v := range vs {
		args[i] = v.Interface()
	}
	return args
}

// inKey tells whether a column of the layout is one of the key's.
func (c *catalog) inKey(column int) bool { return slices.Contains(c.key, column) }
