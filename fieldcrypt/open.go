package fieldcrypt

import (
	"context"
	"reflect"
	"unsafe"

	"github.com/oubli/oubli/keystore"
)

// Open opens rows as they were stored, in place, with one round trip to the keystore.
// Pointers in them get new targets. Each row's Status says how it was read; erased
// fields read as their replacement, withheld ones as empty.
//
// Rows that were altered or moved, or whose keys are unknown, are left as they were
// stored; a *BatchError names them, and the other rows are open. Any other error is
// about the keystore as a whole: then no further row is open, and nothing is known
// about anybody.
func (c *Codec[T]) Open(ctx context.Context, rows ...*T) error {
	if len(rows) == 1 && c.openOne(unsafe.Pointer(rows[0])) {
		return nil
	}
	if len(rows) > 1 {
		return c.openMany(ctx, rows)
	}
	sc := c.borrow()
	defer c.giveBack(sc)
	bad, err := c.openRows(ctx, sc, rows, nil)
	if err != nil {
		return err
	}
	return batch(bad)
}

// openMany is Open for several rows: first those whose keys are at hand.
func (c *Codec[T]) openMany(ctx context.Context, rows []*T) error {
	rest := c.openCached(rows)
	if len(rest) == 0 {
		return nil
	}
	sc := c.borrow()
	defer c.giveBack(sc)
	bad, err := c.openRows(ctx, sc, rest, nil)
	if err != nil {
		return err
	}
	if len(bad) > 0 && len(rest) < len(rows) {
		at := make(map[*T]int, len(rows))
		for i, row := range rows {
			at[row] = i
		}
		for _, b := range bad {
			b.Row = at[rest[b.Row]]
		}
	}
	return batch(bad)
}

// openRows opens rows in place. With used, it notes there whose keys opened each row.
func (c *Codec[T]) openRows(ctx context.Context, sc *scratch, rows []*T, used []keystore.Keys) (bad []*RowError, err error) {
	sc.todo, sc.subjects = sc.todo[:0], sc.subjects[:0]
	for i, row := range rows {
		s, err := c.subjectOf(reflect.ValueOf(row).Elem())
		if err != nil {
			bad = append(bad, c.rowError("open", i, s, nil, 0, err))
			continue
		}
		sc.todo, sc.subjects = append(sc.todo, i), append(sc.subjects, s)
	}
	failed, err := c.withRows(ctx, sc, rows, false, func(i int, row reflect.Value, keys keystore.Keys) *RowError {
		if used != nil {
			used[i] = keys
		}
		if !sc.inSlots && c.openUsual(sc, row, keys) {
			return nil
		}
		status, f, id, err := c.open(sc, row, keys)
		if err != nil {
			return c.rowError("open", i, keys.Subject(), f, id, err)
		}
		sc.meet()
		c.storeOpened(sc, row)
		if c.statusAt != nil {
			if v, ok := at(row, c.statusAt); ok {
				v.SetString(string(status))
			}
		}
		return nil
	})
	return append(bad, failed...), err
}

// open opens a row's fields into the slots.
func (p *plan) open(sc *scratch, row reflect.Value, keys keystore.Keys) (Status, *field, uint32, error) {
	key, err := p.rowKey(row)
	if err != nil {
		return "", nil, 0, err
	}
	if f, err := p.load(sc, row, false); err != nil {
		return "", f, 0, err
	}
	status, f, id, err := p.openRow(sc, keys, key)
	if err != nil {
		return "", f, id, err
	}
	for i := range p.fields {
		f, s := &p.fields[i], &sc.slots[i]
		if f.kind != kindPrivate || s.state != slotStored {
			continue
		}
		v, _ := at(row, f.path)
		if s.status != StatusOpen {
			s.box = v.Addr().Interface().(private).notOpened(s.status, s.text)
		} else if s.box, err = v.Addr().Interface().(private).opened(string(sc.plain[s.from:s.to])); err != nil {
			return "", f, 0, err
		}
	}
	return status, nil, 0, nil
}
