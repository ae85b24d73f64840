package keystore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// One process moves the root while another erases, advances and destroys: before each of
// the first one's calls all of the other's, and the other way round. No root that is
// needed is lost, none that may live counts as destroyed. From the move on the other goes
// on at the new place if it was told of it, without an error; else it refuses and names it.
func TestAMoveBesideAnErasure(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Hour} {
		for _, inner := range []string{"move", "erase"} {
			for _, told := range []bool{false, true} {
				calls := 0
				for beside(t, inner, grace, told, calls+1) {
					calls++
				}
				require.Greater(t, calls, 20)
			}
		}
	}
}

// beside tells whether the outer process made that many calls.
func beside(t *testing.T, inner string, grace time.Duration, told bool, call int) bool {
	from, to := namedRoots{memstore.NewRoots(), "memory:from"}, namedRoots{memstore.NewRoots(), "memory:to"}
	c := &cluster{t: t, roots: from, db: memstore.New(), ears: map[*process]func(){}, mute: true}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c.ctx = ctx
	require.NoError(t, keystore.Create(ctx, &process{c: c}, from, &keystore.CreateOptions{Shards: 2, Grace: grace, Lease: long}))
	now := time.Now()
	clock := func() time.Time { return now }

	var step func(name string)
	outer := func(_ context.Context, name string, do func() error) error { step(name); return do() }
	mover, eraser := c.closed(), c.closed()
	start := func(p *process, roots, next keystore.RootStore) *keystore.Store {
		s, err := p.openWith(roots, &keystore.Options{Clock: clock, NextRoots: next})
		require.NoError(t, err)
		t.Cleanup(func() { s.Close() })
		return s
	}
	learn := func(keystore.Root) {}
	hooked := func(r keystore.RootStore, is bool) keystore.RootStore {
		return &hookedRoots{inner: r, learn: learn, call: func(name string, do func() error) error {
			if is {
				step(name)
			}
			return do()
		}}
	}
	step = func(string) {}
	mover.store = start(mover, hooked(from, inner == "erase"), nil)
	var next keystore.RootStore
	if told {
		next = hooked(to, inner == "move")
	}
	eraser.store = start(eraser, hooked(from, inner == "move"), next)
	ann, bob, carl := subject(t, 1), subject(t, 2), subject(t, 3)
	seal(t, eraser.store, ann, "", "Ann")
	bobID, bobSealed := seal(t, eraser.store, bob, "", "Bob")
	seal(t, eraser.store, carl, "", "Carl")

	var moveErr, eraseErr error
	var es []keystore.Erasure
	move := func() { moveErr = mover.store.MoveRoots(ctx, hooked(to, inner == "erase")) }
	erase := func() { es, eraseErr = eraser.erase(ann) }
	first, second := move, erase
	if inner == "move" {
		first, second = erase, move
		eraser.through(func(ctx context.Context, name string, do func() error) error {
			return eraser.hurried(ctx, name, func() error { return outer(ctx, name, do) })
		})
	} else {
		mover.through(outer)
		eraser.through(eraser.hurried)
	}
	calls, met := 0, ""
	step = func(name string) {
		if calls++; calls == call {
			met = name
			second()
		}
	}
	first()
	if met == "" {
		return false
	}
	step = func(string) {}
	at := func() string { return inner + " before call " + met }

	// Whoever starts now finds the root where the record says, and it is all there is.
	here, gone := from, to
	if moveErr == nil {
		here, gone = to, from
	} else {
		require.True(t, errors.Is(moveErr, keystore.ErrConflict), "%s: %v", at(), moveErr)
	}
	_, err := gone.Load(ctx)
	require.ErrorIs(t, err, keystore.ErrNotFound, at())
	third := c.closed()
	third.through(third.hurried)
	third.store = start(third, here, nil)
	text, err := open(ctx, third.store, bob, bobID, bobSealed)
	require.NoError(t, err, at())
	require.Equal(t, "Bob", text)
	st, err := third.store.Status(ctx, ann)
	require.NoError(t, err, at())
	if eraseErr == nil {
		require.Equal(t, keystore.StateErased, st[0].State, at())
		require.False(t, es[0].Final && !st[0].Final, "%s: final too early", at())
	} else {
		require.False(t, told, "%s: %v", at(), eraseErr)
		require.NoError(t, moveErr, "%s: %v", at(), eraseErr)
		require.ErrorIs(t, eraseErr, keystore.ErrMismatch, at())
		require.ErrorContains(t, eraseErr, "memory:to", at())
	}
	if told {
		require.NoError(t, eraser.store.Advance(ctx), at())
		text, err := open(ctx, eraser.store, bob, bobID, bobSealed)
		require.NoError(t, err, at())
		require.Equal(t, "Bob", text)
		_, err = eraser.store.Health(ctx)
		require.NoError(t, err, at())
	} else if moveErr == nil {
		for what, err := range map[string]error{
			"advance": eraser.store.Advance(ctx),
			"erase":   failure(eraser.erase(carl)),
			"move":    eraser.store.MoveRoots(ctx, namedRoots{memstore.NewRoots(), "memory:third"}),
			"status":  failure(eraser.store.Status(ctx, ann)),
			"health":  failure(eraser.store.Health(ctx)),
		} {
			require.ErrorIs(t, err, keystore.ErrMismatch, "%s: %s", at(), what)
			require.ErrorContains(t, err, "memory:to", at())
		}
	}
	// All that waits becomes final in the end, and nothing else was lost.
	for range 2 {
		require.NoError(t, third.store.Advance(ctx), at())
		now = now.Add(grace)
	}
	// What lost is superseded with the next. Whom this process has not met it waits for.
	last := []keystore.Request{{Subject: carl}, {Subject: ann}, {Subject: subject(t, 4), Unknown: true}}
	third.heal()
	for wait := 20 * time.Millisecond; err == nil || !strings.Contains(err.Error(), "what was changed stands"); wait *= 2 {
		brief, cancel := context.WithTimeout(ctx, wait)
		_, err = third.store.Erase(brief, last...)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded, at())
	}
	third.pass(long)
	_, err = third.store.Erase(ctx, last...)
	require.NoError(t, err, at())
	now = now.Add(grace)
	require.NoError(t, third.store.Advance(ctx), at())
	st, err = third.store.Status(ctx, ann, carl)
	require.NoError(t, err)
	require.True(t, st[0].Final && st[1].Final, at())
	roots, err := here.Load(ctx)
	require.NoError(t, err)
	require.Len(t, roots.Living, 1, at())
	text, err = open(ctx, third.store, bob, bobID, bobSealed)
	require.NoError(t, err, at())
	require.Equal(t, "Bob", text)
	return true
}

func failure[T any](_ T, err error) error { return err }
