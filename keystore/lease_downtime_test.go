package keystore_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// movable is a cluster whose root can stand at two places.
func movable(t *testing.T, o *keystore.CreateOptions) (c *cluster, from, to *slowRoots) {
	from, to = newSlowRoots("memory:from", 0, time.Now), newSlowRoots("memory:to", 0, time.Now)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	c = &cluster{t: t, ctx: ctx, roots: from, db: memstore.New(), ears: map[*process]func(){}}
	require.NoError(t, keystore.Create(ctx, &process{c: c}, from, o))
	return c, from, to
}

func (c *cluster) with(roots keystore.RootStore, o *keystore.Options) *process {
	c.t.Helper()
	p := c.closed()
	var err error
	p.store, err = p.openWith(roots, o)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { p.store.Close() })
	return p
}

// While the root moves there and back, and advances with it, others read what is in no
// cache, write new people and erase some, and none of them ever fails. None of them has the
// other place as its first, or is told when.
func TestAMoveWithoutDowntime(t *testing.T) {
	c, from, to := movable(t, leaseOf(500*time.Millisecond))
	var others []*process
	for range 3 {
		others = append(others, c.with(from, &keystore.Options{NextRoots: to, CacheSize: 1}))
	}
	mover := c.with(from, &keystore.Options{NextRoots: to})
	type person struct {
		sub    keystore.Subject
		id     uint32
		sealed []byte
	}
	var people []person
	for n := range 40 {
		p := person{sub: subject(t, n+1)}
		p.id, p.sealed = seal(t, mover.store, p.sub, "", "Bob")
		people = append(people, p)
	}
	read := func(s *keystore.Store, p person) error {
		for {
			ks, err := s.Lookup(c.ctx, nil, p.sub)
			if err != nil {
				return err
			}
			_, key, err := ks[0].Key(p.id)
			if err != nil {
				return err
			}
			text, err := key.Open(nil, make([]byte, 12), p.sealed, nil)
			if err != nil || string(text) != "Bob" {
				return errors.Join(errors.New("it does not open"), err)
			}
			if keystore.Fresh(ks[0]) {
				return nil
			}
		}
	}
	var stop atomic.Bool
	var reads, writes, erasures atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, 100)
	work := func(count *atomic.Int64, f func(n int) error) { // often enough to meet every step of a move
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				if err := f(n); err != nil {
					failed <- err
					return
				}
				count.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	for i, p := range others {
		work(&reads, func(n int) error { return read(p.store, people[(n*7+i)%len(people)]) })
		work(&writes, func(n int) error {
			ks, err := p.store.Ensure(c.ctx, nil, []string{""}, subject(t, 1000+i*1_000_000+n))
			if err == nil {
				_, _, err = ks[0].Primary("")
			}
			return err
		})
	}
	work(&erasures, func(n int) error {
		es, err := others[0].store.Erase(c.ctx, keystore.Request{Subject: subject(t, 9_000_000+n), Unknown: true})
		if err == nil && es[0].State != keystore.StateErased {
			err = errors.New("not erased")
		}
		return err
	})
	places := []*slowRoots{to, from}
	for n := 0; n < 4 || erasures.Load() < 4 && len(failed) == 0; n++ {
		was, written := reads.Load(), writes.Load()
		err := mover.store.MoveRoots(c.ctx, places[n%2])
		for errors.Is(err, keystore.ErrConflict) { // an erasure came between
			err = mover.store.MoveRoots(c.ctx, places[n%2])
		}
		require.NoError(t, err)
		require.Eventually(t, func() bool { return reads.Load() > was+20 && writes.Load() > written+5 || len(failed) > 0 }, 10*time.Second, time.Millisecond)
	}
	stop.Store(true)
	wg.Wait()
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
	t.Logf("%d reads, %d writes, %d erasures", reads.Load(), writes.Load(), erasures.Load())
	for _, p := range people {
		require.NoError(t, read(mover.store, p))
	}
}

// A process that was not told of the new place reads what it has in memory, and is refused
// what stands under roots that it cannot have; it is told where they are.
func TestWhoIsNotToldOfAMove(t *testing.T) {
	c, from, to := movable(t, leaseOf(long))
	left, mover := c.with(from, nil), c.with(from, nil)
	bob := subject(t, 2)
	id, sealed := seal(t, mover.store, bob, "", "Bob")
	_, err := open(c.ctx, left.store, bob, id, sealed)
	require.NoError(t, err)
	require.NoError(t, mover.store.MoveRoots(c.ctx, to))
	_, err = open(c.ctx, left.store, bob, id, sealed)
	require.NoError(t, err)
	ks, err := left.store.Ensure(c.ctx, nil, []string{""}, subject(t, 3))
	if err == nil {
		err = ks[0].WriteErr()
	}
	require.ErrorIs(t, err, keystore.ErrMismatch)
	require.ErrorContains(t, err, "memory:to")
	require.ErrorIs(t, left.store.Advance(c.ctx), keystore.ErrMismatch)
	_, err = left.open()
	require.ErrorIs(t, err, keystore.ErrNotFound)
	require.ErrorContains(t, err, "memory:to")

	// Once it could not poll for a while it needs the anchor, which is where the root is.
	left.pass(2 * long)
	_, err = open(c.ctx, left.store, bob, id, sealed)
	require.ErrorIs(t, err, keystore.ErrMismatch)
	require.ErrorContains(t, err, "memory:to")
}

// After a move it does not matter which of the two places is named first, and a process
// whose lease has lapsed meanwhile finds the anchor where the root is now.
func TestOpeningWithTwoPlaces(t *testing.T) {
	c, from, to := movable(t, leaseOf(long))
	sleeper := c.with(from, &keystore.Options{NextRoots: to})
	mover := c.with(from, &keystore.Options{NextRoots: to})
	bob := subject(t, 2)
	id, sealed := seal(t, mover.store, bob, "", "Bob")
	require.NoError(t, mover.store.MoveRoots(c.ctx, to))
	from.set(func() { from.away = true }) // it was switched off for good
	for _, named := range [][2]keystore.RootStore{{from, to}, {to, from}, {to, nil}} {
		for _, readOnly := range []bool{false, true} {
			p := c.with(named[0], &keystore.Options{NextRoots: named[1], ReadOnly: readOnly})
			text, err := open(c.ctx, p.store, bob, id, sealed)
			require.NoError(t, err)
			require.Equal(t, "Bob", text)
			h, err := p.store.Health(c.ctx)
			require.NoError(t, err)
			require.Equal(t, "memory:to", h.Root.URL)
		}
	}
	_, err := c.closed().openWith(from, nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)

	sleeper.pass(2 * long)
	text, err := open(c.ctx, sleeper.store, bob, id, sealed)
	require.NoError(t, err, "its lease had lapsed, and the place that it knew is gone")
	require.Equal(t, "Bob", text)
	require.NoError(t, sleeper.store.Advance(c.ctx))
}
