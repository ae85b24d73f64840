package keystore_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
)

// What each step asks of the root store. A service bills these calls and limits them; the
// figures stand in the documentation.
func TestCallsToTheRootStore(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Hour} {
		c, roots, _ := movable(t, &keystore.CreateOptions{Shards: 64, Lease: long, Grace: grace})
		c.notifications(false)
		now := time.Now()
		clock := func() time.Time { return now }
		c.roots = roots
		require.Equal(t, map[string]int{"Create": 1}, roots.counted())
		a := c.with(roots, &keystore.Options{Clock: clock})
		require.Equal(t, map[string]int{"Load": 1, "key": 1}, roots.counted(), "open")
		b := c.with(roots, &keystore.Options{Clock: clock, ReadOnly: true, CacheSize: 1})
		require.Equal(t, map[string]int{"Load": 1, "key": 1}, roots.counted(), "open")

		type sealedBy struct {
			id   uint32
			text []byte
		}
		var people []sealedBy
		for n := range 100 {
			id, text := seal(t, a.store, subject(t, n+1), "", "Bob")
			people = append(people, sealedBy{id, text})
		}
		readAll := func() {
			t.Helper()
			var wg sync.WaitGroup
			for n, p := range people {
				wg.Go(func() {
					if text, err := open(c.ctx, b.store, subject(t, n+1), p.id, p.text); err != nil || text != "Bob" {
						t.Errorf("%v", err)
					}
				})
			}
			wg.Wait()
		}
		readAll()
		require.Empty(t, roots.counted(), "a hundred people written and read")
		require.NoError(t, a.store.Advance(c.ctx))
		require.Empty(t, roots.counted(), "an advance with nothing to do")

		seal(t, a.store, subject(t, 2000), "", "Ann")
		a.through(a.hurried) // it does not wait
		_, err := a.erase(subject(t, 2000))
		require.NoError(t, err)
		a.heal()
		counted := roots.counted()
		t.Logf("grace %s: an erasure: %v", grace, counted)
		expected := map[string]int{"Load": 5, "Raise": 1, "Add": 1, "Destroy": 1, "Trim": 1}
		if grace > 0 { // the advance ends with the anchor, and destroys later
			expected = map[string]int{"Load": 3, "Raise": 2, "Add": 1}
		}
		require.Equal(t, expected, counted)

		roots.set(func() { roots.pause = 50 * time.Millisecond })
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := b.store.Info(c.ctx); err != nil {
					t.Errorf("%v", err)
				}
			})
		}
		wg.Wait()
		roots.set(func() { roots.pause = 0 })
		require.NoError(t, b.store.Poll(c.ctx))
		readAll()
		require.Equal(t, map[string]int{"Load": 1, "key": 1}, roots.counted(), "once for an epoch and process, however many need it")
		readAll()
		require.Empty(t, roots.counted())

		now = now.Add(grace)
		require.NoError(t, a.store.Advance(c.ctx))
		counted = roots.counted()
		if grace > 0 {
			require.Equal(t, map[string]int{"Load": 2, "Destroy": 1, "Trim": 1}, counted)
		} else {
			require.Equal(t, map[string]int{"Load": 1}, counted)
		}
		_, err = a.store.Status(c.ctx, subject(t, 1))
		require.NoError(t, err)
		require.Equal(t, map[string]int{"Load": 1}, roots.counted(), "status")
	}
}

// While the root store is away, an open Store reads, writes and erases; an erasure is not
// final, opening fails, and nothing is lost: all of it goes on when the root store is back.
func TestARootStoreThatIsAway(t *testing.T) {
	c, roots, _ := movable(t, leaseOf(long))
	a, b, eraser := c.with(roots, nil), c.with(roots, &keystore.Options{CacheSize: 1}), c.with(roots, nil)
	ann, bob, carl := subject(t, 1), subject(t, 2), subject(t, 3)
	annID, annSealed := seal(t, a.store, ann, "", "Ann")
	bobID, bobSealed := seal(t, a.store, bob, "", "Bob")
	read := func(s *keystore.Store) {
		t.Helper()
		text, err := open(c.ctx, s, bob, bobID, bobSealed)
		require.NoError(t, err)
		require.Equal(t, "Bob", text)
	}
	away := func(is bool) { roots.set(func() { roots.away = is }) }
	away(true)
	read(a.store)
	read(b.store)
	carlID, carlSealed := seal(t, b.store, carl, "", "Carl")
	_, err := c.closed().openWith(roots, nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorIs(t, failure(a.store.Health(c.ctx)), keystore.ErrUnavailable)

	eraser.through(eraser.hurried)
	es, err := eraser.erase(ann)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.Len(t, es, 1, "what became of it is told")
	require.Equal(t, keystore.StateErased, es[0].State)
	require.False(t, es[0].Final)
	for _, p := range []*process{a, b} {
		require.NoError(t, p.store.Poll(c.ctx))
		_, err = open(c.ctx, p.store, ann, annID, annSealed)
		require.ErrorIs(t, err, keystore.ErrErased)
		read(p.store)
	}
	// Who could not poll for a lease's time knows no more what it missed: only the anchor,
	// in the root store, tells that nothing was lost.
	_, err = open(c.ctx, eraser.store, bob, bobID, bobSealed)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorIs(t, a.store.Advance(c.ctx), keystore.ErrUnavailable)

	away(false)
	require.NoError(t, b.store.Advance(c.ctx))
	st, err := b.store.Status(c.ctx, ann)
	require.NoError(t, err)
	require.True(t, st[0].Final)
	read(a.store)
	read(eraser.store)
	text, err := open(c.ctx, a.store, carl, carlID, carlSealed)
	require.NoError(t, err)
	require.Equal(t, "Carl", text)
	c.roots = roots
	c.check()
}

// The root store goes away at each call of an advance, answered or not. Nobody who lives is
// lost, nothing is final too early, and the next advance finishes.
func TestARootStoreThatGoesAwayInAnAdvance(t *testing.T) {
	for _, answered := range []bool{true, false} {
		for n := 1; ; n++ {
			backend, roots := memstore.New(), newSlowRoots("memory:slow", 0, time.Now)
			left := 0
			hooked := &hookedRoots{inner: roots, learn: func(keystore.Root) {}, call: func(name string, do func() error) error {
				if left == 0 {
					return do()
				}
				if left--; left > 0 {
					return do()
				}
				if !answered {
					require.NoError(t, do())
				}
				roots.set(func() { roots.away = true })
				return keystore.ErrUnavailable
			}}
			require.NoError(t, keystore.Create(t.Context(), backend, hooked, &keystore.CreateOptions{Shards: 4}))
			s, err := keystore.Open(t.Context(), backend, hooked, nil)
			require.NoError(t, err)
			bob := subject(t, 2)
			id, sealed := seal(t, s, bob, "", "Bob")
			left = n
			es, err := s.Erase(t.Context(), keystore.Request{Subject: subject(t, 1), Unknown: true})
			if left > 0 {
				require.NoError(t, err)
				require.Greater(t, n, 8)
				break
			}
			require.Equal(t, keystore.StateErased, es[0].State)
			if es[0].Final {
				require.Len(t, roots.reach(t.Context()), 1)
			}
			text, err := open(t.Context(), s, bob, id, sealed)
			require.NoError(t, err)
			require.Equal(t, "Bob", text)
			roots.set(func() { roots.away = false })
			require.NoError(t, s.Advance(t.Context()))
			st, err := s.Status(t.Context(), subject(t, 1))
			require.NoError(t, err)
			require.True(t, st[0].Final)
			require.NoError(t, s.Advance(t.Context()))
			_, err = s.Erase(t.Context(), keystore.Request{Subject: subject(t, 3), Unknown: true})
			require.NoError(t, err)
			require.Len(t, roots.reach(t.Context()), 1)
			keystoretest.Check(t, s)
		}
	}
}

// What an administrator destroyed too far, or bars, is named, root by root, also where the
// keystore does not open any more.
func TestInspectRoots(t *testing.T) {
	w := newSlowWorld(t, days)
	for n := range 3 {
		w.erase(n + 1)
		w.now = w.now.Add(time.Hour)
	}
	inspect := func() keystore.RootReport {
		r, err := keystore.InspectRoots(w.ctx, w.backend, w.roots, &keystore.Options{Clock: w.clock})
		require.NoError(t, err)
		require.Len(t, r.Roots, 4)
		for i, root := range r.Roots {
			require.EqualValues(t, i+1, root.Epoch)
			require.Equal(t, i == 3, root.Role == "current")
		}
		return r
	}
	r := inspect()
	require.True(t, r.Trusted)
	require.Equal(t, w.roots.Place(), r.Place)
	require.Equal(t, "memory:slow", r.Recorded.URL)
	require.EqualValues(t, 4, r.Epoch)
	for _, root := range r.Roots {
		require.Empty(t, root.Lost)
		require.Equal(t, root.Role == "current", root.Dies.IsZero())
	}

	w.roots.set(func() { w.roots.barred[r.Roots[1].ID] = true })
	r = inspect()
	require.Contains(t, r.Roots[1].Lost, "can't be had")
	require.True(t, r.Trusted)
	w.store = w.open() // one that no page is under is not missed
	w.roots.set(func() { w.roots.barred[r.Roots[3].ID] = true })
	_, err := keystore.Open(w.ctx, w.backend, w.roots, nil)
	require.ErrorContains(t, err, r.Roots[3].ID.String())
	r = inspect()
	require.Contains(t, r.Roots[3].Lost, "can't be had")
	require.False(t, r.Trusted)

	other := newSlowRoots("memory:other", 0, w.clock)
	require.NoError(t, keystore.Create(w.ctx, memstore.New(), other, nil))
	_, err = keystore.InspectRoots(w.ctx, w.backend, other, nil)
	require.ErrorIs(t, err, keystore.ErrMismatch)
	w.roots.set(func() { w.roots.away = true })
	_, err = keystore.InspectRoots(w.ctx, w.backend, w.roots, nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
}
