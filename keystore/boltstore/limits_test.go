package boltstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
)

// Some limits hold for a whole process: these tests run once more in a child.
const childVariable = "BOLTSTORE_TEST_CHILD"

func inChild(t *testing.T, body func()) {
	if os.Getenv(childVariable) == t.Name() {
		body()
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childVariable+"="+t.Name())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name())
}

func large(i int, old, rev keystore.Rev) keystore.Group {
	value := bytes.Repeat([]byte{byte('a' + i%26)}, 50_000)
	return keystore.Group{{Op: keystore.Put, Key: fmt.Appendf(nil, "k%04d", i), If: old, Rev: rev, Value: value}}
}

// fill commits until there is no room, then shows that nothing was lost and that the
// store goes on, before and after it is opened again.
func fill(t *testing.T, path string, s *boltstore.Store) {
	ctx := t.Context()
	n := 0
	var err error
	for ; n < 1000; n++ {
		if _, err = s.Commit(ctx, []keystore.Group{large(n, 0, 1)}); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.NotErrorIs(t, err, keystore.ErrTampered)
	require.ErrorContains(t, err, path)
	require.ErrorContains(t, err, "make room")
	require.Greater(t, n, 3)
	whole := func(s *boltstore.Store) {
		rs, err := s.Scan(ctx, []byte("k"), []byte("l"), 2000)
		require.NoError(t, err)
		require.Len(t, rs, n)
		for i, r := range rs {
			require.True(t, bytes.Equal(large(i, 0, 1)[0].Value, r.Value), "record %d", i)
		}
	}
	whole(s)
	_, err = s.Commit(ctx, []keystore.Group{large(n, 0, 1)})
	require.ErrorIs(t, err, keystore.ErrUnavailable, "there still is no room")
	whole(s)

	// deleting makes room in the file, though it takes some itself
	g := keystore.Group{{Op: keystore.Delete, Key: []byte("k0000"), If: 1}}
	_, err = s.Commit(ctx, []keystore.Group{g})
	require.NoError(t, err)
	_, err = s.Commit(ctx, []keystore.Group{large(0, 0, 1)})
	require.NoError(t, err)
	whole(s)
	require.NoError(t, s.Close())

	s, err = boltstore.Open(path, nil)
	require.NoError(t, err)
	whole(s)
	require.NoError(t, s.Close())
}

func TestFileSizeLimit(t *testing.T) {
	inChild(t, func() {
		signal.Ignore(syscall.SIGXFSZ)
		path := filepath.Join(t.TempDir(), "keys")
		s, err := boltstore.Create(path, nil)
		require.NoError(t, err)
		limit := syscall.Rlimit{Cur: 2_500_000, Max: 2_500_000}
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
		fill(t, path, s)
	})
}

func TestCreateWithoutRoom(t *testing.T) {
	inChild(t, func() {
		signal.Ignore(syscall.SIGXFSZ)
		dir := t.TempDir()
		limit := syscall.Rlimit{Cur: 10_000, Max: 10_000}
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
		_, err := boltstore.Create(filepath.Join(dir, "keys"), nil)
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorContains(t, err, "make room")
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left)
	})
}

func TestMaxSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	s, err := boltstore.Create(path, &boltstore.Options{MaxSize: 3 << 20})
	require.NoError(t, err)
	fill(t, path, s)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.LessOrEqual(t, info.Size(), int64(3<<20))
}

func TestFolderThatCannotBeWritten(t *testing.T) {
	inChild(t, func() {
		dir := t.TempDir()
		path := filepath.Join(dir, "keys")
		s, err := boltstore.Create(path, nil)
		require.NoError(t, err)
		require.NoError(t, s.Close())
		require.NoError(t, os.Chmod(dir, 0o555))
		defer os.Chmod(dir, 0o755)
		if os.Geteuid() == 0 { // whom no permission stops
			for p := dir; p != filepath.Dir(p) && p != os.TempDir(); p = filepath.Dir(p) {
				info, err := os.Stat(p)
				require.NoError(t, err)
				require.NoError(t, os.Chmod(p, info.Mode().Perm()|0o055))
			}
			require.NoError(t, syscall.Seteuid(65534))
			defer syscall.Seteuid(0)
		}
		other := filepath.Join(dir, "other")
		_, err = boltstore.Create(other, nil)
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorIs(t, err, fs.ErrPermission)
		require.ErrorContains(t, err, other)
		if os.Getuid() == 0 { // the file is another user's
			_, err = boltstore.Open(path, nil)
			require.ErrorIs(t, err, keystore.ErrUnavailable)
			require.ErrorIs(t, err, fs.ErrPermission)
		}
	})
}

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	s, err := boltstore.Create(path, nil)
	require.NoError(t, err)
	for _, readOnly := range []bool{false, true} {
		start := time.Now()
		_, err = boltstore.Open(path, &boltstore.Options{Timeout: 100 * time.Millisecond, ReadOnly: readOnly})
		require.ErrorIs(t, err, keystore.ErrLocked)
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.NotErrorIs(t, err, keystore.ErrTampered)
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, "stop it")
		require.Less(t, time.Since(start), 3*time.Second)
	}

	// it waits for a process that is about to let go
	go func() {
		time.Sleep(100 * time.Millisecond)
		s.Close()
	}()
	again, err := boltstore.Open(path, nil)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

func TestCreateAndOpenSayWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys")
	_, err := boltstore.Open(path, nil)
	require.ErrorIs(t, err, keystore.ErrNotFound)
	_, err = os.Stat(path)
	require.True(t, errors.Is(err, fs.ErrNotExist), "Open made a file")
	_, err = boltstore.Create(filepath.Join(dir, "nowhere", "keys"), nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)

	s, err := boltstore.Create(path, nil)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	_, err = boltstore.Create(path, nil)
	require.ErrorIs(t, err, keystore.ErrExists)
	require.NoError(t, s.Close())
	_, err = boltstore.Create(path, nil)
	require.ErrorIs(t, err, keystore.ErrExists)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "a temporary file was left")
}

func TestReadOnly(t *testing.T) {
	file, records := sample(t, 300)
	path := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(path, file, 0o400))
	one, err := boltstore.Open(path, &boltstore.Options{ReadOnly: true})
	require.NoError(t, err)
	defer one.Close()
	two, err := boltstore.Open(path, &boltstore.Options{ReadOnly: true})
	require.NoError(t, err)
	defer two.Close()
	for _, s := range []*boltstore.Store{one, two} {
		rs, err := s.Scan(context.Background(), []byte("a"), []byte("z"), 1000)
		require.NoError(t, err)
		require.Equal(t, records, rs)
		_, err = s.Commit(context.Background(), []keystore.Group{large(1, 0, 1)})
		require.ErrorIs(t, err, keystore.ErrReadOnly)
	}
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(file, after))
}
