package rootkms_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

func TestLoadGivesOnlyNamedKeys(t *testing.T) {
	eachKind(t, func(t *testing.T, kind kmstest.Kind) {
		w := newWorld(t, t.Context(), kind)
		s := w.create(3)
		w.svc.Calls()
		c, err := s.Load(t.Context(), w.roots[1].ID, keystore.RootID{9})
		require.NoError(t, err)
		require.Equal(t, w.store, c.Store)
		require.Equal(t, map[string]int{"Unwrap": 1}, w.svc.Calls())
		for i, r := range w.roots {
			if i != 1 {
				r.Key = keystore.Secret{}
			}
			require.Equal(t, r, c.Living[i])
		}
	})
}

func TestPlace(t *testing.T) {
	svc := kmstest.NewService(kmstest.Scheduled, delay, nil)
	p := rootkms.New(svc.Keys(), newShared(), &rootkms.Options{Copies: time.Hour}).Place()
	require.Equal(t, keystore.Place{URL: "fake:?shelf=memory:", Class: keystore.ClassScheduled, Delay: delay + time.Hour}, p)
	p = rootkms.New(svc.Keys(), newShared(), &rootkms.Options{URL: "own:form"}).Place()
	require.Equal(t, "own:form", p.URL)
}

func TestDestroyedIdsNeverComeBack(t *testing.T) {
	w := newWorld(t, t.Context(), kmstest.Single)
	s := w.create(2)
	never := w.root()
	require.NoError(t, s.Destroy(t.Context(), []keystore.RootID{w.roots[0].ID, never.ID}))
	for _, r := range []keystore.Root{w.roots[0], never} {
		require.ErrorIs(t, s.Add(t.Context(), r), keystore.ErrMismatch)
	}
	require.NoError(t, s.Add(t.Context(), w.roots[1]), "twice is once")
	other := w.roots[1]
	rand.Read(other.Key[:])
	require.ErrorIs(t, s.Add(t.Context(), other), keystore.ErrMismatch)
	w.lives(w.roots[1])

	var many []keystore.RootID
	for i := range 1100 {
		many = append(many, keystore.RootID{5, byte(i >> 8), byte(i)})
	}
	require.NoError(t, s.Destroy(t.Context(), many))
	c, err := s.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, many[1100-1024:], c.Destroyed)
}

// A root that is dying does not live, and can't be added again.
func TestScheduled(t *testing.T) {
	w := newWorld(t, t.Context(), kmstest.Scheduled)
	s := w.create(2)
	ids := []keystore.RootID{w.roots[0].ID}
	asked := w.clock()
	require.NoError(t, s.Destroy(t.Context(), ids))
	dying := func() []keystore.Dying {
		c, err := s.Load(t.Context(), ids...)
		require.NoError(t, err)
		require.Len(t, c.Living, 1)
		require.NotContains(t, c.Destroyed, ids[0])
		return c.Dying
	}
	require.Equal(t, []keystore.Dying{{ID: ids[0], Until: asked.Add(delay).UTC()}}, dying())
	require.ErrorIs(t, s.Add(t.Context(), w.roots[0]), keystore.ErrMismatch)

	w.pass(delay - time.Second)
	require.NoError(t, s.Destroy(t.Context(), ids))
	require.Equal(t, asked.Add(delay).UTC(), dying()[0].Until, "it goes on, it does not begin anew")

	w.svc.Cancel()
	require.NoError(t, s.Destroy(t.Context(), ids))
	until := w.clock().Add(delay).UTC()
	require.Equal(t, until, dying()[0].Until, "it was taken back, and begun anew")

	w.pass(delay - time.Second)
	w.svc.Cancel()
	w.svc.Bar("1", true)
	require.NoError(t, s.Destroy(t.Context(), ids))
	require.True(t, dying()[0].Until.After(until), "disabled is not dying")

	w.pass(delay)
	require.Len(t, dying(), 1, "nobody has seen that it is gone")
	require.NoError(t, s.Destroy(t.Context(), ids))
	w.dead(w.roots[0])
	w.lives(w.roots[1])
}

// While copies of the service's storage are kept, a key that is gone can come back.
func TestCopies(t *testing.T) {
	eachKind(t, func(t *testing.T, kind kmstest.Kind) {
		w := newWorld(t, t.Context(), kind)
		w.create(2)
		s := w.open(passOn, 30*24*time.Hour)
		dead := w.roots[0]
		ids := []keystore.RootID{dead.ID}
		destroy := func() keystore.RootContents {
			require.NoError(t, s.Destroy(t.Context(), ids))
			c, err := s.Load(t.Context())
			require.NoError(t, err)
			return c
		}
		snapshot := w.svc.Snapshot()
		require.Equal(t, w.clock().Add(s.Place().Delay).UTC(), destroy().Dying[0].Until)
		w.pass(s.Place().Delay - 30*24*time.Hour)
		gone := w.clock()
		require.Equal(t, gone.Add(30*24*time.Hour).UTC(), destroy().Dying[0].Until)

		w.pass(29 * 24 * time.Hour)
		w.svc.Restore(snapshot)
		require.True(t, w.reached(w.svc)[dead.Key], "so it is with copies")
		w.pass(time.Hour)
		c := destroy()
		require.True(t, c.Dying[0].Until.After(gone.Add(58*24*time.Hour)), "it came back, and begins anew")
		w.pass(s.Place().Delay)
		destroy()
		w.pass(30 * 24 * time.Hour)
		require.Empty(t, destroy().Dying)
		w.dead(dead)
		w.lives(w.roots[1])
	})
}

// A key that is gone or disabled by mistake is a loss, never an erasure: the error says
// which epochs are lost and what would help.
func TestLostKeys(t *testing.T) {
	eachKind(t, func(t *testing.T, kind kmstest.Kind) {
		w := newWorld(t, t.Context(), kind)
		s := w.create(3)
		load := func(i int) error { _, err := s.Load(t.Context(), w.roots[i].ID); return err }
		never := func(err error) {
			require.ErrorIs(t, err, keystore.ErrUnavailable)
			for _, no := range []error{keystore.ErrErased, keystore.ErrNotFound, keystore.ErrMismatch, keystore.ErrTampered} {
				require.NotErrorIs(t, err, no)
			}
		}
		snapshot := w.svc.Snapshot()
		w.svc.Lose("1")
		w.svc.Lose("2")
		err := load(1)
		never(err)
		for _, text := range []string{w.roots[1].ID.String(), "epoch 2", "key 2", "epochs 1 (key 1), 2 (key 2)", "snapshot"} {
			require.ErrorContains(t, err, text)
		}
		require.NoError(t, load(2))
		w.svc.Restore(snapshot)
		require.NoError(t, load(1))

		w.svc.Bar("2", true)
		err = load(1)
		never(err)
		require.ErrorContains(t, err, "disabled the keys of the living epochs 2 (key 2): enable")
		err = s.Destroy(t.Context(), []keystore.RootID{w.roots[2].ID})
		if kind == kmstest.Trimmed {
			never(err) // it can come back, so it must not be trimmed away
			require.ErrorContains(t, err, "stands in the way")
		} else {
			require.NoError(t, err)
		}
		w.svc.Bar("2", false)
		require.NoError(t, load(1))

		w.svc.Lose("1") // what is lost is in nobody's way
		w.pass(delay)
		require.NoError(t, s.Destroy(t.Context(), []keystore.RootID{w.roots[2].ID}))
		w.pass(delay)
		require.NoError(t, s.Destroy(t.Context(), nil))
		w.dead(w.roots[2])
		w.lives(w.roots[1])
	})
}

// What stands on the shelf belongs to this keystore, root and key.
func TestAltered(t *testing.T) {
	w := newWorld(t, t.Context(), kmstest.Single)
	s := w.create(1)
	get := func(s rootkms.Shelf) ([]byte, string) {
		b, rev, err := s.Get(t.Context(), "head")
		require.NoError(t, err)
		return b, rev
	}
	mine, rev := get(w.shelf)
	load := func(doc []byte) error {
		var err error
		rev, err = w.shelf.Put(t.Context(), "head", doc, rev)
		require.NoError(t, err)
		_, err = s.Load(t.Context(), w.roots[0].ID)
		return err
	}
	flipped := slices.Clone(mine)
	flipped[60] ^= 1
	require.ErrorIs(t, load(flipped), keystore.ErrTampered)
	require.ErrorIs(t, load(mine[:40]), keystore.ErrTampered)
	newer := slices.Clone(mine)
	newer[9] = 9
	require.ErrorContains(t, load(newer), "newer version 9: use a newer oubli")
	require.ErrorIs(t, load(rootkms.WithStore(mine, keystore.StoreID{1})), keystore.ErrTampered, "another keystore's")
	require.ErrorIs(t, s.Create(t.Context(), keystore.RootContents{}), keystore.ErrExists)
	require.NoError(t, load(mine))

	require.NoError(t, s.Raise(t.Context(), keystore.Anchor{}, tombs(300, 240)))
	_, page, err := w.shelf.Get(t.Context(), "tombstones-0")
	require.NoError(t, err)
	require.NoError(t, w.shelf.Delete(t.Context(), "tombstones-0", page))
	_, err = w.open(passOn, 0).Load(t.Context())
	require.ErrorIs(t, err, keystore.ErrTampered)
	require.ErrorContains(t, err, "tombstones-0")
}

func TestAnchorNeverGoesDown(t *testing.T) {
	w := newWorld(t, t.Context(), kmstest.Single)
	s := w.create(1)
	high := keystore.Anchor{Epoch: 5, Advances: 6, Counters: []uint64{1, 9, 3}, LedgerSize: 4, LedgerHead: [32]byte{4}}
	require.NoError(t, s.Raise(t.Context(), high, nil))
	require.NoError(t, s.Raise(t.Context(), keystore.Anchor{Epoch: 1, Advances: 9, Counters: []uint64{7}, LedgerSize: 3, LedgerHead: [32]byte{3}}, nil))
	c, err := s.Load(t.Context())
	require.NoError(t, err)
	high.Advances, high.Counters = 9, []uint64{7, 9, 3}
	require.Equal(t, high, c.Anchor)
}

func TestManyTombstones(t *testing.T) {
	w := newWorld(t, t.Context(), kmstest.Single)
	s := w.create(1)
	ts := tombs(12000, 120)
	for i := 0; i < len(ts); i += 3000 {
		require.NoError(t, s.Raise(t.Context(), keystore.Anchor{}, ts[max(0, i-10):i+3000]), "what stands there already counts once")
	}
	fresh := w.open(passOn, 0)
	c, err := fresh.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, ts, c.Tombstones)
	for name, docs := range w.written {
		for _, b := range docs {
			require.LessOrEqual(t, len(b), 160<<10, name)
		}
	}
	w.mu.Lock()
	pages := len(w.written) - 1
	w.mu.Unlock()
	for _, upTo := range []uint64{5000, 5100, 11900, 12000} {
		require.NoError(t, fresh.Trim(t.Context(), func(t keystore.Tombstone) bool { return t.Counter <= upTo }))
		c, err = w.open(passOn, 0).Load(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, len(c.Tombstones), 2*len(ts[upTo:]), "less than half of a page is done with")
		require.Equal(t, ts[upTo:], append([]keystore.Tombstone{}, c.Tombstones[len(c.Tombstones)-len(ts[upTo:]):]...))
	}
	for n := range pages + 4 {
		_, rev, err := w.shelf.Get(t.Context(), fmt.Sprintf("tombstones-%d", n))
		require.NoError(t, err)
		require.Empty(t, rev, "page %d is left", n)
	}
	require.ErrorIs(t, s.Raise(t.Context(), keystore.Anchor{}, []keystore.Tombstone{{}}), keystore.ErrInvalid)
}

// ordered is a service that says that older keys are in the way, and does not destroy them
// by itself.
type ordered struct {
	rootkms.Keys
	like rootkms.Keys
}

func (o *ordered) Before(living, dead []string) []string { return o.like.Before(living, dead) }

// A root that was wrapped anew leaves a key behind that wrapped it before: that goes as well.
func TestFormerKeysAreDestroyed(t *testing.T) {
	w := newWorld(t, t.Context(), kmstest.Single)
	w.create(2)
	s := rootkms.New(&ordered{w.svc.Keys(), kmstest.NewService(kmstest.Trimmed, 0, nil).Keys()}, &hookedShelf{w.shelf, passOn, w}, &rootkms.Options{Clock: w.clock})
	require.NoError(t, s.Destroy(t.Context(), []keystore.RootID{w.roots[1].ID}))
	w.lives(w.roots[0])
	require.Equal(t, []string{"3"}, w.svc.Names())
}

// idle is a service that is asked to destroy and does nothing.
type idle struct{ rootkms.Keys }

func (idle) Destroy(context.Context, []string) error { return nil }

func TestWhatIsNotDestroyedIsNamed(t *testing.T) {
	w := newWorld(t, t.Context(), kmstest.Single)
	w.create(2)
	s := rootkms.New(idle{w.svc.Keys()}, w.shelf, &rootkms.Options{Clock: w.clock})
	err := s.Destroy(t.Context(), []keystore.RootID{w.roots[0].ID})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "key 1 of root "+w.roots[0].ID.String()+" of epoch 1 is living")
	c, err := s.Load(t.Context())
	require.NoError(t, err)
	require.Len(t, c.Dying, 1)
	require.Empty(t, c.Destroyed)
	r, err := s.Rehearse(t.Context())
	require.NoError(t, err)
	require.False(t, r.Proven())
}

// A service that does not destroy is refused before a root is trusted to it.
func TestMiswired(t *testing.T) {
	w := newWorld(t, t.Context(), kmstest.Trimmed)
	w.svc.Misconfigure("keys can be exported")
	err := w.open(passOn, 0).Create(t.Context(), keystore.RootContents{Store: w.store, Living: []keystore.Root{w.root()}})
	require.ErrorIs(t, err, keystore.ErrMismatch)
	w.svc.Misconfigure("")
	s := w.create(1)
	require.NoError(t, s.Add(t.Context(), w.root()))
	w.svc.Misconfigure("keys can be exported")
	require.NoError(t, s.Add(t.Context(), w.root()), "it is asked once an hour")
	w.pass(2 * time.Hour)
	require.ErrorIs(t, s.Add(t.Context(), w.root()), keystore.ErrMismatch)
	require.NoError(t, s.Destroy(t.Context(), []keystore.RootID{w.roots[1].ID}), "what can be destroyed is")
}

// A root store that was given up takes nothing any more.
func TestGivenUp(t *testing.T) {
	w := newWorld(t, t.Context(), kmstest.Scheduled)
	s := w.create(2)
	err := s.Remove(t.Context())
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, w.clock().Add(delay).UTC().Format(time.RFC3339))
	c, err := s.Load(t.Context())
	require.NoError(t, err)
	require.Empty(t, c.Living)
	require.Len(t, c.Dying, 2)
	require.ErrorIs(t, s.Add(t.Context(), w.root()), keystore.ErrMismatch)
	require.ErrorIs(t, s.Destroy(t.Context(), nil), keystore.ErrMismatch)
	require.ErrorIs(t, s.Raise(t.Context(), keystore.Anchor{}, nil), keystore.ErrMismatch)
	require.ErrorIs(t, s.Create(t.Context(), keystore.RootContents{}), keystore.ErrExists)
}

func TestOutagesReadAsOutages(t *testing.T) {
	w := newWorld(t, t.Context(), kmstest.Trimmed)
	w.create(2)
	s := w.open(func(string, func() error) error { return errAway }, 0)
	_, loadErr := s.Load(t.Context(), w.roots[0].ID)
	_, rehearseErr := s.Rehearse(t.Context())
	for _, err := range []error{loadErr, rehearseErr, s.Add(t.Context(), w.root()), s.Destroy(t.Context(), nil), s.Raise(t.Context(), keystore.Anchor{}, nil),
		s.Trim(t.Context(), nil), s.Remove(t.Context()), s.Create(t.Context(), keystore.RootContents{})} {
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.NotErrorIs(t, err, keystore.ErrNotFound)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("given up"))
	_, err := w.open(passOn, 0).Load(ctx)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
}
