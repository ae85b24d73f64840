package rootkms_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/internal/oracle"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// whole is a keystore on a root store that stands on a service, and an attacker who keeps
// every record and every document that was ever written.
type whole struct {
	*world
	t        *testing.T
	place    *rootkms.Store
	mem      *memstore.Store
	backend  *fault.Backend
	store    *keystore.Store
	attacker *oracle.Attacker
	people   []keystore.Subject
}

func newWhole(t *testing.T, kind kmstest.Kind, grace time.Duration, plant func(rootkms.Keys) rootkms.Keys) *whole {
	k := &whole{world: newWorld(t, t.Context(), kind), t: t, mem: memstore.New(), attacker: oracle.NewAttacker()}
	k.place = k.at(k.world, plant)
	k.backend = fault.Wrap(k.mem)
	require.NoError(t, keystore.Create(t.Context(), k.backend, k.place, &keystore.CreateOptions{Grace: grace, Shards: 4}))
	k.open()
	for i := range 4 {
		sub, err := keystore.NewSubject("customer", fmt.Sprint(i+1))
		require.NoError(t, err)
		k.people = append(k.people, sub)
	}
	_, err := k.store.Ensure(t.Context(), nil, []string{""}, k.people...)
	require.NoError(t, err)
	return k
}

// at returns the root store of a world, which tells the attacker every root that is to live.
func (k *whole) at(w *world, plant func(rootkms.Keys) rootkms.Keys) *rootkms.Store {
	keys := w.svc.Keys()
	if plant != nil {
		keys = plant(keys)
	}
	learn := func(secret []byte) {
		sum := sha256.Sum256(secret)
		k.attacker.Root(keystore.Root{ID: keystore.RootID(sum[:16]), Key: keystore.Secret(secret)})
	}
	return rootkms.New(&hookedKeys{keys, passOn, learn}, &hookedShelf{w.shelf, passOn, w}, &rootkms.Options{Clock: k.clock})
}

func (k *whole) open() {
	var err error
	k.store, err = keystore.Open(k.t.Context(), k.backend, k.place, &keystore.Options{Clock: k.clock})
	require.NoError(k.t, err)
}

// reopen is another process on what is stored.
func (k *whole) reopen() {
	require.NoError(k.t, k.store.Close())
	k.use(k.mem.Snapshot())
	k.open()
}

// use has the keystore stand in m from now on.
func (k *whole) use(m *memstore.Store) {
	k.attacker.Write(k.backend.Attempted()...)
	k.mem, k.backend = m, fault.Wrap(m)
}

func (k *whole) erase(i int) keystore.Erasure {
	es, err := k.store.Erase(k.t.Context(), keystore.Request{Subject: k.people[i]})
	require.NoError(k.t, err)
	require.NoError(k.t, es[0].Err)
	return es[0]
}

// reachable tells of each person whether the attacker gets at their keys, who has all
// documents ever written to the shelves of worlds, and what their services store.
func (k *whole) reachable(worlds ...*world) (out []bool) {
	k.attacker.Write(k.backend.Attempted()...)
	var roots []keystore.Root
	for _, w := range worlds {
		for secret := range w.reached(w.svc) {
			roots = append(roots, keystore.Root{Key: secret})
		}
	}
	data := k.attacker.Reach(roots).Data
	for _, sub := range k.people {
		found := false
		for l := range data {
			found = found || l.Subject == sub.String()
		}
		out = append(out, found)
	}
	require.Empty(k.t, k.attacker.Faults())
	return out
}

// final tells whether the erasure of a person is.
func (k *whole) final(i int) bool {
	st, err := k.store.Status(k.t.Context(), k.people[i])
	require.NoError(k.t, err)
	return st[0].Final
}

func TestKeystore(t *testing.T) {
	for _, grace := range []time.Duration{0, 168 * time.Hour} {
		eachKind(t, func(t *testing.T, kind kmstest.Kind) {
			k := newWhole(t, kind, grace, nil)
			backup := k.mem.Snapshot()
			require.Equal(t, []bool{true, true, true, true}, k.reachable(k.world))
			at := k.clock()
			e := k.erase(0)
			require.Equal(t, grace == 0 && kind != kmstest.Scheduled, e.Final)
			wait := grace + k.place.Place().Delay
			if !e.Final {
				require.False(t, e.FinalAt.Before(at.Add(wait)), "final on %s, %s after the erasure", e.FinalAt, e.FinalAt.Sub(at))
			}
			k.pass(time.Hour)
			k.erase(1)
			for range 3 {
				k.reopen()
				reach := k.reachable(k.world)
				for i := range 2 {
					require.False(t, k.final(i) && reach[i], "the erasure of %s is final, and the attacker gets the key", k.people[i])
				}
				require.True(t, reach[2] && reach[3])
				k.pass(wait + time.Minute)
			}
			k.reopen()
			require.True(t, k.final(0) && k.final(1))
			require.Equal(t, []bool{false, false, true, true}, k.reachable(k.world))

			// A rehearsal beside it: living roots are wrapped anew where they are in the way.
			r, err := k.place.Rehearse(t.Context())
			require.NoError(t, err)
			require.Equal(t, kind != kmstest.Scheduled, r.Proven(), "%v", r)
			for _, step := range r.Steps {
				require.True(t, step.OK, step.What)
			}
			k.reopen()
			require.Equal(t, []bool{false, false, true, true}, k.reachable(k.world))

			_, err = keystore.Restore(t.Context(), backup, k.place, &keystore.Options{Clock: k.clock})
			require.ErrorIs(t, err, keystore.ErrMismatch, "the backup is dead")
		})
	}
}

func TestRestoreWithinGrace(t *testing.T) {
	eachKind(t, func(t *testing.T, kind kmstest.Kind) {
		k := newWhole(t, kind, 168*time.Hour, nil)
		backup := k.mem.Snapshot()
		k.erase(0)
		require.NoError(t, k.store.Close())
		_, err := keystore.Open(t.Context(), backup.Snapshot(), k.place, &keystore.Options{Clock: k.clock})
		require.ErrorIs(t, err, keystore.ErrBehind)
		k.use(backup)
		report, err := keystore.Restore(t.Context(), k.backend, k.place, &keystore.Options{Clock: k.clock})
		require.NoError(t, err)
		require.Equal(t, k.people[:1], report.Replayed)
		k.open()
		for range 3 {
			k.pass(168*time.Hour + delay)
			k.reopen()
		}
		require.True(t, k.final(0))
		require.Equal(t, []bool{false, true, true, true}, k.reachable(k.world))
	})
}

// Roots move from one service to another while the keystore lives; then the first holds
// nothing that opens anything.
func TestMove(t *testing.T) {
	k := newWhole(t, kmstest.Trimmed, 168*time.Hour, nil)
	k.erase(0)
	next := newWorld(t, t.Context(), kmstest.Single)
	to := k.at(next, nil)
	to = rootkms.New(to.Keys(), to.Shelf(), &rootkms.Options{Clock: k.clock, URL: "next:"})
	require.NoError(t, k.store.MoveRoots(t.Context(), to))
	require.Empty(t, k.reached(k.svc))
	_, err := k.place.Load(t.Context())
	require.ErrorIs(t, err, keystore.ErrNotFound)
	k.place = to
	k.reopen()
	k.erase(1)
	k.pass(169 * time.Hour)
	k.reopen()
	require.Equal(t, []bool{false, false, true, true}, k.reachable(k.world, next))
}

// lowering is a service whose limit is lowered and never trimmed; it says that keys are
// gone.
type lowering struct {
	rootkms.Keys
	svc *kmstest.Service
}

func (l *lowering) Destroy(_ context.Context, names []string) error {
	for _, name := range names {
		l.svc.Bar(name, true)
	}
	return nil
}

func (l *lowering) State(ctx context.Context, names []string) ([]rootkms.KeyState, error) {
	states, err := l.Keys.State(ctx, names)
	for i := range states {
		if states[i].Fate == rootkms.Barred {
			states[i].Fate = rootkms.Gone
		}
	}
	return states, err
}

func (l *lowering) Undo(_ context.Context, names []string) error {
	for _, name := range names {
		l.svc.Bar(name, false)
	}
	return nil
}

func TestAttackerCatchesWhatIsNotTrimmed(t *testing.T) {
	var low *lowering
	k := newWhole(t, kmstest.Trimmed, 0, func(keys rootkms.Keys) rootkms.Keys {
		low = &lowering{Keys: keys}
		return low
	})
	low.svc = k.svc
	require.True(t, k.erase(0).Final, "so the service says")
	require.True(t, k.reachable(k.world)[0])
	r, err := k.place.Rehearse(t.Context())
	require.NoError(t, err)
	require.False(t, r.Proven(), "the rehearsal catches it as well")
}

// unwary is a service that drops its oldest versions and does not say what is in the way.
type unwary struct{ rootkms.Keys }

func (unwary) Before(_, _ []string) []string { return nil }

func TestAttackerCatchesWhatIsNotWrappedAnew(t *testing.T) {
	k := newWhole(t, kmstest.Trimmed, 0, func(keys rootkms.Keys) rootkms.Keys { return unwary{keys} })
	require.Equal(t, []bool{true, true, true, true}, k.reachable(k.world))
	_, err := k.place.Rehearse(t.Context())
	require.ErrorContains(t, err, "none of the keys of living roots")
	require.Equal(t, []bool{false, false, false, false}, k.reachable(k.world), "those who live are lost")
	_, err = keystore.Open(t.Context(), k.mem.Snapshot(), k.place, nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "snapshot")
}

// What a keystore costs the service and the shelf: one unwrapping for each epoch and
// process, nothing for a read.
func TestCalls(t *testing.T) {
	k := newWhole(t, kmstest.Trimmed, 0, nil)
	shelf := map[string]int{}
	count := func(f func()) (service, docs map[string]int) {
		k.svc.Calls()
		clear(shelf)
		f()
		return k.svc.Calls(), shelf
	}
	k.place = rootkms.New(k.svc.Keys(), &hookedShelf{k.shelf, func(call string, do func() error) error { shelf[call]++; return do() }, k.world}, &rootkms.Options{Clock: k.clock})
	k.reopen()
	type calls = map[string]int
	for _, c := range []struct {
		name           string
		do             func()
		service, shelf calls
	}{
		{"open", k.reopen, calls{"Unwrap": 1}, calls{"Get": 1}},
		{"read", func() {
			_, err := k.store.Lookup(t.Context(), nil, k.people...)
			require.NoError(t, err)
		}, calls{}, calls{}},
		{"first erasure of a process", func() { k.erase(0) }, calls{"Check": 1, "Make": 1, "Wrap": 1, "Destroy": 1, "State": 1}, calls{"Get": 10, "Put": 5}},
		{"erasure", func() { k.erase(1) }, calls{"Make": 1, "Wrap": 1, "Destroy": 1, "State": 1}, calls{"Get": 10, "Put": 5}},
		{"advance with nothing to do", func() { require.NoError(t, k.store.Advance(t.Context())) }, calls{}, calls{"Get": 1}},
		{"rehearsal", func() {
			_, err := k.place.Rehearse(t.Context())
			require.NoError(t, err)
		}, calls{"Check": 1, "Make": 2, "Wrap": 2, "Unwrap": 4, "Destroy": 1, "State": 2, "Undo": 1}, calls{"Get": 4, "Put": 3}},
	} {
		service, docs := count(c.do)
		t.Logf("%s: %v %v", c.name, service, docs)
		require.Equal(t, c.service, service, c.name)
		require.Equal(t, c.shelf, docs, c.name)
	}
}
