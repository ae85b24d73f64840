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
	for at := 0; at < len(file); at += 509 {
		if !requireErrorOrTruth(t, file[:at], records) {
			used++ // the rest of the file was free
		}
	}
	require.Less(t, used, len(file)/509, "some cuts must be refused")
}

func TestEveryByteOfUseCounts(t *testing.T) {
	for _, n := range []int{4, 300} {
		file, records := sample(t, n)
		refused := 0
		const tries = 400
		for range tries {
			altered := bytes.Clone(file)
			altered[rand.IntN(len(altered))] ^= 1 << rand.IntN(8)
			if requireErrorOrTruth(t, altered, records) {
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
		require.True(t, requireErrorOrTruth(t, altered, records), "meta page at %d", at)
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

	// the old leaves still lie in the file; move one to where a new one stands
	file := after.Bytes()
	size := os.Getpagesize()
	page := func(i int) []byte { return file[i*size : (i+1)*size] }
	leafOf := func(value byte) int {
		for i := 2; i < len(file)/size; i++ {
			if bytes.Contains(page(i), append([]byte("r000"), recordOf(value)...)) {
				return i
			}
		}
		return -1
	}
	old, current := leafOf('o'), leafOf('n')
	if old < 0 { // reused already: it is in the earlier copy
		file2 := before.Bytes()
		for i := 2; i < len(file2)/size; i++ {
			if p := file2[i*size : (i+1)*size]; bytes.Contains(p, append([]byte("r000"), recordOf('o')...)) {
				copy(page(current)[8:], p[8:])
			}
		}
	} else {
		copy(page(current)[8:], page(old)[8:])
	}
	require.NoError(t, os.WriteFile(path, file, 0o600))
	_, err = boltstore.Open(path, nil)
	require.ErrorIs(t, err, keystore.ErrTampered)
	require.ErrorContains(t, err, "earlier state")
}

// recordOf is how a record of TestPageOfAnEarlierStateIsRefused begins: its revision.
func recordOf(value byte) []byte {
	if value == 'o' {
		return []byte{0, 0, 0, 0, 0, 0, 0, 1}
	}
	return []byte{0, 0, 0, 0, 0, 0, 0, 2}
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
	require.False(t, requireErrorOrTruth(t, listed, records))

	size := os.Getpagesize()
	for at := 2 * size; at < len(listed); at += size {
		if listed[at+8] != 0x10 || listed[at+9] != 0 {
			continue
		}
		altered := bytes.Clone(listed)
		altered[at+16]++ // now it names a page twice, or one that is in use
		requireErrorOrTruth(t, altered, records)
	}
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
