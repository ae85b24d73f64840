package keystore_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
)

// slowWorld is a keystore whose roots take three days to destroy.
type slowWorld struct {
	t       *testing.T
	ctx     context.Context
	now     time.Time
	backend *memstore.Store
	roots   *slowRoots
	store   *keystore.Store
	logged  bytes.Buffer
}

const days = 24 * time.Hour

func newSlowWorld(t *testing.T, grace time.Duration) *slowWorld {
	w := &slowWorld{t: t, ctx: t.Context(), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), backend: memstore.New()}
	w.roots = newSlowRoots("memory:slow", 3*days, w.clock)
	require.NoError(t, keystore.Create(w.ctx, w.backend, w.roots, &keystore.CreateOptions{Grace: grace, Shards: 4}))
	w.store = w.open()
	return w
}

func (w *slowWorld) clock() time.Time { return w.now }

func (w *slowWorld) open() *keystore.Store {
	w.t.Helper()
	s, err := keystore.Open(w.ctx, w.backend, w.roots, &keystore.Options{Clock: w.clock, Logger: slog.New(slog.NewTextHandler(&w.logged, nil))})
	require.NoError(w.t, err)
	return s
}

func (w *slowWorld) erase(n int) keystore.Erasure {
	w.t.Helper()
	es, err := w.store.Erase(w.ctx, keystore.Request{Subject: subject(w.t, n), Unknown: true})
	require.NoError(w.t, err)
	require.NoError(w.t, es[0].Err)
	return es[0]
}

func (w *slowWorld) status(n int) keystore.Status {
	w.t.Helper()
	st, err := w.store.Status(w.ctx, subject(w.t, n))
	require.NoError(w.t, err)
	return st[0]
}

func (w *slowWorld) advance() {
	w.t.Helper()
	require.NoError(w.t, w.store.Advance(w.ctx))
}

func (w *slowWorld) health() keystore.Health {
	w.t.Helper()
	h, err := w.store.Health(w.ctx)
	require.NoError(w.t, err)
	return h
}

// roles tells what the roots are, the oldest first.
func (w *slowWorld) roles() (list []string) {
	w.t.Helper()
	for _, r := range w.health().Roots {
		list = append(list, r.Role)
	}
	return list
}

// An erasure is final when its root is gone, not when that was asked for.
func TestADestructionThatTakesTime(t *testing.T) {
	w := newSlowWorld(t, time.Hour)
	seal(t, w.store, subject(t, 1), "", "Ann")
	began := w.now
	e := w.erase(1)
	require.False(t, e.Final)
	require.Equal(t, began.Add(time.Hour+3*days), e.FinalAt)
	h := w.health()
	require.Equal(t, "superseded", h.Roots[0].Role)
	require.Equal(t, began.Add(time.Hour+3*days), h.Roots[0].Dies)
	require.Zero(t, h.Overdue)
	require.Equal(t, w.roots.Place(), h.Root)

	// Nobody asks for ten hours: the delay counts from then.
	w.now = began.Add(11 * time.Hour)
	require.Equal(t, w.now.Add(3*days), w.status(1).FinalAt)
	h = w.health()
	require.Equal(t, 1, h.Overdue)
	require.True(t, h.Roots[0].Overdue)
	w.advance()
	asked := w.now
	st := w.status(1)
	require.False(t, st.Final)
	require.Equal(t, asked.Add(3*days), st.FinalAt)
	h = w.health()
	require.Equal(t, []string{"dying", "current"}, w.roles())
	require.Zero(t, h.Overdue)
	keystoretest.Check(t, w.store)

	// The service is done, and nobody has looked.
	w.now = asked.Add(3 * days)
	require.False(t, w.status(1).Final, "not confirmed")
	require.Equal(t, 1, w.health().Overdue)
	c, err := w.roots.Load(w.ctx)
	require.NoError(t, err)
	require.Len(t, c.Tombstones, 1, "a restore may still need it")
	w.advance()
	require.True(t, w.status(1).Final)
	require.Zero(t, w.status(1).FinalAt)
	require.Equal(t, []string{"current"}, w.roles())
	c, err = w.roots.Load(w.ctx)
	require.NoError(t, err)
	require.Empty(t, c.Tombstones)
	require.Len(t, w.roots.reach(w.ctx), 1)
	info, err := w.store.Info(w.ctx)
	require.NoError(t, err)
	require.Equal(t, 3*days, info.Root.Delay)
	keystoretest.Check(t, w.store)
}

// An administrator takes a destruction back: it is noticed and told, begins anew, and
// nothing is final in between.
func TestADestructionThatIsTakenBack(t *testing.T) {
	w := newSlowWorld(t, 0)
	seal(t, w.store, subject(t, 1), "", "Ann")
	began := w.now
	e := w.erase(1)
	require.Equal(t, began.Add(3*days), e.FinalAt)
	require.Equal(t, []string{"dying", "current"}, w.roles())
	w.roots.saveRoots()
	w.roots.counted()
	w.now = began.Add(30 * time.Minute)
	w.advance()
	require.Zero(t, w.roots.counted()["Destroy"], "a service is not asked all the time")
	require.Empty(t, w.logged.String())
	w.now = began.Add(2 * time.Hour)
	w.advance()
	require.Contains(t, w.logged.String(), "took back the destruction")
	require.Equal(t, w.now.Add(3*days), w.status(1).FinalAt)
	until := w.now.Add(3 * days)

	// At the last moment, by another process.
	w.now = until.Add(-time.Minute)
	w.roots.saveRoots()
	w.now = until
	w.store = w.open()
	require.False(t, w.status(1).Final)
	require.Len(t, w.roots.reach(w.ctx), 2)
	require.Equal(t, until.Add(3*days), w.status(1).FinalAt)
	w.now = until.Add(3 * days)
	w.advance()
	require.True(t, w.status(1).Final)
	require.Len(t, w.roots.reach(w.ctx), 1)
	w.erase(2)
	require.Len(t, w.health().Roots, 2, "what is gone has left the record")
}

// Many roots die at a time, each confirmed on its own, and what the later ones reach waits.
func TestRootsThatDieOneAfterTheOther(t *testing.T) {
	w := newSlowWorld(t, 0)
	for n := range 3 {
		w.erase(n + 1)
		w.now = w.now.Add(days)
	}
	require.Equal(t, []string{"dying", "dying", "dying", "current"}, w.roles())
	for n := range 3 {
		require.False(t, w.status(n+1).Final)
		w.advance()
		require.True(t, w.status(n+1).Final)
		require.Len(t, w.roots.reach(w.ctx), 3-n)
		w.now = w.now.Add(days)
	}
}

// A root that is dying and that no record names, such as one from a time line that was
// given up, counts as one that lives: somebody could take its destruction back.
func TestADyingRootThatNobodyNames(t *testing.T) {
	w := newSlowWorld(t, 0)
	stray := keystore.Root{ID: keystore.RootID{7}, Epoch: 2, Created: w.now, Key: keystore.Secret{7}}
	require.NoError(t, w.roots.Add(w.ctx, stray))
	require.NoError(t, w.roots.Destroy(w.ctx, []keystore.RootID{stray.ID}))
	require.Equal(t, []keystore.RootID{stray.ID}, w.health().Unnamed)
	w.now = w.now.Add(days)
	w.roots.saveRoots()
	began := w.now
	w.erase(1)
	w.now = began.Add(2*days + time.Hour) // the stray's time is over, had nobody taken it back
	w.advance()
	require.False(t, w.status(1).Final)
	require.Equal(t, began.Add(3*days), w.status(1).FinalAt)
	require.Equal(t, []string{"dying", "dying", "current"}, w.roles())
	require.Contains(t, w.roots.reach(w.ctx), stray.ID)
	w.now = began.Add(3 * days)
	w.advance()
	require.True(t, w.status(1).Final)
	require.NotContains(t, w.roots.reach(w.ctx), stray.ID)
}

// A copy whose root is dying does not open, and the error says why.
func TestACopyWhoseRootIsDying(t *testing.T) {
	w := newSlowWorld(t, 0)
	copied := w.backend.Snapshot()
	w.erase(1)
	for _, open := range []func() error{
		func() error { _, err := keystore.Open(w.ctx, copied, w.roots, nil); return err },
		func() error { _, err := keystore.Restore(w.ctx, copied, w.roots, nil); return err },
	} {
		err := open()
		require.ErrorIs(t, err, keystore.ErrMismatch)
		require.ErrorContains(t, err, "being destroyed")
	}
	r, err := keystore.InspectRoots(w.ctx, copied, w.roots, nil)
	require.NoError(t, err)
	require.Contains(t, r.Roots[0].Lost, "being destroyed")
	require.False(t, r.Trusted)
}

// When many are erased one by one, advances keep a distance from some number on: nobody
// waits for a whole grace and delay to be taken in, and the record stays small.
func TestAdvancesKeepADistance(t *testing.T) {
	w := newSlowWorld(t, 7*days)
	for n := range 90 {
		w.erase(n + 1)
		w.now = w.now.Add(time.Second)
	}
	h := w.health()
	require.Len(t, h.Roots, 65)
	require.Positive(t, h.Unadvanced)
	require.Zero(t, w.status(90).FinalAt)
	w.now = w.now.Add(10 * days / 64)
	w.advance()
	require.Zero(t, w.health().Unadvanced)
	require.Equal(t, w.now.Add(10*days), w.status(90).FinalAt)
	most, longest, waits := 0, 0, 0
	for n := range 12 * 11 { // an erasure every two hours for eleven days
		w.now = w.now.Add(2 * time.Hour)
		w.erase(1000 + n)
		h := w.health()
		most = max(most, len(h.Roots))
		if waits++; h.Unadvanced == 0 {
			waits = 0
		}
		longest = max(longest, waits)
	}
	require.LessOrEqual(t, most, 129)
	require.LessOrEqual(t, longest, 2, "erasures in a row that wait for their advance")
}
