package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/stretchr/testify/require"
)

// namedRoots is a root store in memory with a place of its own.
type namedRoots struct {
	keystore.RootStore
	url string
}

func (n namedRoots) Place() keystore.Place { return keystore.Place{URL: n.url, Class: "memory"} }

// A move of the root can die before and after each of its writes. Whoever comes next can
// open the keystore where the record says, loses nobody, is told of no final erasure
// while another place may hold the root, and can finish the move.
func TestCrashAtEveryWriteOfAMove(t *testing.T) {
	ctx := context.Background()
	killed := errors.New("killed")
	for _, mode := range []string{"lost", "unanswered"} {
		for n := 1; ; n++ {
			backend := memstore.New()
			from, to := newSlowRoots("memory:from", 0, time.Now), newSlowRoots("memory:to", 0, time.Now)
			require.NoError(t, keystore.Create(ctx, backend, from, &keystore.CreateOptions{Shards: 32}))
			left := 0
			call := func(name string, do func() error) error {
				switch name {
				case "Commit", "Create", "Remove", "Add", "Raise", "Destroy":
				default:
					return do()
				}
				if left == 0 {
					return do()
				}
				if left--; left > 0 {
					return do()
				}
				left = -1
				if mode == "unanswered" {
					require.NoError(t, do())
				}
				return killed
			}
			dead := func(name string, do func() error) error {
				if left < 0 {
					return killed
				}
				return call(name, do)
			}
			learn := func(keystore.Root) {}
			b := &hookedBackend{inner: backend, call: dead}
			hooked := func(r *slowRoots) keystore.RootStore { return &hookedRoots{inner: r, call: dead, learn: learn} }
			s, err := keystore.Open(ctx, b, hooked(from), nil)
			require.NoError(t, err)
			ann, bob := subject(t, 1), subject(t, 2)
			seal(t, s, ann, "", "Ann")
			bobID, bobText := seal(t, s, bob, "", "Bob")
			left = n
			err = s.MoveRoots(ctx, hooked(to))
			if left > 0 {
				require.NoError(t, err)
				require.Equal(t, 11, n, "writes of a move, and one more")
				neverIn(t, s, from)
				break
			}
			name := fmt.Sprintf("write %d %s", n, mode)
			require.ErrorIs(t, err, killed, name)

			here, other := from, to
			s, err = keystore.Open(ctx, backend, from, nil)
			if err != nil {
				require.ErrorContains(t, err, "memory:to", name)
				here, other = to, from
				s, err = keystore.Open(ctx, backend, to, nil)
			}
			require.NoError(t, err, name)
			text, err := open(ctx, s, bob, bobID, bobText)
			require.NoError(t, err, name)
			require.Equal(t, "Bob", text)
			es, err := s.Erase(ctx, keystore.Request{Subject: ann})
			require.NoError(t, err, name)
			_, elsewhere := other.Load(ctx)
			if elsewhere == nil {
				require.False(t, es[0].Final, "%s: %s still holds the root", name, other.url)
			}
			if !es[0].Final {
				h, err := s.Health(ctx)
				require.NoError(t, err)
				require.Equal(t, other.url, h.Moving)
				require.ErrorIs(t, s.MoveRoots(ctx, namedRoots{memstore.NewRoots(), "memory:third"}), keystore.ErrState)
				require.ErrorIs(t, s.FinishMove(ctx, here), keystore.ErrMismatch, "never the living root")
				if elsewhere == nil {
					require.NoError(t, s.FinishMove(ctx, other), name)
				} else { // nothing is there: a root store in files says the same and clears what is left
					require.NoError(t, s.FinishMove(ctx, emptied{other}), name)
				}
			}
			st, err := s.Status(ctx, ann)
			require.NoError(t, err)
			require.True(t, st[0].Final, name)
			_, err = other.Load(ctx)
			require.ErrorIs(t, err, keystore.ErrNotFound, name)
			neverIn(t, s, other)
			keystoretest.Check(t, s)
		}
	}
}

// neverIn checks that the keystore stands under a root that another place never held: what
// its disk keeps of the others opens nothing that is written from now on.
func neverIn(t *testing.T, s *keystore.Store, other *slowRoots) {
	t.Helper()
	h, err := s.Health(t.Context())
	require.NoError(t, err)
	require.Len(t, h.Roots, 1)
	require.NotContains(t, other.ever, h.Roots[0].ID)
}

// emptied is a root store whose removal succeeds where nothing is left.
type emptied struct{ keystore.RootStore }

func (emptied) Remove(context.Context) error { return nil }

func TestAMoveIsNotFinishedWithAnothersRoots(t *testing.T) {
	ctx := context.Background()
	backend, from := memstore.New(), namedRoots{memstore.NewRoots(), "memory:from"}
	require.NoError(t, keystore.Create(ctx, backend, from, nil))
	other := namedRoots{memstore.NewRoots(), "memory:to"}
	require.NoError(t, keystore.Create(ctx, memstore.New(), other, nil))
	s, err := keystore.Open(ctx, backend, from, nil)
	require.NoError(t, err)
	require.ErrorIs(t, s.MoveRoots(ctx, other), keystore.ErrExists)
	h, err := s.Health(ctx)
	require.NoError(t, err)
	require.Empty(t, h.Moving, "a move that could not begin leaves nothing to finish")
	require.NoError(t, s.FinishMove(ctx, other))
	_, err = other.Load(ctx)
	require.NoError(t, err, "another keystore's root is not touched")
}
