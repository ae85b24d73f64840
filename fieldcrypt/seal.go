package fieldcrypt

import (
	"context"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/oubli/oubli/keystore"
)

// Seal returns a copy of row whose personal fields are sealed under their person's
// keys, which are made if there are none yet. What row points to stays as it is.
//
// An empty string is sealed like any other; nil stays nil. What is sealed already is
// refused, except in a Private, which knows. For an erased person, or a purpose that
// was withdrawn, fields may hold what they held when they were stored or what Open
// gave; anything new fails and wraps keystore.ErrErased or keystore.ErrWithdrawn. A row
// that was withheld when it was read is refused, since what it lacks would be lost.
// The error is a *RowError, or about the keystore as a whole.
func (c *Codec[T]) Seal(ctx context.Context, row T) (T, error) {
	if c.sealOne(unsafe.Pointer(&row)) {
		return row, nil
	}
	sc := c.borrow()
	defer c.giveBack(sc)
	out := c.rows.Get().(*T)
	defer c.putRow(out)
	*out = row
	if bad, err := c.sealRows(ctx, sc, []*T{out}, nil); err != nil || bad != nil {
		var none T
		if bad != nil {
			return none, bad[0]
		}
		return none, err
	}
	return *out, nil
}

// SealAll is Seal for many rows with one round trip to the keystore. If a row fails,
// there is no result, and a *BatchError names all that failed.
func (c *Codec[T]) SealAll(ctx context.Context, rows ...T) ([]T, error) {
	sc := c.borrow()
	defer c.giveBack(sc)
	out := make([]T, len(rows))
	copy(out, rows)
	pointers := make([]*T, len(out))
	for i := range out {
		pointers[i] = &out[i]
	}
	bad, err := c.sealRows(ctx, sc, pointers, nil)
	if err == nil {
		err = batch(bad)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// SealFor seals a partial row: the personal fields of update that are not empty, for
// the subject s. Empty strings and bytes, nil and NULL are left out of it, as in the
// updates of many repositories. The subject's id need not stand in update, but must not
// differ; a row's key, where the table has one, must.
func (c *Codec[T]) SealFor(ctx context.Context, s keystore.Subject, update T) (T, error) {
	sc := c.borrow()
	defer c.giveBack(sc)
	out := c.rows.Get().(*T)
	defer c.putRow(out)
	*out = update
	var none T
	bad, err := c.sealRows(ctx, sc, []*T{out}, &s)
	if bad != nil {
		return none, bad[0]
	}
	if err != nil {
		return none, err
	}
	return *out, nil
}

func (c *Codec[T]) putRow(row *T) {
	var zero T
	*row = zero
	c.rows.Put(row)
}

// sealRows seals rows in place; they are copies of the caller's. With partial, they are
// updates for that subject. On any error, rows are of no use.
func (c *Codec[T]) sealRows(ctx context.Context, sc *scratch, rows []*T, partial *keystore.Subject) (bad []*RowError, err error) {
	sc.todo, sc.subjects = sc.todo[:0], sc.subjects[:0]
	for i, row := range rows {
		v := reflect.ValueOf(row).Elem()
		s, err := c.sealSubject(v, partial)
		if err == nil && partial == nil {
			err = c.checkStatus(v)
		}
		if err != nil {
			bad = append(bad, c.rowError("seal", i, s, nil, 0, err))
			continue
		}
		sc.todo, sc.subjects = append(sc.todo, i), append(sc.subjects, s)
	}
	if bad != nil {
		return bad, nil
	}
	return c.withRows(ctx, sc, rows, true, func(i int, row reflect.Value, keys keystore.Keys) *RowError {
		if partial == nil && c.sealUsual(sc, row, keys) {
			return nil
		}
		f, id, err := c.seal(sc, row, keys, partial != nil)
		if err != nil {
			return c.rowError("seal", i, keys.Subject(), f, id, err)
		}
		c.own(row)
		c.storeSealed(sc, row)
		return nil
	})
}

// seal seals a row's fields into the slots.
func (p *plan) seal(sc *scratch, row reflect.Value, keys keystore.Keys, partial bool) (*field, uint32, error) {
	key, err := p.rowKey(row)
	if err != nil {
		return nil, 0, err
	}
	if f, err := p.load(sc, row, true); err != nil {
		return f, 0, err
	}
	if partial {
		for i := range sc.slots {
			if s := &sc.slots[i]; s.state == slotAbsent || p.fields[i].kind != kindPrivate && len(s.text)+len(s.data) == 0 {
				s.state = slotKeep
			}
		}
	}
	return p.sealRow(sc, keys, key)
}

// checkStatus refuses a row that lacks what was withheld when it was read.
func (p *plan) checkStatus(row reflect.Value) error {
	if p.statusAt == nil || !p.inPlace() {
		return nil
	}
	if v, ok := at(row, p.statusAt); ok && Status(v.String()) == StatusWithheld {
		return &keystore.Error{
			Err:  fmt.Errorf("%w: the row was withheld when it was read, and what it lacks would be lost", keystore.ErrState),
			Hint: "read it again, or write single columns with SealFor",
		}
	}
	return nil
}

func (c *Codec[T]) sealSubject(row reflect.Value, partial *keystore.Subject) (keystore.Subject, error) {
	if partial == nil {
		return c.subjectOf(row)
	}
	if partial.Kind() != c.kind {
		return *partial, fmt.Errorf("%w: the table's subjects are of kind %s", keystore.ErrInvalid, c.kind)
	}
	if v, ok := at(row, c.subjectAt); ok && !v.IsZero() {
		if s, err := c.subjectOf(row); err != nil || s != *partial {
			return *partial, fmt.Errorf("%w: the update names another subject", keystore.ErrInvalid)
		}
	}
	return *partial, nil
}
