package rootkms_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// A service that has none of the keys, those of living roots included, is another one, or
// has lost all: that it has not those of dying roots either tells nothing of them. It is so
// where a credential leads to another account.
func TestAnotherServiceConfirmsNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, kind kmstest.Kind) {
		w := newWorld(t, t.Context(), kind)
		s := w.create(2)
		dying := []keystore.RootID{w.roots[0].ID}
		away := true
		stopped := w.open(func(name string, do func() error) error {
			if name == "Destroy" && away {
				return errAway
			}
			return do()
		}, 0)
		require.ErrorIs(t, stopped.Destroy(t.Context(), dying), keystore.ErrUnavailable)
		for range 2 {
			other := rootkms.New(kmstest.NewService(kind, delay, w.clock).Keys(), &hookedShelf{w.shelf, passOn, w}, &rootkms.Options{Clock: w.clock})
			err := other.Destroy(t.Context(), dying)
			require.ErrorIs(t, err, keystore.ErrUnavailable)
			require.ErrorContains(t, err, "another service")
			c, err := s.Load(t.Context())
			require.NoError(t, err)
			require.Empty(t, c.Destroyed)
			require.Len(t, c.Dying, 1)
		}
		away = false
		require.NoError(t, stopped.Destroy(t.Context(), dying))
		w.pass(delay)
		require.NoError(t, stopped.Destroy(t.Context(), dying))
		w.dead(w.roots[0])
		w.lives(w.roots[1])
	})
}

// Processes that died between a page and the head have left pages behind, more than anybody
// looks past at once.
func TestPagesThatNobodyNamed(t *testing.T) {
	w := newWorld(t, t.Context(), kmstest.Single)
	s := w.create(1)
	written := false
	dying := w.open(func(name string, do func() error) error {
		if name == "Put" {
			if written { // the head, after a page
				return errAway
			}
			err := do()
			written = err == nil
			return err
		}
		return do()
	}, 0)
	many := tombs(300, 240)
	for range 30 {
		written = false
		require.Error(t, dying.Raise(t.Context(), keystore.Anchor{}, many))
	}
	require.NoError(t, s.Raise(t.Context(), keystore.Anchor{}, many))
	c, err := w.open(passOn, 0).Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, many, c.Tombstones)
	require.NoError(t, s.Trim(t.Context(), func(keystore.Tombstone) bool { return true }))
	recs, err := w.shelf.b.Scan(t.Context(), []byte("dtomb"), []byte("dtomc"), 1000)
	require.NoError(t, err)
	require.Empty(t, recs, "garbage goes with the next trim")
}

// The write that fills a new place takes so long that Create gives up, and can't be undone
// either. Until somebody has looked the place counts as one that may hold roots.
func TestAPlaceThatIsFilledLate(t *testing.T) {
	w := newWorld(t, t.Context(), kmstest.Single)
	backend, from := memstore.New(), memstore.NewRoots()
	require.NoError(t, keystore.Create(t.Context(), backend, from, nil))
	s, err := keystore.Open(t.Context(), backend, from, nil)
	require.NoError(t, err)
	var late func() error
	puts := 0
	to := w.open(func(name string, do func() error) error {
		switch name {
		case "Put":
			if puts++; puts == 2 {
				late = do
				return errAway
			}
		case "Delete":
			return errAway
		}
		return do()
	}, 0)
	require.ErrorIs(t, s.MoveRoots(t.Context(), to), keystore.ErrUnavailable)
	require.NoError(t, late())
	c, err := to.Load(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, c.Living)
	h, err := s.Health(t.Context())
	require.NoError(t, err)
	require.Equal(t, to.Place().URL, h.Moving, "it holds a copy of the root")
	require.NoError(t, s.FinishMove(t.Context(), w.open(passOn, 0)))
	require.Empty(t, w.reached(w.svc))
}

// Two root stores over one key that has versions would destroy each other's: a move
// between them is refused before anything is written.
func TestAMoveWithinOneVersionedKey(t *testing.T) {
	eachKind(t, func(t *testing.T, kind kmstest.Kind) {
		w := newWorld(t, t.Context(), kind)
		place := func() rootkms.Shelf { return named{newShared(), unique(t)} }
		from := rootkms.New(w.svc.Keys(), place(), &rootkms.Options{Clock: w.clock})
		backend := memstore.New()
		require.NoError(t, keystore.Create(t.Context(), backend, from, nil))
		s, err := keystore.Open(t.Context(), backend, from, nil)
		require.NoError(t, err)
		puts := 0
		shelf := &hookedShelf{place(), func(name string, do func() error) error {
			if name == "Put" {
				if puts++; puts == 2 {
					return errAway
				}
			}
			return do()
		}, w}
		to := rootkms.New(w.svc.Keys(), shelf, &rootkms.Options{Clock: w.clock})
		err = s.MoveRoots(t.Context(), to)
		if kind == kmstest.Trimmed {
			require.ErrorIs(t, err, keystore.ErrMismatch)
			require.ErrorContains(t, err, "a key of its own")
			require.Zero(t, puts)
		} else {
			require.ErrorIs(t, err, keystore.ErrUnavailable)
		}
		_, err = keystore.Open(t.Context(), backend, from, nil)
		require.NoError(t, err, "the root is still there")
	})
}

// named is a shelf with a name of its own.
type named struct {
	*shared
	name string
}

func (n named) Name() string { return n.name }

func unique(t *testing.T) string {
	return strings.ReplaceAll(t.Name(), "/", "-") + time.Now().Format("05.000000000")
}

// What somebody learns of some keys says nothing of others, which another process has seen
// to be gone meanwhile: the time for which copies are kept does not begin anew.
func TestCopiesAreCountedOnce(t *testing.T) {
	const copies = 30 * 24 * time.Hour
	w := newWorld(t, t.Context(), kmstest.Single)
	w.create(3)
	destroy := func(call hook, n int) error {
		return w.open(call, copies).Destroy(t.Context(), []keystore.RootID{w.roots[n].ID})
	}
	require.NoError(t, destroy(func(name string, do func() error) error {
		err := do()
		if name == "State" {
			require.NoError(t, destroy(passOn, 1))
		}
		return err
	}, 0))
	w.pass(copies)
	require.NoError(t, w.open(passOn, copies).Destroy(t.Context(), nil))
	w.dead(w.roots[:2]...)
}

// generous is a service that gives the same key to two who ask at once.
type generous struct {
	rootkms.Keys
	last string
}

func (g *generous) Make(ctx context.Context, s keystore.StoreID, r keystore.RootID) (name string, err error) {
	if name, g.last = g.last, ""; name != "" {
		return name, nil
	}
	name, err = g.Keys.Make(ctx, s, r)
	g.last = name
	return name, err
}

// A key that is given to two wraps the root of one: what destroys that must not take the
// other along.
func TestAKeyForTwo(t *testing.T) {
	w := newWorld(t, t.Context(), kmstest.Single)
	w.create(1)
	keys := &generous{Keys: w.svc.Keys()}
	a, b := w.root(), w.root()
	beside := func() error {
		return rootkms.New(keys, &hookedShelf{w.shelf, passOn, w}, &rootkms.Options{Clock: w.clock}).Add(t.Context(), b)
	}
	puts := 0
	first := rootkms.New(keys, &hookedShelf{w.shelf, func(name string, do func() error) error {
		if name == "Put" {
			if puts++; puts == 1 { // it has its key, and writes it down too late
				require.NoError(t, beside())
			}
		}
		return do()
	}, w}, &rootkms.Options{Clock: w.clock})
	require.NoError(t, first.Add(t.Context(), a))
	require.NoError(t, w.open(passOn, 0).Destroy(t.Context(), []keystore.RootID{b.ID}))
	w.lives(w.roots[0], a)
	w.dead(b)
}

// A key comes back with a snapshot, is seen to be back, and is destroyed anew days later: the
// copies that count are those of that day.
func TestCopiesOfAKeyThatCameBack(t *testing.T) {
	const copies = 30 * 24 * time.Hour
	w := newWorld(t, t.Context(), kmstest.Single)
	w.create(2)
	destroy := func(call hook) error {
		return w.open(call, copies).Destroy(t.Context(), []keystore.RootID{w.roots[0].ID})
	}
	snapshot := w.svc.Snapshot()
	require.NoError(t, destroy(passOn))
	w.pass(24 * time.Hour)
	w.svc.Restore(snapshot)
	require.ErrorIs(t, destroy(func(name string, do func() error) error {
		if name == "Destroy" {
			return errAway
		}
		return do()
	}), keystore.ErrUnavailable)
	w.pass(5 * 24 * time.Hour)
	require.NoError(t, destroy(passOn))
	w.pass(copies - time.Hour)
	require.NoError(t, destroy(passOn))
	c, err := w.open(passOn, copies).Load(t.Context())
	require.NoError(t, err)
	require.Empty(t, c.Destroyed)
	w.pass(time.Hour)
	require.NoError(t, destroy(passOn))
	w.dead(w.roots[0])
}

// A rehearsal just before the end does not keep a place for as long as copies are kept.
func TestARehearsalKeepsNoPlace(t *testing.T) {
	const copies = 30 * 24 * time.Hour
	w := newWorld(t, t.Context(), kmstest.Single)
	w.create(1)
	s := w.open(passOn, copies)
	require.ErrorIs(t, s.Remove(t.Context()), keystore.ErrUnavailable)
	w = newWorld(t, t.Context(), kmstest.Single)
	w.create(1)
	s = w.open(passOn, copies)
	require.NoError(t, s.Destroy(t.Context(), []keystore.RootID{w.roots[0].ID}))
	w.pass(copies)
	_, err := s.Rehearse(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Remove(t.Context()))
	_, err = s.Load(t.Context())
	require.ErrorIs(t, err, keystore.ErrNotFound)
}
