package pgrows

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unsafe"

	"github.com/oubli/oubli/keystore"
)

// Create seals a row, inserts it and returns what is stored, opened: with everything
// that the database fills in.
//
// Where the subject's id or the row's key is zero and the database makes it, by an
// identity, a sequence or a default, it is drawn first: values are bound to it. Other
// columns get their default where the field is zero, except for false and for a 0 that
// no sequence counts, which are values: make such a field a pointer if nil shall mean
// the default.
func (t *Table[T, ID]) Create(ctx context.Context, row T) (T, error) {
	const op = "create"
	var none T
	c, err := t.look(ctx, op)
	if err != nil {
		return none, err
	}
	drawn, err := t.draw(ctx, c, unsafe.Pointer(&row))
	if err != nil {
		return none, t.fail(op, err)
	}
	sealed, err := t.codec.Seal(ctx, row)
	if err != nil {
		return none, err
	}
	sql, args, err := c.insert(t.layout, t.name, unsafe.Pointer(&sealed), drawn)
	if err != nil {
		return none, t.fail(op, err)
	}
	rows, err := t.query(ctx, op, nil, sql, args...)
	if err != nil {
		return none, err
	}
	if len(rows) == 0 {
		return none, t.fail(op, fmt.Errorf("%w: a trigger or rule of the table took the row away", keystore.ErrState))
	}
	return t.reopen(ctx, op, rows)
}

// Update seals a whole row, stores it under its own key, and returns what is stored,
// opened. The error wraps pgx.ErrNoRows if there is no such row. Rows of erased
// people keep what they have in their personal columns, see Codec.Seal.
func (t *Table[T, ID]) Update(ctx context.Context, row T) (T, error) {
	const op = "update"
	var none T
	c, err := t.look(ctx, op)
	if err != nil {
		return none, err
	}
	sealed, err := t.codec.Seal(ctx, row)
	if err != nil {
		return none, err
	}
	var columns []int
	for i, d := range c.columns {
		if !d.generated && !d.always && !c.inKey(i) {
			columns = append(columns, i)
		}
	}
	at := unsafe.Pointer(&sealed)
	set, w, err := c.set(t.layout, at, columns)
	if err != nil {
		return none, t.fail(op, err)
	}
	found := slices.Clone(c.key)
	for _, i := range t.boundTo(c) { // what is sealed for another id would never open
		if !slices.Contains(columns, i) {
			found = append(found, i)
		}
	}
	w.like(c, found, t.layout, at)
	rows, err := t.query(ctx, op, nil, "UPDATE "+t.name+set+w.sql()+c.returning(), w.args...)
	if err != nil {
		return none, err
	}
	return t.reopen(ctx, op, rows)
}

// Delete deletes the row with this id. No key is touched: that is what an erasure is
// for. The error wraps pgx.ErrNoRows if there is no such row.
func (t *Table[T, ID]) Delete(ctx context.Context, id ID) error {
	c, err := t.look(ctx, "delete")
	if err != nil {
		return err
	}
	tag, err := t.db.Exec(ctx, "DELETE FROM "+t.name+c.byKey, c.ids.args(t.layout, unsafe.Pointer(&id))...)
	if err == nil && tag.RowsAffected() == 0 {
		err = errNoRow
	}
	if err != nil {
		return t.fail("delete", err)
	}
	return nil
}

// reopen opens the row that a statement has stored.
func (t *Table[T, ID]) reopen(ctx context.Context, op string, rows []T) (T, error) {
	row, err := t.open(ctx, op, rows)
	if err != nil && len(rows) > 0 {
		err = t.fail(op, fmt.Errorf("it is stored, and could not be read back: %w", err))
	}
	return row, err
}

// insert is the statement that stores a sealed row. drawn are columns whose values were
// drawn for it.
func (c *catalog) insert(l *layout, table string, row unsafe.Pointer, drawn []int) (string, []any, error) {
	var names, values []string
	var w where
	overriding := ""
	for i, d := range c.columns {
		if d.generated {
			continue
		}
		names = append(names, d.quoted)
		f := &l.columns[i]
		isDrawn := slices.Contains(drawn, i)
		if isDrawn && d.always {
			overriding = " OVERRIDING SYSTEM VALUE"
		}
		if !isDrawn && !f.personal && d.hasDefault() && isUnset(f.value(row), d.sequence) {
			values = append(values, "DEFAULT")
			continue
		}
		arg, err := c.arg(l, i, row)
		if err != nil {
			return "", nil, err
		}
		values = append(values, w.arg(arg))
	}
	return "INSERT INTO " + table + " (" + strings.Join(names, ", ") + ")" + overriding +
		" VALUES (" + strings.Join(values, ", ") + ")" + c.returning(), w.args, nil
}

// isUnset tells whether a field leaves its column to the database.
func isUnset(v reflect.Value, sequence bool) bool {
	switch v.Kind() {
	case reflect.Bool:
		return false
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64:
		return sequence && v.IsZero()
	}
	return v.IsZero()
}

func (c *catalog) returning() string { return " RETURNING " + c.list }

// set is the clause that gives columns what a sealed row has in them, with its
// arguments in w.
func (c *catalog) set(l *layout, row unsafe.Pointer, columns []int) (clause string, w where, err error) {
	sets := make([]string, len(columns))
	for n, i := range columns {
		arg, err := c.arg(l, i, row)
		if err != nil {
			return "", w, err
		}
		sets[n] = c.columns[i].quoted + " = " + w.arg(arg)
	}
	return " SET " + strings.Join(sets, ", "), w, nil
}

// arg is what a column of a sealed row is in a statement. Envelopes go to a bytea as
// bytes: as text, a backslash in a replacement would begin an escape there.
func (c *catalog) arg(l *layout, i int, row unsafe.Pointer) (any, error) {
	f, v := &l.columns[i], l.columns[i].value(row)
	var text string
	switch f.hold {
	case holdsNone:
		return plainArg(v, c.columns[i].json)
	case holdsBytes:
		if v.IsNil() {
			return nil, nil
		}
		return v.Bytes(), nil
	case holdsString:
		text = v.String()
	case holdsStringPointer:
		if v.IsNil() {
			return nil, nil
		}
		text = v.Elem().String()
	case holdsPrivate:
		stored, err := v.Interface().(driver.Valuer).Value()
		if stored == nil || err != nil {
			return nil, err
		}
		text = stored.(string)
	}
	if c.columns[i].binary {
		return []byte(text), nil
	}
	return text, nil
}

// plainArg is the argument for a column that holds no envelope, or holds some within. In
// the exec modes, pgx does not know which structs are JSON.
func plainArg(v reflect.Value, isJSON bool) (any, error) {
	arg := v.Interface()
	if isJSON {
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if _, valuer := arg.(driver.Valuer); !valuer && (v.Kind() == reflect.Struct || v.Kind() == reflect.Map && !v.IsNil()) {
			b, err := json.Marshal(arg)
			return string(b), err
		}
	}
	return arg, nil
}
