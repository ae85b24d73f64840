package rootfile

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

var ctx = context.Background()

func TestContentsComeBack(t *testing.T) {
	for n := 1; n <= 3; n++ {
		ps := paths(t, n)
		a, b := newRoot(1), newRoot(2)
		want := contents(a, b)
		want.Destroyed = []keystore.RootID{{7}, {8}}
		want.Anchor = keystore.Anchor{Epoch: 4, Advances: 3, Counters: []uint64{5, 6}, LedgerSize: 2, LedgerHead: [32]byte{9}}
		want.Tombstones = []keystore.Tombstone{tombstone(t, 0), tombstone(t, 1)}
		s := open(t, ps, nil)
		require.NoError(t, s.Create(ctx, want))
		require.Equal(t, want, load(t, s))
		info, err := os.Stat(ps[0])
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

		require.NoError(t, s.Remove(ctx))
		_, err = s.Load(ctx)
		require.ErrorIs(t, err, keystore.ErrNotFound)
		require.NoError(t, s.Create(ctx, want), "a removed root leaves room for a new one")
	}
}

func TestSyncBudget(t *testing.T) {
	d := &testDisk{}
	ps := paths(t, 1)
	a := newRoot(1)
	s := open(t, ps, d)
	require.NoError(t, s.Create(ctx, contents(a)))
	d.syncs()
	old := a
	for i := range 5 {
		r := newRoot(uint64(i + 2))
		require.NoError(t, s.Add(ctx, r))
		require.LessOrEqual(t, d.syncs(), 2, "add")
		require.NoError(t, s.Raise(ctx, keystore.Anchor{Epoch: uint64(i)}, []keystore.Tombstone{tombstone(t, i)}))
		require.Equal(t, 1, d.syncs(), "raise")
		require.NoError(t, s.Trim(ctx, func(keystore.Tombstone) bool { return true }))
		require.Equal(t, 0, d.syncs(), "trim")
		require.NoError(t, s.Destroy(ctx, []keystore.RootID{old.ID}))
		trace := slices.Clone(d.trace)
		require.LessOrEqual(t, d.syncs(), 3, "destroy")
		requireWipedLast(t, trace)
		old = r
	}
}

// requireWipedLast checks the order that a loss of power needs: the new content synced
// before it takes the name, the name synced before the old content is overwritten.
func requireWipedLast(t *testing.T, trace []string) {
	t.Helper()
	var ops []string
	for _, op := range trace {
		switch what, name, _ := strings.Cut(op, " "); what {
		case "write", "fsync", "rename", "link":
			if what == "fsync" && name == "m0" {
				what = "fsync-dir"
			}
			ops = append(ops, what)
		}
	}
	require.Equal(t, []string{"write", "fsync", "link", "rename", "fsync-dir", "write", "fsync"}, ops)
}

func TestCreateOverwritesNothing(t *testing.T) {
	for _, name := range []string{"", anchorSuffix, oldInfix + "X"} {
		ps := paths(t, 2)
		there := ps[1] + name
		require.NoError(t, os.WriteFile(there, []byte("precious"), 0o600))
		s := open(t, ps, nil)
		require.ErrorIs(t, s.Create(ctx, contents(newRoot(1))), keystore.ErrExists)
		b, err := os.ReadFile(there)
		require.NoError(t, err)
		require.Equal(t, "precious", string(b))
		_, err = os.Stat(ps[0])
		require.ErrorIs(t, err, os.ErrNotExist)
	}
	err := open(t, []string{filepath.Join(t.TempDir(), "no", "oubli.root")}, nil).Create(ctx, contents())
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "does not exist")
}

func TestWhatIsWrongWithARootFile(t *testing.T) {
	edit := func(f func(b []byte) []byte) func(t *testing.T, p string) {
		return func(t *testing.T, p string) {
			b, err := os.ReadFile(p)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(p, f(b), 0o600))
		}
	}
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T, p string)
		is    error
		says  string
	}{
		{"missing", func(t *testing.T, p string) { require.NoError(t, os.Remove(p)) }, keystore.ErrNotFound, "missing"},
		{"empty", edit(func(b []byte) []byte { return nil }), keystore.ErrTampered, "empty"},
		{"cut", edit(func(b []byte) []byte { return b[:len(b)-1] }), keystore.ErrTampered, "cut short"},
		{"cut to a stump", edit(func(b []byte) []byte { return b[:5] }), keystore.ErrTampered, "cut short"},
		{"altered", edit(func(b []byte) []byte { b[100] ^= 1; return b }), keystore.ErrTampered, "altered"},
		{"longer", edit(func(b []byte) []byte { return append(b, 0) }), keystore.ErrTampered, "altered"},
		{"newer", edit(func(b []byte) []byte { b[9] = 2; return b }), keystore.ErrTampered, "newer version"},
		{"not a root", edit(func(b []byte) []byte { return []byte(strings.Repeat("hello\n", 100)) }), keystore.ErrTampered, "does not begin like one"},
		{"readable by others", func(t *testing.T, p string) { require.NoError(t, os.Chmod(p, 0o644)) }, keystore.ErrInvalid, "chmod 600"},
		{"a folder", func(t *testing.T, p string) {
			require.NoError(t, os.Remove(p))
			require.NoError(t, os.Mkdir(p, 0o700))
		}, keystore.ErrInvalid, "regular file"},
		{"a link", func(t *testing.T, p string) {
			require.NoError(t, os.Rename(p, p+"x"))
			require.NoError(t, os.Symlink(p+"x", p))
		}, keystore.ErrInvalid, "regular file"},
		{"a pipe", func(t *testing.T, p string) {
			require.NoError(t, os.Remove(p))
			require.NoError(t, syscall.Mkfifo(p, 0o600))
		}, keystore.ErrInvalid, "regular file"},
		{"anchor missing", func(t *testing.T, p string) { require.NoError(t, os.Remove(p+anchorSuffix)) }, keystore.ErrMismatch, "anchor"},
		{"anchor altered", func(t *testing.T, p string) {
			edit(func(b []byte) []byte { b[20] ^= 1; return b })(t, p+anchorSuffix)
		}, keystore.ErrTampered, "anchor"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ps := paths(t, 2)
			a := newRoot(1)
			s := created(t, ps, a)
			single := open(t, ps[:1], nil)
			tc.spoil(t, s.paths[0])
			for what, err := range map[string]error{
				"load":    func() error { _, err := single.Load(ctx); return err }(),
				"add":     single.Add(ctx, newRoot(2)),
				"destroy": single.Destroy(ctx, []keystore.RootID{{1}}),
				"raise":   single.Raise(ctx, keystore.Anchor{}, nil),
			} {
				require.ErrorIs(t, err, tc.is, what)
				require.ErrorContains(t, err, tc.says, what)
				require.ErrorContains(t, err, s.paths[0], what)
			}
			// the other mirror is good
			got := load(t, s)
			require.Equal(t, []keystore.Root{a}, got.Living)
			if tc.name != "anchor missing" {
				require.Len(t, got.Away, 1)
				require.Contains(t, got.Away[0], tc.says)
				require.ErrorIs(t, s.Add(ctx, newRoot(2)), keystore.ErrUnavailable)
				require.Equal(t, []keystore.Root{a}, load(t, s).Living, "nothing was written anywhere")
			}
		})
	}
}

func TestDamagedIsNotMissing(t *testing.T) {
	ps := paths(t, 2)
	s := created(t, ps, newRoot(1))
	require.NoError(t, os.Remove(ps[0]))
	require.NoError(t, os.Truncate(ps[1], 100))
	_, err := s.Load(ctx)
	require.ErrorIs(t, err, keystore.ErrTampered)
	require.NotErrorIs(t, err, keystore.ErrNotFound)
}

func TestMirrorAway(t *testing.T) {
	ps := paths(t, 2)
	a, b := newRoot(1), newRoot(2)
	for away := range ps { // also the first, whose lock is then out of reach
		s := created(t, ps, a, b)
		dir := filepath.Dir(s.paths[away])
		require.NoError(t, os.Rename(dir, dir+".unmounted"))

		require.Equal(t, []keystore.Root{a, b}, load(t, s).Living)
		err := s.Add(ctx, newRoot(3))
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorContains(t, err, s.paths[away])
		err = s.Destroy(ctx, []keystore.RootID{a.ID})
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorContains(t, err, s.paths[away])
		got := load(t, s)
		require.Equal(t, []keystore.Root{b}, got.Living)
		require.Empty(t, got.Destroyed, "a mirror that is away has confirmed nothing")

		require.NoError(t, os.Rename(dir+".unmounted", dir))
		got = load(t, s)
		require.ElementsMatch(t, []keystore.Root{a, b}, got.Living, "on the mirror that was away it lives")
		require.Empty(t, got.Destroyed)
		require.ErrorIs(t, s.Add(ctx, a), keystore.ErrMismatch)
		c := newRoot(3)
		require.NoError(t, s.Add(ctx, c))
		require.NotContains(t, string(everyByte(t, s.paths[1-away:2-away])), string(a.Key[:]), "repair brings back no destroyed root")
		require.NoError(t, s.Destroy(ctx, []keystore.RootID{a.ID}))
		got = load(t, s)
		require.Equal(t, []keystore.Root{b, c}, got.Living)
		require.Equal(t, []keystore.RootID{a.ID}, got.Destroyed)
		require.NoError(t, s.Remove(ctx))
	}
}

func TestMirrorsOfDifferentKeystores(t *testing.T) {
	ps := paths(t, 2)
	created(t, ps[:1], newRoot(1))
	other := contents(newRoot(1))
	other.Store = keystore.StoreID{9}
	require.NoError(t, open(t, ps[1:], nil).Create(ctx, other))
	_, err := open(t, ps, nil).Load(ctx)
	require.ErrorIs(t, err, keystore.ErrMismatch)
}

func TestMissingAnchorIsMadeAgain(t *testing.T) {
	ps := paths(t, 2)
	s := created(t, ps, newRoot(1))
	up := keystore.Anchor{Epoch: 5, Counters: []uint64{3}}
	require.NoError(t, s.Raise(ctx, up, []keystore.Tombstone{tombstone(t, 0)}))
	require.NoError(t, os.Remove(ps[0]+anchorSuffix))
	require.NoError(t, s.Raise(ctx, keystore.Anchor{Epoch: 4}, nil))
	got := load(t, open(t, ps[:1], nil))
	require.Equal(t, up, got.Anchor)
	require.Len(t, got.Tombstones, 1)
}

func TestRememberedIDsAreBounded(t *testing.T) {
	s := created(t, paths(t, 1), newRoot(1))
	var ids []keystore.RootID
	for i := range maxDestroyed + 10 {
		ids = append(ids, keystore.RootID{byte(i), byte(i >> 8), 1})
	}
	require.NoError(t, s.Destroy(ctx, ids))
	require.Equal(t, ids[10:], load(t, s).Destroyed)
}

func TestTrimAndCompact(t *testing.T) {
	ps := paths(t, 2)
	s := open(t, ps, &testDisk{})
	require.NoError(t, s.Create(ctx, contents(newRoot(1))))
	counters := make([]uint64, 32)
	for i := range 250 {
		counters[i%32]++
		require.NoError(t, s.Raise(ctx, keystore.Anchor{Epoch: uint64(i), Counters: counters}, []keystore.Tombstone{tombstone(t, i)}))
		require.NoError(t, s.Trim(ctx, func(ts keystore.Tombstone) bool { return ts.Counter%100 != 0 }))
		require.Less(t, size(ps[0]+anchorSuffix), int64(compactAbove+2000))
	}
	got := load(t, s)
	require.Len(t, got.Tombstones, 3)
	require.Equal(t, keystore.Anchor{Epoch: 249, Counters: counters}, got.Anchor)
}

func TestAnchorNeverGoesDown(t *testing.T) {
	s := created(t, paths(t, 1), newRoot(1))
	require.NoError(t, s.Raise(ctx, keystore.Anchor{Epoch: 5, Advances: 1, Counters: []uint64{1, 9}, LedgerSize: 3, LedgerHead: [32]byte{3}}, nil))
	require.NoError(t, s.Raise(ctx, keystore.Anchor{Epoch: 4, Advances: 2, Counters: []uint64{7, 8, 1}, LedgerSize: 2, LedgerHead: [32]byte{2}}, nil))
	require.Equal(t, keystore.Anchor{Epoch: 5, Advances: 2, Counters: []uint64{7, 9, 1}, LedgerSize: 3, LedgerHead: [32]byte{3}}, load(t, s).Anchor)
	require.ErrorIs(t, s.Raise(ctx, keystore.Anchor{}, []keystore.Tombstone{{}}), keystore.ErrInvalid)
}

func TestFailedSyncIsNotTrusted(t *testing.T) {
	ps := paths(t, 1)
	created(t, ps, newRoot(1))
	fail, renamed := true, false
	s, err := New(ps, &Options{hook: func(op, path string, do func() error) error {
		if op == "fsync" && fail {
			fail = false
			return syscall.EIO
		}
		renamed = renamed || op == "rename"
		return do()
	}})
	require.NoError(t, err)
	up := keystore.Anchor{Epoch: 2}
	require.ErrorIs(t, s.Raise(ctx, up, nil), keystore.ErrUnavailable)
	require.NoError(t, s.Raise(ctx, up, nil))
	require.True(t, renamed, "the log must be written to a new file")
}

func TestDiskFull(t *testing.T) {
	ps := paths(t, 1)
	a := newRoot(1)
	before := created(t, ps, a)
	full := func(op, path string, do func() error) error {
		if op == "write" {
			return &os.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
		}
		return do()
	}
	s, err := New(ps, &Options{hook: full})
	require.NoError(t, err)
	r := newRoot(2)
	for _, err := range []error{s.Add(ctx, r), s.Destroy(ctx, []keystore.RootID{a.ID}), s.Raise(ctx, keystore.Anchor{Epoch: 3}, nil)} {
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorContains(t, err, "no space left on device")
	}
	require.Equal(t, []keystore.Root{a}, load(t, before).Living)
	require.NoError(t, before.Destroy(ctx, []keystore.RootID{a.ID}), "space was made")
}

func TestLockHonoursContext(t *testing.T) {
	ps := paths(t, 2)
	s := created(t, ps, newRoot(1))
	held, _, err := s.lock(ctx)
	require.NoError(t, err)
	defer held.unlock()
	short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
	defer cancel()
	err = open(t, ps, nil).Add(short, newRoot(2))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.Len(t, load(t, s).Living, 1, "reading needs no lock")
}

func TestErrorsHoldNoKey(t *testing.T) {
	ps := paths(t, 2)
	a := newRoot(1)
	s := created(t, ps, a)
	b := a
	b.Key[0]++
	err := s.Add(ctx, b)
	require.ErrorIs(t, err, keystore.ErrMismatch)
	require.NotContains(t, fmt.Sprintf("%v %x", err, err.Error()), fmt.Sprintf("%x", a.Key[:4]))
	require.NoError(t, s.Add(ctx, a), "the same root again")
}

func TestNewParsePlace(t *testing.T) {
	dir := t.TempDir()
	dir, err := filepath.EvalSymlinks(dir)
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "real"), 0o700))
	require.NoError(t, os.Symlink("real", filepath.Join(dir, "link")))
	ps, err := Parse("file:" + dir + "/z.root,file:" + dir + "/link/new/a.root")
	require.NoError(t, err)
	s, err := New(ps, nil)
	require.NoError(t, err)
	p := s.Place()
	require.Equal(t, "file:"+dir+"/real/new/a.root,file:"+dir+"/z.root", p.URL)
	require.Equal(t, "best-effort", p.Class)
	require.NotEmpty(t, p.Host)

	t.Chdir(dir)
	ps, err = Parse("file:oubli.root")
	require.NoError(t, err)
	s, err = New(ps, &Options{Host: "pod-7"})
	require.NoError(t, err)
	require.Equal(t, keystore.Place{URL: "file:" + dir + "/oubli.root", Host: "pod-7", Class: "best-effort"}, s.Place())

	for _, url := range []string{"", "oubli.root", "file:", "file:a,", "file:a,b", "vault:x"} {
		_, err := Parse(url)
		require.ErrorIs(t, err, keystore.ErrInvalid, url)
	}
	for _, ps := range [][]string{nil, {""}, {"a/"}, {"a,b"}, {"a", "./a"}, {"real/a", "link/a"}, {"a.anchor"}, {"a.old-x"}, {"/"}} {
		_, err := New(ps, nil)
		require.ErrorIs(t, err, keystore.ErrInvalid, "%q", ps)
	}
}
