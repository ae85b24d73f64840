package fieldcrypt

import (
	"context"
	"reflect"
)

// NamedValue is a field of a row under its logical name.
type NamedValue struct {
	Name     string
	Value    any  // nil: NULL, withheld, or erased without a replacement
	Personal bool // tagged as personal
	State    Status
}

// Export returns what a stored row holds, opened, in struct order: for a person's own
// data. Names are the logical ones; a field that has none is called by its db tag, its
// json tag, or its Go name. The row is not changed.
func (c *Codec[T]) Export(ctx context.Context, row *T) ([]NamedValue, error) {
	own := *row
	sc := c.borrow()
	sc.inSlots = true
	defer func() { sc.inSlots = false; c.giveBack(sc) }()
	bad, err := c.openRows(ctx, sc, []*T{&own}, nil)
	if err != nil {
		return nil, err
	}
	if bad != nil {
		bad[0].Op = "export"
		return nil, bad[0]
	}
	v := reflect.ValueOf(&own).Elem()
	values := make([]NamedValue, 0, len(c.order))
	for _, o := range c.order {
		if !o.personal {
			p := c.others[o.index]
			values = append(values, NamedValue{Name: p.name, Value: exportValue(v, p.path), State: StatusOpen})
			continue
		}
		// The slots still say how each field was opened.
		f, s := &c.fields[o.index], &sc.slots[o.index]
		n := NamedValue{Name: f.Name, Personal: true, State: s.status}
		if n.State == "" {
			n.State = StatusOpen // NULL
		}
		switch {
		case s.state == slotAbsent, n.State != StatusOpen && s.text == "":
		case f.kind == kindPrivate:
			fv, _ := at(v, f.path)
			n.Value = fv.Addr().Interface().(private).get()
		default:
			n.Value = exportValue(v, f.path)
		}
		values = append(values, n)
	}
	return values, nil
}

// Stored returns what a stored row holds as Export does, but opens nothing and asks the
// keystore nothing: personal fields have a name, and neither value nor state.
func (c *Codec[T]) Stored(row *T) []NamedValue {
	v := reflect.ValueOf(row).Elem()
	values := make([]NamedValue, len(c.order))
	for i, o := range c.order {
		if o.personal {
			values[i] = NamedValue{Name: c.fields[o.index].Name, Personal: true}
			continue
		}
		p := c.others[o.index]
		values[i] = NamedValue{Name: p.name, Value: exportValue(v, p.path), State: StatusOpen}
	}
	return values
}

// exportValue is what a path leads to, nil where a pointer on it is nil.
func exportValue(row reflect.Value, path []int) any {
	v, ok := at(row, path)
	if !ok {
		return nil
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	return v.Interface()
}
