package keystore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
)

// The write that names the new place has its effect, and nobody is told. The Store that
// asked for it goes on where the root is now: it must not put fresh roots into the place
// that the move is yet to destroy.
func TestAMoveOfWhichNobodyIsTold(t *testing.T) {
	ctx := t.Context()
	killed := errors.New("killed")
	backend := memstore.New()
	from, to := newSlowRoots("memory:from", 0, time.Now), newSlowRoots("memory:to", 0, time.Now)
	require.NoError(t, keystore.Create(ctx, backend, from, &keystore.CreateOptions{Shards: 32}))
	commits := 1 << 30
	b := &hookedBackend{inner: backend, call: func(name string, do func() error) error {
		if name == "Commit" {
			if commits--; commits == 0 {
				return errors.Join(killed, do())
			}
		}
		return do()
	}}
	s, err := keystore.Open(ctx, b, from, nil)
	require.NoError(t, err)
	bob := subject(t, 2)
	id, sealed := seal(t, s, bob, "", "Bob")
	commits = 2
	require.ErrorIs(t, s.MoveRoots(ctx, to), killed)
	h, err := s.Health(ctx)
	require.NoError(t, err)
	require.Equal(t, "memory:from", h.Moving)
	require.Equal(t, "memory:to", h.Root.URL)
	ever := len(from.ever)
	_, err = s.Erase(ctx, keystore.Request{Subject: subject(t, 1), Unknown: true})
	require.NoError(t, err)
	require.Len(t, from.ever, ever, "a root was added where it is to be destroyed")
	require.NoError(t, s.FinishMove(ctx, from))
	neverIn(t, s, from)
	s, err = keystore.Open(ctx, backend, to, nil)
	require.NoError(t, err)
	text, err := open(ctx, s, bob, id, sealed)
	require.NoError(t, err)
	require.Equal(t, "Bob", text)
	keystoretest.Check(t, s)
}

// An advance keeps to the place that its record names, though somebody in its process goes
// by a record from before a move: a root that stood only where the move destroys all would
// take everybody with it.
func TestAnAdvanceKeepsToItsPlace(t *testing.T) {
	ctx := t.Context()
	backend := memstore.New()
	from, to := newSlowRoots("memory:from", 0, time.Now), newSlowRoots("memory:to", 0, time.Now)
	require.NoError(t, keystore.Create(ctx, backend, from, &keystore.CreateOptions{Shards: 32}))
	slow := func() error { return nil } // at the next Load
	hooked := &hookedRoots{inner: to, learn: func(keystore.Root) {}, call: func(name string, do func() error) error {
		if name == "Load" {
			now := slow
			slow = func() error { return nil }
			require.NoError(t, now())
		}
		return do()
	}}
	s, err := keystore.Open(ctx, backend, from, &keystore.Options{NextRoots: hooked})
	require.NoError(t, err)
	before := s.Slow(ctx)
	from.set(func() { from.delay = time.Hour }) // what it held stays there for a while
	require.ErrorIs(t, s.MoveRoots(ctx, hooked), keystore.ErrUnavailable)
	ever := len(from.ever)
	from.set(func() { from.leaving = false }) // as if nobody had come to that yet
	slow = before
	_, err = s.Erase(ctx, keystore.Request{Subject: subject(t, 1), Unknown: true})
	require.NoError(t, err)
	require.Len(t, from.ever, ever)
	require.Empty(t, from.dying[1:], "nor are roots destroyed there")
}
