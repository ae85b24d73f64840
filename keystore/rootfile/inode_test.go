package rootfile

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

func TestSecondNameOfALivingFileIsNotWiped(t *testing.T) {
	for _, change := range []func(s *Store, gone keystore.RootID) error{
		func(s *Store, _ keystore.RootID) error { return s.Add(ctx, newRoot(9)) },
		func(s *Store, gone keystore.RootID) error { return s.Destroy(ctx, []keystore.RootID{gone}) },
	} {
		ps := paths(t, 2)
		a, b := newRoot(1), newRoot(2)
		s := created(t, ps, a, b)
		// as after a crash between keeping the old name and renaming
		require.NoError(t, os.Link(ps[0], ps[0]+oldInfix+"X"))
		require.NoError(t, s.wipe(ps[0]+oldInfix+"X", s.livingInodes()))
		require.Contains(t, load(t, open(t, ps[:1], nil)).Living, a)

		require.NoError(t, os.Link(ps[0], ps[0]+oldInfix+"Y"))
		left, err := s.leftovers(ps[0], true)
		require.NoError(t, err)
		require.Empty(t, left)
		require.NoError(t, change(s, b.ID))
		require.Contains(t, load(t, open(t, ps[:1], nil)).Living, a)
	}
}

func TestLongerOldContentIsOverwrittenToItsEnd(t *testing.T) {
	ps := paths(t, 1)
	d := &testDisk{}
	defer d.close()
	var rs []keystore.Root
	var ids []keystore.RootID
	for i := range 80 { // two blocks
		rs = append(rs, newRoot(uint64(i)))
		ids = append(ids, rs[i].ID)
	}
	s := open(t, ps, d)
	require.NoError(t, s.Create(ctx, contents(rs...)))
	require.NoError(t, s.Add(ctx, newRoot(100)))
	require.NoError(t, s.Destroy(ctx, ids))
	all := d.inodeBytes(t)
	for i, r := range rs {
		require.False(t, bytes.Contains(all, r.Key[:]), "root %d is still in an inode", i)
	}
	require.Len(t, load(t, s).Living, 1)
}

func TestReaderOfAWipedFileReadsItsSuccessor(t *testing.T) {
	ps := paths(t, 1)
	a := newRoot(1)
	created(t, ps, a)
	first := true
	s, err := New(ps, &Options{hook: func(op, path string, do func() error) error {
		if op != "read" || path != ps[0] || !first {
			return do()
		}
		first = false
		good, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path+"2", good, 0o600))
		require.NoError(t, os.WriteFile(path, make([]byte, len(good)), 0o600))
		err = do() // opened before it was replaced, read while it was wiped
		require.NoError(t, os.Rename(path+"2", path))
		return err
	}})
	require.NoError(t, err)
	require.Equal(t, []keystore.Root{a}, load(t, s).Living)
	require.False(t, first)
}

func TestCreateLosesARaceGracefully(t *testing.T) {
	ps := paths(t, 1)
	s, err := New(ps, &Options{hook: func(op, path string, do func() error) error {
		if path == ps[0] && (op == "link" || op == "rename") {
			require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
		}
		return do()
	}})
	require.NoError(t, err)
	r := newRoot(1)
	require.ErrorIs(t, s.Create(ctx, contents(r)), keystore.ErrExists)
	b, err := os.ReadFile(ps[0])
	require.NoError(t, err)
	require.Equal(t, "precious", string(b))
	require.NotContains(t, string(everyByte(t, ps)), string(r.Key[:]))
	require.Len(t, names(t, ps[0]), 2, "the file and the lock")
}
