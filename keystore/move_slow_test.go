package keystore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// A move away from a place that takes days to destroy is not finished before it has; the
// keystore lives at the new place meanwhile, and nothing is final. Then all is.
func TestAMoveFromAPlaceThatTakesTime(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Hour} {
		w := newSlowWorld(t, grace)
		bob := subject(t, 2)
		id, sealed := seal(t, w.store, bob, "", "Bob")
		w.erase(1) // its root is dying, or superseded, when the move begins
		to := newSlowRoots("memory:to", 0, w.clock)
		err := w.store.MoveRoots(w.ctx, to)
		began := w.now
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorContains(t, err, "2026-01-04", "when it is worth trying again")

		w.now = w.now.Add(2 * time.Hour)
		w.advance()
		w.erase(3)
		w.now = w.now.Add(2 * time.Hour)
		w.advance()
		h := w.health()
		require.Equal(t, "memory:slow", h.Moving)
		require.Zero(t, h.Overdue)
		require.EqualValues(t, 4, h.Epoch, "two erasures, and the advance of the move")
		c, err := to.Load(w.ctx)
		require.NoError(t, err)
		require.NotEmpty(t, c.Destroyed, "at the new place, whose word does not count yet")
		for _, n := range []int{1, 3} {
			require.False(t, w.status(n).Final)
			require.Zero(t, w.status(n).FinalAt, "that depends on the old place")
		}
		text, err := open(w.ctx, w.store, bob, id, sealed)
		require.NoError(t, err)
		require.Equal(t, "Bob", text)
		require.ErrorIs(t, w.store.FinishMove(w.ctx, w.roots), keystore.ErrUnavailable)
		require.EqualValues(t, 4, w.health().Epoch, "no advance each time that it is tried")

		// Somebody takes back what the old place was to destroy.
		w.roots.saveRoots()
		w.now = began.Add(3 * days)
		require.ErrorIs(t, w.store.FinishMove(w.ctx, w.roots), keystore.ErrUnavailable)
		require.False(t, w.status(1).Final)
		require.NotEmpty(t, w.roots.reach(w.ctx))

		// A process that starts now finds it all, and finishes.
		s, err := keystore.Open(w.ctx, w.backend, to, &keystore.Options{Clock: w.clock})
		require.NoError(t, err)
		w.now = w.now.Add(3 * days)
		require.NoError(t, s.FinishMove(w.ctx, w.roots))
		require.Empty(t, w.roots.reach(w.ctx))
		w.store = s
		w.advance()
		for _, n := range []int{1, 3} {
			require.True(t, w.status(n).Final)
		}
		neverIn(t, s, w.roots)
		keystoretest.Check(t, s)
	}
}

// A move to a place that takes time, which an erasure overtakes, is taken back there.
func TestAMoveToAPlaceThatTakesTimeIsTakenBack(t *testing.T) {
	w := newSlowWorld(t, 0)
	from := w.roots
	to := newSlowRoots("memory:to", 5*days, w.clock)
	other := w.open()
	err := w.store.MoveRoots(w.ctx, &hookedRoots{inner: to, learn: func(keystore.Root) {}, call: func(name string, do func() error) error {
		if name == "Create" {
			_, err := other.Erase(w.ctx, keystore.Request{Subject: subject(t, 1), Unknown: true})
			require.NoError(t, err)
		}
		return do()
	}})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.Equal(t, "memory:to", w.health().Moving)
	w.now = w.now.Add(4 * days)
	w.advance()
	require.False(t, w.status(1).Final, "the other place holds its root still")
	require.ErrorIs(t, w.store.FinishMove(w.ctx, to), keystore.ErrUnavailable)
	w.now = w.now.Add(2 * days)
	require.NoError(t, w.store.FinishMove(w.ctx, to))
	require.Empty(t, w.health().Moving)
	require.True(t, w.status(1).Final)
	require.Empty(t, to.reach(w.ctx))
	require.Equal(t, "memory:slow", from.Place().URL)
}

// Of a failed creation whose outcome is not known, the place is remembered.
func TestAMoveWhoseCreationWasNotAnswered(t *testing.T) {
	w := newSlowWorld(t, 0)
	to := newSlowRoots("memory:to", 0, w.clock)
	err := w.store.MoveRoots(w.ctx, &hookedRoots{inner: to, learn: func(keystore.Root) {}, call: func(name string, do func() error) error {
		err := do()
		if name == "Create" {
			return keystore.ErrUnavailable
		}
		return err
	}})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.Equal(t, "memory:to", w.health().Moving)
	require.False(t, w.erase(1).Final)
	require.NoError(t, w.store.FinishMove(w.ctx, to))
	require.Empty(t, to.reach(w.ctx))
	w.now = w.now.Add(3 * days)
	w.advance()
	require.True(t, w.status(1).Final)
}

// A keystore is moved, and lost while the old place destroys what it held. Of the copy from
// before the move nothing is final until that is over, nor is anything of one that was made
// in its midst.
func TestACopyFromBeforeAMove(t *testing.T) {
	for _, when := range []string{"before", "noted", "named"} {
		w := newSlowWorld(t, days)
		copied := w.backend.Snapshot()
		to := newSlowRoots("memory:to", 0, w.clock)
		err := w.store.MoveRoots(w.ctx, &hookedRoots{inner: to, learn: func(keystore.Root) {}, call: func(name string, do func() error) error {
			if name == "Create" && when == "noted" || name == "Add" && when == "named" {
				copied = w.backend.Snapshot()
			}
			return do()
		}})
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		w.erase(1)
		_, err = keystore.Restore(w.ctx, copied, to, &keystore.Options{Clock: w.clock})
		require.NoError(t, err, when)
		s, err := keystore.Open(w.ctx, copied, to, &keystore.Options{Clock: w.clock})
		require.NoError(t, err, when)
		w.now = w.now.Add(2 * days)
		require.NoError(t, s.Advance(w.ctx))
		w.store = s
		require.NotEmpty(t, w.roots.reach(w.ctx))
		require.Equal(t, keystore.StateErased, w.status(1).State)
		require.False(t, w.status(1).Final, "%s: the old place can be had back with its root", when)
		require.Equal(t, "memory:slow", w.health().Moving)
		require.ErrorIs(t, s.FinishMove(w.ctx, w.roots), keystore.ErrUnavailable)
		w.now = w.now.Add(2 * days)
		require.NoError(t, s.FinishMove(w.ctx, w.roots))
		require.Empty(t, w.roots.reach(w.ctx))
		w.now = w.now.Add(2 * days)
		require.NoError(t, s.Advance(w.ctx))
		require.True(t, w.status(1).Final, when)
		neverIn(t, s, w.roots)
		keystoretest.Check(t, s)
	}
}

// The address of a service changes, and a copy from before that is restored. What the copy
// calls another place is the living one.
func TestACopyThatKnowsTheRootByAnotherName(t *testing.T) {
	w := newSlowWorld(t, days)
	copied := w.backend.Snapshot()
	renamed := namedRoots{w.roots, "memory:renamed"}
	require.NoError(t, keystore.AdoptRoots(w.ctx, w.backend, renamed))
	_, err := keystore.Restore(w.ctx, copied, renamed, &keystore.Options{Clock: w.clock})
	require.NoError(t, err)
	s, err := keystore.Open(w.ctx, copied, renamed, &keystore.Options{Clock: w.clock})
	require.NoError(t, err)
	bob := subject(t, 2)
	id, sealed := seal(t, s, bob, "", "Bob")
	require.NoError(t, s.FinishMove(w.ctx, w.roots))
	h, err := s.Health(w.ctx)
	require.NoError(t, err)
	require.Empty(t, h.Moving)
	s, err = keystore.Open(w.ctx, copied, renamed, &keystore.Options{Clock: w.clock})
	require.NoError(t, err)
	text, err := open(w.ctx, s, bob, id, sealed)
	require.NoError(t, err)
	require.Equal(t, "Bob", text)
}

// A move that fails late takes its own note away, not that of one that was begun since.
func TestAMoveThatFailsLate(t *testing.T) {
	w := newSlowWorld(t, 0)
	other := w.open()
	to, third := newSlowRoots("memory:to", 0, w.clock), newSlowRoots("memory:third", 0, w.clock)
	hooked := func(r *slowRoots, create func(do func() error) error) *hookedRoots {
		return &hookedRoots{inner: r, learn: func(keystore.Root) {}, call: func(name string, do func() error) error {
			if name == "Create" {
				return create(do)
			}
			return do()
		}}
	}
	err := w.store.MoveRoots(w.ctx, hooked(to, func(func() error) error {
		require.NoError(t, other.FinishMove(w.ctx, emptied{to}))
		err := other.MoveRoots(w.ctx, hooked(third, func(do func() error) error {
			require.NoError(t, do())
			return keystore.ErrUnavailable
		}))
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		return keystore.ErrExists
	}))
	require.ErrorIs(t, err, keystore.ErrExists)
	require.Equal(t, "memory:third", w.health().Moving)
}
