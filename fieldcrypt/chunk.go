package fieldcrypt

import (
	"context"
	"reflect"
	"unsafe"

	"github.com/oubli/oubli/keystore"
)

// chunk is how many rows are worked on in place before their keys are found to be fresh
// still, all at once: where processes share the keystore, that means a look at clocks.
const chunk = 32

// openCached opens, without asking the keystore, the rows of people whose keys are at
// hand, and returns the others, as they are stored.
func (c *Codec[T]) openCached(rows []*T) (rest []*T) {
	if !c.quick() {
		return rows
	}
	before := c.before.Get().(*[chunk]T)
	defer c.before.Put(before)
	defer clear(before[:])
	sc := c.scratch.Get().(*scratch)
	defer c.scratch.Put(sc)
	keys := make([]keystore.Keys, 0, chunk)
	opened := make([]*T, 0, chunk)
	for len(rows) > 0 {
		some := rows[:min(chunk, len(rows))]
		rows = rows[len(some):]
		keys, opened = keys[:0], opened[:0]
		left := len(rest)
		for _, row := range some {
			before[len(opened)] = *row
			if k, ok := c.openAtHand(sc, unsafe.Pointer(row)); ok {
				keys, opened = append(keys, k), append(opened, row)
			} else {
				rest = append(rest, row)
			}
		}
		if len(opened) == 0 {
			return append(rest, rows...) // a cold cache is not asked for each of them
		}
		if !keystore.Fresh(keys...) {
			for i, row := range opened {
				*row = before[i]
			}
			rest = append(rest[:left], some...)
		}
	}
	return rest
}

// withRows calls work for the rows in sc.todo, in place, each with the keys of its
// subject in sc.subjects, from one round trip. Rows whose keys were no longer fresh
// afterwards are put back as they were, and worked on again with new keys.
func (c *Codec[T]) withRows(ctx context.Context, sc *scratch, rows []*T, write bool, work func(i int, row reflect.Value, keys keystore.Keys) *RowError) (bad []*RowError, err error) {
	before := c.before.Get().(*[chunk]T)
	defer c.before.Put(before)
	defer clear(before[:])
	for range maxAttempts {
		if len(sc.todo) == 0 {
			return bad, nil
		}
		keys, err := c.lookup(ctx, sc, write)
		if err != nil {
			return nil, err
		}
		left := 0
		for from := 0; from < len(sc.todo); from += chunk {
			todo := sc.todo[from:min(from+chunk, len(sc.todo))]
			keys := keys[from : from+len(todo)]
			mark := len(bad)
			clear(sc.met)
			for n, i := range todo {
				before[n] = *rows[i]
				if b := work(i, reflect.ValueOf(rows[i]).Elem(), keys[n]); b != nil {
					bad = append(bad, b)
				}
			}
			if keystore.Fresh(keys...) {
				c.count(sc)
				continue
			}
			bad = bad[:mark]
			for n, i := range todo {
				*rows[i] = before[n]
				sc.todo[left], sc.subjects[left] = i, sc.subjects[from+n]
				left++
			}
		}
		sc.todo, sc.subjects = sc.todo[:left], sc.subjects[:left]
	}
	if len(sc.todo) > 0 {
		return nil, restless(sc.subjects[0])
	}
	return bad, nil
}
