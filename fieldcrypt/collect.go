package fieldcrypt

import (
	"context"
	"unsafe"

	"github.com/oubli/oubli/keystore"
)

// Collector gathers stored rows that come in one after the other, as from a database, and
// opens them as one batch. Those of people whose keys are at hand it opens at once, while
// the next are on their way. It is for one goroutine and one batch.
type Collector[T any] struct {
	codec  *Codec[T]
	rows   []T
	stored []T             // rows[:seen], as they came
	used   []keystore.Keys // of those of them that are open
	rest   []int           // those that are not
	seen   int
	cold   bool // looking at rows at once was of no use
}

// Collector returns an empty Collector for rows of this codec.
func (c *Codec[T]) Collector() *Collector[T] {
	return &Collector[T]{codec: c, cold: !c.quick()}
}

// Next returns where the next row is to be stored, before Next or Rows is called again.
func (k *Collector[T]) Next() *T {
	if !k.cold && len(k.rows)-k.seen == chunk {
		k.look()
	}
	var none T
	k.rows = append(k.rows, none)
	return &k.rows[len(k.rows)-1]
}

// look opens what it can of the rows that came since the last look.
func (k *Collector[T]) look() {
	c := k.codec
	sc := c.scratch.Get().(*scratch)
	defer c.scratch.Put(sc)
	k.stored = append(k.stored, k.rows[k.seen:]...)
	opened := len(k.used)
	for i := k.seen; i < len(k.rows); i++ {
		if keys, ok := c.openAtHand(sc, unsafe.Pointer(&k.rows[i])); ok {
			k.used = append(k.used, keys)
		} else {
			k.rest = append(k.rest, i)
		}
	}
	k.seen, k.cold = len(k.rows), opened == len(k.used)
}

// Rows returns the rows, open, after one round trip to the keystore for those that are
// not yet. Errors are those of Codec.Open; with a *BatchError the rows are returned, too.
func (k *Collector[T]) Rows(ctx context.Context) ([]T, error) {
	if !k.cold && k.seen < len(k.rows) {
		k.look()
	}
	for ; k.seen < len(k.rows); k.seen++ {
		k.rest = append(k.rest, k.seen)
	}
	bad, err := k.open(ctx, k.rest)
	if err != nil {
		return nil, err
	}
	if len(k.used) > 0 && !keystore.Fresh(k.used...) {
		// While the others came, somebody's state changed, or the lease ran out.
		var again []int
		for i, n := 0, 0; i < len(k.stored); i++ {
			if n < len(k.rest) && k.rest[n] == i {
				n++
				continue
			}
			k.rows[i] = k.stored[i]
			again = append(again, i)
		}
		more, err := k.open(ctx, again)
		if err != nil {
			return nil, err
		}
		bad = append(bad, more...)
	}
	return k.rows, batch(bad)
}

// open opens the rows at some places.
func (k *Collector[T]) open(ctx context.Context, at []int) ([]*RowError, error) {
	if len(at) == 0 {
		return nil, nil
	}
	sc := k.codec.borrow()
	defer k.codec.giveBack(sc)
	list := make([]*T, len(at))
	for n, i := range at {
		list[n] = &k.rows[i]
	}
	bad, err := k.codec.openRows(ctx, sc, list, nil)
	for _, b := range bad {
		b.Row = at[b.Row]
	}
	return bad, err
}
