package boltstore_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
)

func TestEveryCutIsRefused(t *testing.T) {
	file, records := sample(t, 300)
	used := 0
	for at := 0; at < len(file); at += 4093 {
		if !requireErrorOrTruth(t, file[:at], records, false) {
			used++ // the rest of the file was free
		}
	}
	require.Less(t, used, len(file)/4093, "some cuts must be refused")
}

func TestEveryByteOfUseCounts(t *testing.T) {
	for _, n := range []int{4, 300} {
		file, records := sample(t, n)
		refused := 0
		const tries = 100
		for range tries {
			altered := bytes.Clone(file)
			altered[rand.IntN(len(altered))] ^= 1 << rand.IntN(8)
			if requireErrorOrTruth(t, altered, records, false) {
				refused++
			}
		}
		t.Logf("%d records: %d of %d single bit flips were refused, the others lay in free space", n, refused, tries)
	}
}

// Each meta page alone could be read, but the older one has lost a commit.
func TestDamagedMetaPageIsNotPassedOver(t *testing.T) {
	file, records := sample(t, 300)
	for _, at := range []int{os.Getpagesize() * 0, os.Getpagesize() * 1} {
		altered := bytes.Clone(file)
		altered[at+20]++
		require.True(t, requireErrorOrTruth(t, altered, records, false), "meta page at %d", at)
	}
}

// A damaged meta page need not lose everybody: the other one has the state before the
// last commit, or the last.
func TestRepairPutsTheOtherMetaPageInPlace(t *testing.T) {
	file, _ := sample(t, 300)
	path := filepath.Join(t.TempDir(), "keys")
	for _, at := range []int{0, os.Getpagesize()} {
		altered := bytes.Clone(file)
		clear(altered[at+40 : at+80])
		require.NoError(t, os.WriteFile(path, altered, 0o600))
		_, err := boltstore.Open(path, nil)
		require.ErrorIs(t, err, keystore.ErrTampered)
		repaired, err := boltstore.Repair(path)
		require.NoError(t, err)
		require.True(t, repaired)
		s, err := boltstore.Open(path, nil)
		require.NoError(t, err)
		_, err = s.Commit(t.Context(), []keystore.Group{{{Op: keystore.Put, Key: []byte("new"), Rev: 7}}})
		require.NoError(t, err)
		require.NoError(t, s.Close())
		s, err = boltstore.Open(path, nil)
		require.NoError(t, err)
		recs, err := s.Get(t.Context(), [][]byte{[]byte("new")})
		require.NoError(t, err)
		require.EqualValues(t, 7, recs[0].Rev)
		require.NoError(t, s.Close())
	}
}

// What is whole, or wrong in another way, is left alone.
func TestRepairChangesNothingElse(t *testing.T) {
	file, _ := sample(t, 300)
	path := filepath.Join(t.TempDir(), "keys")
	both := bytes.Clone(file)
	clear(both[40:80])
	clear(both[os.Getpagesize()+40 : os.Getpagesize()+80])
	for _, content := range [][]byte{file, both, file[:100], nil} {
		require.NoError(t, os.WriteFile(path, content, 0o600))
		repaired, err := boltstore.Repair(path)
		require.NoError(t, err)
		require.False(t, repaired)
		now, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, len(content), len(now))
		require.True(t, bytes.Equal(content, now))
	}
}

// Pages of an earlier state are whole in themselves.
func TestPageOfAnEarlierStateIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	s, err := boltstore.Create(path, nil)
	require.NoError(t, err)
	put := func(old, rev keystore.Rev, value byte) {
		var g keystore.Group
		for i := range 200 {
			g = append(g, keystore.Write{Op: keystore.Put, Key: fmt.Appendf(nil, "r%03d", i), If: old, Rev: rev, Value: bytes.Repeat([]byte{value}, 100)})
		}
		_, err := s.Commit(t.Context(), []keystore.Group{g})
		require.NoError(t, err)
	}
	put(0, 1, 'o')
	var before, after bytes.Buffer
	require.NoError(t, s.CopyTo(t.Context(), &before))
	put(1, 2, 'n')
	require.NoError(t, s.CopyTo(t.Context(), &after))
	require.NoError(t, s.Close())

	// put an old leaf where the new one with the same keys stands
	leaf := func(file []byte, rev byte) []byte {
		size := os.Getpagesize()
		first := append([]byte("r000"), 0, 0, 0, 0, 0, 0, 0, rev)
		for at := 2 * size; at < len(file); at += size {
			if bytes.Contains(file[at:at+size], first) {
				return file[at : at+size]
			}
		}
		t.Fatalf("no leaf with revision %d", rev)
		return nil
	}
	const id = 8 // the page's number stays
	copy(leaf(after.Bytes(), 2)[id:], leaf(before.Bytes(), 1)[id:])
	require.NoError(t, os.WriteFile(path, after.Bytes(), 0o600))
	_, err = boltstore.Open(path, nil)
	require.ErrorIs(t, err, keystore.ErrTampered)
	require.ErrorContains(t, err, "earlier state")
}

func TestOtherFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other.db")
	db, err := bolt.Open(other, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket([]byte("something else"))
		return err
	}))
	require.NoError(t, db.Close())
	text := filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(text, bytes.Repeat([]byte("no keystore\n"), 4000), 0o600))
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, path := range []string{other, text, empty} {
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		_, err = boltstore.Open(path, nil)
		require.ErrorIs(t, err, keystore.ErrTampered, path)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(before, after), "%s was changed", path)
	}
	_, err = boltstore.Open(dir, nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
}

// What bolt's own tools rewrite has a list of free pages, which must be right.
func TestFileWithFreeList(t *testing.T) {
	file, records := sample(t, 300)
	path := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	db, err := bolt.Open(path, 0o600, nil) // writes the list
	require.NoError(t, err)
	require.NoError(t, db.Close())
	listed, err := os.ReadFile(path)
	require.NoError(t, err)
	require.False(t, requireErrorOrTruth(t, listed, records, true))

	size := os.Getpagesize()
	refused := 0
	for at := 2 * size; at < len(listed); at += size {
		if listed[at+8] != 0x10 || listed[at+9] != 0 || listed[at+10] == 0 {
			continue
		}
		altered := bytes.Clone(listed)
		copy(altered[at+16:], altered[at+24:at+32]) // now it names a page twice
		if requireErrorOrTruth(t, altered, records, true) {
			refused++
		}
	}
	require.Equal(t, 1, refused)
}

// A file that is cut under a running process is an error, not the end of the process.
func TestCutWhileOpen(t *testing.T) {
	file, records := sample(t, 300)
	path := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	s, err := boltstore.Open(path, nil)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, int64(2*os.Getpagesize())))

	_, err = s.Get(t.Context(), [][]byte{records[0].Key, records[len(records)-1].Key})
	require.ErrorIs(t, err, keystore.ErrTampered)
	_, err = s.Scan(t.Context(), []byte("a"), []byte("z"), 1000)
	require.ErrorIs(t, err, keystore.ErrTampered)
	require.Error(t, s.CopyTo(t.Context(), io.Discard))
	g := keystore.Group{{Op: keystore.Put, Key: []byte("x"), Rev: 1}}
	_, err = s.Commit(t.Context(), []keystore.Group{g})
	require.ErrorIs(t, err, keystore.ErrTampered)
	_, err = s.Commit(t.Context(), []keystore.Group{g})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.NoError(t, s.Close())
}
