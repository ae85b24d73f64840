package boltstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
)

func create(t testing.TB) (*boltstore.Store, string) {
	path := filepath.Join(t.TempDir(), "keys")
	s, err := boltstore.Create(path, nil)
	require.NoError(t, err)
	return s, path
}

func put(key string, old, rev keystore.Rev, value string) keystore.Write {
	return keystore.Write{Op: keystore.Put, Key: []byte(key), If: old, Rev: rev, Value: []byte(value)}
}

// slow is a writer that takes its time over the first piece of a copy.
type slow struct {
	started chan struct{}
	goOn    chan struct{}
	bytes.Buffer
}

func newSlow() *slow { return &slow{started: make(chan struct{}), goOn: make(chan struct{})} }

func (w *slow) Write(p []byte) (int, error) {
	if w.Len() == 0 {
		close(w.started)
		<-w.goOn
	}
	return w.Buffer.Write(p)
}

func TestConcurrentCommitsShareTransactions(t *testing.T) {
	s, path := create(t)
	const actors, rounds = 16, 20
	var conflicts atomic.Int64
	var wg sync.WaitGroup
	for i := range actors {
		wg.Go(func() {
			for n := range rounds {
				// the second group conflicts, so the third must not be applied
				done, err := s.Commit(t.Context(), []keystore.Group{
					{put(fmt.Sprintf("a%02d-%02d", i, n), 0, 1, "A")},
					{put(fmt.Sprintf("b%02d-%02d", i, n), keystore.Rev(n%2), 1, "B")},
					{put(fmt.Sprintf("c%02d-%02d", i, n), 0, 1, "C")},
				})
				if errors.Is(err, keystore.ErrConflict) && done == 1 && n%2 == 1 {
					conflicts.Add(1)
				} else if err != nil || done != 3 {
					t.Errorf("done %d, %v", done, err)
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, actors*rounds/2, conflicts.Load())
	for prefix, want := range map[string]int{"a": actors * rounds, "b": actors * rounds / 2, "c": actors * rounds / 2} {
		rs, err := s.Scan(t.Context(), []byte(prefix), []byte(prefix+"\xff"), 1e6)
		require.NoError(t, err)
		require.Len(t, rs, want)
	}
	require.NoError(t, s.Close())

	db, err := bolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.View(func(tx *bolt.Tx) error {
		t.Logf("%d commits in %d transactions", actors*rounds, tx.ID())
		require.Less(t, tx.ID(), actors*rounds/2)
		for err := range tx.Check() {
			require.NoError(t, err)
		}
		return nil
	}))
}

func TestCloseWaitsForRunningOperations(t *testing.T) {
	s, _ := create(t)
	_, err := s.Commit(t.Context(), []keystore.Group{{put("a", 0, 1, "A")}})
	require.NoError(t, err)
	w := newSlow()
	copied := make(chan error)
	go func() { copied <- s.CopyTo(context.Background(), w) }()
	<-w.started

	closed := make(chan error)
	go func() { closed <- s.Close() }()
	require.Eventually(t, func() bool { // new ones are refused at once
		_, err := s.Get(t.Context(), [][]byte{[]byte("a")})
		return errors.Is(err, keystore.ErrClosed)
	}, 5*time.Second, time.Millisecond)
	select {
	case <-closed:
		t.Fatal("Close did not wait")
	case <-time.After(50 * time.Millisecond):
	}
	close(w.goOn)
	require.NoError(t, <-copied)
	require.NoError(t, <-closed)
	require.ErrorIs(t, s.Close(), keystore.ErrClosed)
}

// A backup made while others write is one moment of the keystore.
func TestCopyIsConsistent(t *testing.T) {
	s, _ := create(t)
	defer s.Close()
	commit := func(n keystore.Rev) {
		v := fmt.Sprint(n)
		_, err := s.Commit(t.Context(), []keystore.Group{{put("a", n-1, n, v), put("b", n-1, n, v)}, {put(fmt.Sprintf("c%03d", n), 0, n, string(make([]byte, 5000)))}})
		require.NoError(t, err)
	}
	for n := range 20 {
		commit(keystore.Rev(n + 1))
	}
	w := newSlow()
	copied := make(chan error)
	go func() { copied <- s.CopyTo(t.Context(), w) }()
	<-w.started
	for n := range 20 { // the file grows meanwhile; nobody waits
		commit(keystore.Rev(n + 21))
	}
	close(w.goOn)
	require.NoError(t, <-copied)

	path := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.WriteFile(path, w.Bytes(), 0o600))
	backup, err := boltstore.Open(path, nil)
	require.NoError(t, err)
	defer backup.Close()
	rs, err := backup.Scan(t.Context(), []byte("a"), []byte("d"), 100)
	require.NoError(t, err)
	require.Len(t, rs, 22)
	require.Equal(t, "20", string(rs[0].Value))
	require.Equal(t, "20", string(rs[1].Value))
	// a copy goes on as a keystore of its own
	for n := range 5 {
		_, err := backup.Commit(t.Context(), []keystore.Group{{put("a", keystore.Rev(20+n), keystore.Rev(21+n), "x")}})
		require.NoError(t, err)
	}
	require.NoError(t, backup.Close())
	backup, err = boltstore.Open(path, nil)
	require.NoError(t, err)
	require.NoError(t, backup.Close())
}

func TestCopyEnds(t *testing.T) {
	s, _ := create(t)
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	w := newSlow()
	copied := make(chan error)
	go func() { copied <- s.CopyTo(ctx, w) }()
	<-w.started
	cancel()
	close(w.goOn)
	require.ErrorIs(t, <-copied, context.Canceled)

	full := errors.New("no room for backups")
	require.ErrorIs(t, s.CopyTo(t.Context(), failing{full}), full)
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestCompact(t *testing.T) {
	file, records := sample(t, 300)
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	require.NoError(t, os.WriteFile(src, file, 0o600))
	require.NoError(t, boltstore.Compact(dst, src))
	require.ErrorIs(t, boltstore.Compact(dst, src), keystore.ErrExists)
	s, err := boltstore.Open(dst, nil)
	require.NoError(t, err)
	defer s.Close()
	rs, err := s.Scan(t.Context(), []byte("a"), []byte("z"), 1000)
	require.NoError(t, err)
	require.Equal(t, records, rs)
}

func TestImpossibleRecordsAreRefused(t *testing.T) {
	s, _ := create(t)
	defer s.Close()
	for _, w := range []keystore.Write{
		put("", 0, 1, "x"),
		put(string(make([]byte, bolt.MaxKeySize+1)), 0, 1, "x"),
		put("a", 0, 0, "x"),
	} {
		done, err := s.Commit(t.Context(), []keystore.Group{{put("b", 0, 1, "x")}, {w}})
		require.ErrorIs(t, err, keystore.ErrInvalid)
		require.Zero(t, done)
	}
	rs, err := s.Scan(t.Context(), nil, []byte{0xff}, 10)
	require.NoError(t, err)
	require.Empty(t, rs)
}
