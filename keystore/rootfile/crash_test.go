package rootfile

import (
	"bytes"
	"context"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// crashCase is one operation, run on a root store that holds a, b, and two tombstones.
type crashCase struct {
	name  string
	fresh bool // there is no root store yet
	run   func(s *Store) error
	// after checks what a fresh Store finds after the crash; confirmed: the operation
	// had answered that it was done.
	after func(t *testing.T, s *Store, confirmed bool)
	// done checks what stands once the operation was run again.
	done func(t *testing.T, s *Store, ps []string)
}

// TestCrashAtEveryFileOperation lets the process die at each file operation of each
// change, before it, after it, and in the middle of a write.
func TestCrashAtEveryFileOperation(t *testing.T) {
	ctx := context.Background()
	a, b, c := newRoot(1), newRoot(2), newRoot(3)
	up := keystore.Anchor{Epoch: 9, Advances: 8, Counters: []uint64{1, 2, 3}}
	first, second, third := tombstone(t, 0), tombstone(t, 1), tombstone(t, 2)
	initial := contents(a, b)
	initial.Tombstones = []keystore.Tombstone{first, second}
	final := func(ts keystore.Tombstone) bool { return ts.Event == first.Event }
	living := func(t *testing.T, s *Store) []keystore.Root { return load(t, s).Living }

	for _, tc := range []crashCase{
		{
			name: "create", fresh: true,
			run: func(s *Store) error { return s.Create(ctx, initial) },
			after: func(t *testing.T, s *Store, confirmed bool) {
				got, err := s.Load(ctx)
				if confirmed {
					require.NoError(t, err)
				}
				if err == nil {
					require.Equal(t, initial.Living, got.Living)
					require.Equal(t, initial.Tombstones, got.Tombstones)
				}
			},
			done: func(t *testing.T, s *Store, ps []string) { require.Equal(t, initial.Living, living(t, s)) },
		},
		{
			name: "add",
			run:  func(s *Store) error { return s.Add(ctx, c) },
			after: func(t *testing.T, s *Store, confirmed bool) {
				got := living(t, s)
				require.Equal(t, []keystore.Root{a, b}, got[:2])
				if confirmed || len(got) > 2 {
					require.Equal(t, []keystore.Root{c}, got[2:])
				}
			},
			done: func(t *testing.T, s *Store, ps []string) { require.Equal(t, []keystore.Root{a, b, c}, living(t, s)) },
		},
		{
			name: "destroy",
			run:  func(s *Store) error { return s.Destroy(ctx, []keystore.RootID{b.ID}) },
			after: func(t *testing.T, s *Store, confirmed bool) {
				contents := load(t, s)
				if slices.Contains(contents.Destroyed, b.ID) {
					require.False(t, bytes.Contains(everyByte(t, s.paths), b.Key[:]), "a root counts as destroyed, and a file beside still holds it")
				}
				got := contents.Living
				require.Equal(t, a, got[0])
				if confirmed {
					require.Equal(t, []keystore.Root{a}, got)
				} else if len(got) > 1 {
					require.Equal(t, []keystore.Root{b}, got[1:])
				}
			},
			done: func(t *testing.T, s *Store, ps []string) {
				got := load(t, s)
				require.Equal(t, []keystore.Root{a}, got.Living)
				require.Equal(t, []keystore.RootID{b.ID}, got.Destroyed)
				require.False(t, bytes.Contains(everyByte(t, ps), b.Key[:]), "the destroyed key is in a file")
				for _, p := range ps {
					for _, n := range names(t, p) {
						require.False(t, strings.Contains(n, oldInfix) || strings.Contains(n, newInfix), n)
					}
				}
				require.ErrorIs(t, s.Add(ctx, b), keystore.ErrMismatch)
			},
		},
		{
			name: "raise",
			run:  func(s *Store) error { return s.Raise(ctx, up, []keystore.Tombstone{third}) },
			after: func(t *testing.T, s *Store, confirmed bool) {
				got := load(t, s)
				require.Equal(t, initial.Tombstones, got.Tombstones[:2])
				if confirmed {
					require.Equal(t, up, got.Anchor)
					require.Equal(t, third, got.Tombstones[2])
				}
			},
			done: func(t *testing.T, s *Store, ps []string) {
				require.Equal(t, up, load(t, s).Anchor)
				require.Equal(t, []keystore.Tombstone{first, second, third}, load(t, s).Tombstones)
			},
		},
		{
			name: "trim",
			run:  func(s *Store) error { return s.Trim(ctx, final) },
			after: func(t *testing.T, s *Store, confirmed bool) {
				require.Contains(t, load(t, s).Tombstones, second)
			},
			done: func(t *testing.T, s *Store, ps []string) {
				require.Equal(t, []keystore.Tombstone{second}, load(t, s).Tombstones)
			},
		},
		{
			name: "remove",
			run:  func(s *Store) error { return s.Remove(ctx) },
			after: func(t *testing.T, s *Store, confirmed bool) {
				if got, err := s.Load(ctx); err == nil {
					require.Equal(t, initial.Living, got.Living)
				}
			},
			done: func(t *testing.T, s *Store, ps []string) {
				for _, p := range ps {
					require.Empty(t, names(t, p))
				}
			},
		},
	} {
		for mirrors := 1; mirrors <= 2; mirrors++ {
			for _, mode := range []string{lost, applied, torn} {
				// with a leftover there is an older file to write over
				for _, leftover := range []bool{false, true} {
					if leftover && (tc.fresh || tc.name == "raise" || tc.name == "trim") {
						continue // they do not touch it
					}
					t.Run(fmt.Sprintf("%s/%d/%s/leftover=%v", tc.name, mirrors, mode, leftover), func(t *testing.T) {
						t.Parallel()
						runs := crashEverywhere(t, tc, mirrors, mode, leftover, initial)
						require.Positive(t, runs)
					})
				}
			}
		}
	}
}

func crashEverywhere(t *testing.T, tc crashCase, mirrors int, mode string, leftover bool, initial keystore.RootContents) (runs int) {
	ctx := context.Background()
	prepare := func() []string {
		ps := paths(t, mirrors)
		if tc.fresh {
			return ps
		}
		s := open(t, ps, &testDisk{})
		first := initial
		if leftover {
			first.Living = initial.Living[:1]
		}
		require.NoError(t, s.Create(ctx, first))
		if leftover {
			require.NoError(t, s.Add(ctx, initial.Living[1]))
		}
		return ps
	}
	whole := &testDisk{}
	require.NoError(t, tc.run(open(t, prepare(), whole)))
	whole.close()
	for i, op := range whole.trace {
		if mode == torn && !strings.HasPrefix(op, "write ") {
			continue
		}
		runs++
		ps := prepare()
		d := &testDisk{failAt: i + 1, mode: mode}
		err := tc.run(open(t, ps, d))
		d.close()
		require.True(t, d.dead)
		again := open(t, ps, &testDisk{})
		tc.after(t, again, err == nil)
		err = tc.run(again)
		if tc.fresh && err != nil {
			// what a crash left of a new root is never overwritten, but can be removed
			require.ErrorIs(t, err, keystore.ErrExists)
			require.NoError(t, again.Remove(ctx))
			err = tc.run(again)
		}
		if err != nil {
			t.Fatalf("again after %s at %q: %v", mode, op, err)
		}
		tc.done(t, again, ps)
	}
	return runs
}

// TestDestroyedRootIsInNoInode runs random histories with crashes and keeps every inode
// open that was ever made: none may hold a root whose destruction was confirmed.
func TestDestroyedRootIsInNoInode(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(40) {
		rng := mrand.New(mrand.NewPCG(seed, 1))
		ps := paths(t, 1+int(seed%2))
		d := &testDisk{}
		current := newRoot(1)
		require.NoError(t, open(t, ps, d).Create(ctx, contents(current)))
		living := map[keystore.RootID]keystore.Root{current.ID: current}
		maybe := map[keystore.RootID]keystore.Root{} // added or destroyed, unconfirmed
		var gone []keystore.Root
		for i := range 40 {
			d.dead, d.failAt = false, 0
			if rng.IntN(3) == 0 {
				d.failAt, d.mode = d.ops+1+rng.IntN(25), []string{lost, applied, torn}[rng.IntN(3)]
			}
			s := open(t, ps, d)
			if rng.IntN(2) == 0 {
				r := newRoot(uint64(i + 2))
				if s.Add(ctx, r) == nil {
					living[r.ID] = r
				} else {
					maybe[r.ID] = r
				}
				continue
			}
			var ids []keystore.RootID
			var rs []keystore.Root
			for _, from := range []map[keystore.RootID]keystore.Root{living, maybe} {
				for id, r := range from {
					if id != current.ID && (rng.IntN(2) == 0 || len(maybe) > 3) {
						ids, rs = append(ids, id), append(rs, r)
						delete(from, id)
						maybe[id] = r
					}
				}
			}
			if s.Destroy(ctx, ids) == nil {
				gone = append(gone, rs...)
				for _, id := range ids {
					delete(maybe, id)
				}
			}
			all := d.inodeBytes(t)
			for _, r := range gone {
				require.False(t, bytes.Contains(all, r.Key[:]), "seed %d step %d: a destroyed key is in an inode", seed, i)
			}
			got := load(t, open(t, ps, nil)).Living
			for id, r := range living {
				require.True(t, slices.Contains(got, r), "seed %d step %d: root %s is lost", seed, i, id)
			}
			for _, r := range gone {
				require.NotContains(t, got, r)
			}
		}
		d.close()
	}
}
