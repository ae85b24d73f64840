package pgrows

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unsafe"

	"github.com/oubli/oubli/keystore"
)

// UpdateFields stores the named columns of row in the row with this id and leaves the
// others alone; it returns the whole row as it is stored then, opened. Names are logical
// ones, or those of columns or fields. A named column is stored even where the field is empty.
//
// Personal columns are sealed for the person that the row belongs to: the one that row
// names, else the one that is stored there, which is asked for. Without personal
// columns the keystore is only read. The key, and what values are bound to, cannot be
// changed so.
func (t *Table[T, ID]) UpdateFields(ctx context.Context, id ID, row T, columns ...string) (T, error) {
	const op = "update"
	var none T
	c, err := t.look(ctx, op)
	if err != nil {
		return none, err
	}
	named, personal, err := t.named(c, columns, true)
	if err != nil {
		return none, t.fail(op, err)
	}
	part, bound := row, []int(nil)
	if personal {
		if part, bound, err = t.sealPart(ctx, c, id, row, named); err != nil {
			return none, err
		}
	}
	set, w, err := c.set(t.layout, unsafe.Pointer(&part), named)
	if err != nil {
		return none, t.fail(op, err)
	}
	t.setKey(c, id, unsafe.Pointer(&part))
	w.like(c, append(slices.Clone(c.key), bound...), t.layout, unsafe.Pointer(&part))
	rows, err := t.query(ctx, op, nil, "UPDATE "+t.name+set+w.sql()+c.returning(), w.args...)
	if err != nil {
		return none, err
	}
	if len(rows) == 0 && bound != nil {
		if there, err := t.exists(ctx, c, op, unsafe.Pointer(&part), nil); err != nil {
			return none, err
		} else if there {
			return none, t.fail(op, fmt.Errorf("%w: the row belongs to another person than the update, or to another key", keystore.ErrInvalid))
		}
	}
	return t.reopen(ctx, op, rows)
}

// SaveFields stores the named columns of a row that is as stored, for an
// anonymize.Eraser: nothing is sealed. Names are as in UpdateFields. A row that is gone
// by then needs no saving.
func (t *Table[T, ID]) SaveFields(ctx context.Context, row T, columns []string) error {
	const op = "save"
	c, err := t.look(ctx, op)
	if err != nil {
		return err
	}
	named, _, err := t.named(c, columns, false)
	if err != nil {
		return t.fail(op, err)
	}
	at := unsafe.Pointer(&row)
	set, w, err := c.set(t.layout, at, named)
	if err != nil {
		return t.fail(op, err)
	}
	// The row may belong to somebody else by now, whose data this would blank.
	bound := t.boundTo(c)
	w.like(c, append(slices.Clone(c.key), bound...), t.layout, at)
	tag, err := t.db.Exec(ctx, "UPDATE "+t.name+set+w.sql(), w.args...)
	if err != nil {
		return t.fail(op, err)
	}
	if tag.RowsAffected() > 0 {
		return nil
	}
	there, err := t.exists(ctx, c, op, at, bound)
	if err == nil && there {
		err = t.fail(op, fmt.Errorf("%w: the row is there and the update changed nothing: does a policy, rule or trigger forbid it?", keystore.ErrState))
	}
	return err
}

// named finds the columns that names mean, each once. With bound, those that values are
// bound to are refused.
func (t *Table[T, ID]) named(c *catalog, names []string, bound bool) (columns []int, personal bool, err error) {
	for _, name := range names {
		i := t.layout.find(name)
		switch {
		case i < 0:
			return nil, false, t.noColumn(name)
		case c.columns[i].generated, c.columns[i].always:
			return nil, false, fmt.Errorf("%w: column %s is made by the database", keystore.ErrInvalid, name)
		case c.inKey(i), bound && (i == t.layout.subject || i == t.layout.key):
			return nil, false, fmt.Errorf("%w: column %s is part of the key or names the person: use Update, or Create and Delete", keystore.ErrInvalid, name)
		case !slices.Contains(columns, i):
			columns = append(columns, i)
		}
		personal = personal || t.layout.columns[i].personal
	}
	if columns == nil {
		return nil, false, fmt.Errorf("%w: no column is named", keystore.ErrInvalid)
	}
	return columns, personal, nil
}

// boundTo are the columns outside the key that values are bound to.
func (t *Table[T, ID]) boundTo(c *catalog) (columns []int) {
	for _, i := range []int{t.layout.subject, t.layout.key} {
		if i >= 0 && !c.inKey(i) && !slices.Contains(columns, i) {
			columns = append(columns, i)
		}
	}
	return columns
}

// setKey writes an id into a row.
func (t *Table[T, ID]) setKey(c *catalog, id ID, row unsafe.Pointer) {
	for n, v := range c.ids.values(t.layout, unsafe.Pointer(&id)) {
		t.layout.columns[c.key[n]].value(row).Set(v)
	}
}

// sealPart returns a row with the named columns of row, sealed, and with the columns
// that they are bound to, which it also names.
func (t *Table[T, ID]) sealPart(ctx context.Context, c *catalog, id ID, row T, named []int) (part T, bound []int, err error) {
	const op = "update"
	from, to := unsafe.Pointer(&row), unsafe.Pointer(&part)
	t.setKey(c, id, to)
	for _, i := range c.key {
		f := &t.layout.columns[i]
		if given := f.value(from); !given.IsZero() && !reflect.DeepEqual(given.Interface(), f.value(to).Interface()) {
			return part, nil, t.fail(op, fmt.Errorf("%w: the row has another id than the one to be updated", keystore.ErrInvalid))
		}
	}
	bound = t.boundTo(c)
	ask := false
	for _, i := range bound {
		f := &t.layout.columns[i]
		f.value(to).Set(f.value(from))
		ask = ask || f.value(to).IsZero()
	}
	if ask {
		if err := t.readBound(ctx, c, to, bound); err != nil {
			return part, nil, t.fail(op, err)
		}
	}
	empty := false
	for _, i := range named {
		f := &t.layout.columns[i]
		f.value(to).Set(f.value(from))
		empty = empty || f.isEmpty(to)
	}
	// SealFor takes what is empty for what is not meant; Seal seals the fields that are
	// not named as well, for nothing.
	if empty {
		part, err = t.codec.Seal(ctx, part)
		return part, bound, err
	}
	s, err := t.codec.SubjectOf(&part)
	if err != nil {
		return part, nil, t.fail(op, err)
	}
	part, err = t.codec.SealFor(ctx, s, part)
	return part, bound, err
}

// isEmpty tells whether a personal field holds an empty text, which is a value.
func (c *column) isEmpty(row unsafe.Pointer) bool {
	v := c.value(row)
	switch c.hold {
	case holdsString:
		return v.Len() == 0
	case holdsStringPointer:
		return !v.IsNil() && v.Elem().Len() == 0
	case holdsBytes:
		return !v.IsNil() && v.Len() == 0
	}
	return false
}

// readBound fills the columns of a row that values are bound to, as they are stored,
// where the row does not have them.
func (t *Table[T, ID]) readBound(ctx context.Context, c *catalog, row unsafe.Pointer, bound []int) error {
	var w where
	w.like(c, c.key, t.layout, row)
	var names []string
	var columns []*column
	for _, i := range bound {
		if f := &t.layout.columns[i]; f.value(row).IsZero() {
			names, columns = append(names, c.columns[i].quoted), append(columns, f)
		}
	}
	rows, err := t.db.Query(ctx, "SELECT "+strings.Join(names, ", ")+" FROM "+t.name+w.sql(), w.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if rows.Next() {
		s, err := newScanner(columns, rows.FieldDescriptions(), rows.TypeMap())
		if err != nil {
			return err
		}
		return s.scan(row, rows.RawValues())
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return errNoRow
}

// exists tells whether there is a row with the key, and these columns, of row.
func (t *Table[T, ID]) exists(ctx context.Context, c *catalog, op string, row unsafe.Pointer, columns []int) (bool, error) {
	var w where
	w.like(c, append(slices.Clone(c.key), columns...), t.layout, row)
	tag, err := t.db.Exec(ctx, "SELECT 1 FROM "+t.name+w.sql(), w.args...)
	if err != nil {
		return false, t.fail(op, err)
	}
	return tag.RowsAffected() > 0, nil
}
