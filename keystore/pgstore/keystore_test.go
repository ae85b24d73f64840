package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

func customer(t *testing.T, n int) keystore.Subject {
	s, err := keystore.ParseSubject(fmt.Sprintf("customer/%d", n))
	require.NoError(t, err)
	return s
}

// openKeystore opens the keystore in dsn as a process of its own would.
func openKeystore(t *testing.T, dsn string, roots keystore.RootStore) *keystore.Store {
	t.Helper()
	b, err := pgstore.Open(t.Context(), dsn, nil)
	require.NoError(t, err)
	s, err := keystore.Open(t.Context(), b, roots, nil)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// newKeystore makes a keystore in dsn.
func newKeystore(t *testing.T, dsn string, roots keystore.RootStore, shards int, lease time.Duration) {
	t.Helper()
	b := create(t, dsn, nil)
	require.NoError(t, keystore.Create(t.Context(), b, roots, &keystore.CreateOptions{Shards: shards, Lease: lease}))
	require.NoError(t, b.Close())
}

func seal(t *testing.T, s *keystore.Store, sub keystore.Subject, text string) (id uint32, sealed []byte) {
	t.Helper()
	ks, err := s.Ensure(t.Context(), nil, []string{""}, sub)
	require.NoError(t, err)
	id, key, err := ks[0].Primary("")
	require.NoError(t, err)
	return id, key.Seal(nil, make([]byte, 12), []byte(text), nil)
}

func unseal(t *testing.T, s *keystore.Store, sub keystore.Subject, id uint32, sealed []byte) (string, error) {
	t.Helper()
	ks, err := s.Lookup(t.Context(), nil, sub)
	require.NoError(t, err)
	_, key, err := ks[0].Key(id)
	if err != nil {
		return "", err
	}
	plain, err := key.Open(nil, make([]byte, 12), sealed, nil)
	return string(plain), err
}

// The life of a keystore on PostgreSQL: made, written, erased from, and opened again,
// with the root in a file and a second process beside.
func TestKeystore(t *testing.T) {
	ctx := t.Context()
	dsn := pgtest.Shared(t).Database(t)
	roots, err := rootfile.New([]string{filepath.Join(t.TempDir(), "root")}, nil)
	require.NoError(t, err)
	newKeystore(t, dsn, roots, 64, time.Second)

	a, b := openKeystore(t, dsn, roots), openKeystore(t, dsn, roots)
	type sealed struct {
		id   uint32
		text []byte
	}
	var rows []sealed
	for n := range 50 {
		id, text := seal(t, a, customer(t, n+1), fmt.Sprint("text of ", n+1))
		rows = append(rows, sealed{id, text})
	}
	check := func(s *keystore.Store, erased int) {
		t.Helper()
		for n, row := range rows {
			text, err := unseal(t, s, customer(t, n+1), row.id, row.text)
			if n < erased {
				require.ErrorIs(t, err, keystore.ErrErased)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint("text of ", n+1), text)
		}
	}
	check(a, 0)
	check(b, 0)
	for n := range 3 {
		_, err := a.Erase(ctx, keystore.Request{Subject: customer(t, n+1)})
		require.NoError(t, err)
		check(b, n+1) // at once, though it had the keys in memory
	}
	check(a, 3)
	require.NoError(t, a.Close())
	again := openKeystore(t, dsn, roots)
	check(again, 3)
	keystoretest.Check(t, again)

	_, err = pgstore.Create(ctx, dsn, nil)
	require.ErrorIs(t, err, keystore.ErrExists)
}

// Keys are created, one after the other by several processes, while others re-key the
// shards that these stand in. A guard that is not held until the commit leaves rings under
// generations that are gone, which the keystore finds in the end.
func TestCreationRacesRekeying(t *testing.T) {
	t.Parallel()
	const creations, creators, erasers = 10_000, 6, 2
	dsn := pgtest.Shared(t).Database(t)
	roots := memstore.NewRoots()
	newKeystore(t, dsn, roots, 2048, 100*time.Millisecond)

	// A busy machine may not keep so short a lease; then nothing is served, or written.
	patient := func(f func() error) (err error) {
		for range 1000 {
			if err = f(); !errors.Is(err, keystore.ErrUnavailable) {
				break
			}
		}
		return err
	}
	var next, created, erased atomic.Int64
	var writing, erasing sync.WaitGroup
	fail := make(chan error, creators+erasers)
	for range creators {
		s := openKeystore(t, dsn, roots)
		writing.Go(func() {
			for n := int(next.Add(1)); n <= creations; n = int(next.Add(1)) {
				err := patient(func() error {
					_, err := s.Ensure(context.Background(), nil, []string{""}, customer(t, n))
					return err
				})
				if err != nil {
					fail <- err
					return
				}
				created.Add(1)
			}
		})
	}
	written := make(chan struct{})
	for range erasers {
		s := openKeystore(t, dsn, roots)
		erasing.Go(func() {
			for {
				select {
				case <-written:
					return
				default:
				}
				// people all over the tree, so that every advance touches many shards
				var rs []keystore.Request
				for n := int(created.Load()); n > 0 && len(rs) < 200; n -= erasers {
					rs = append(rs, keystore.Request{Subject: customer(t, n), Unknown: true})
				}
				err := patient(func() error { _, err := s.Erase(context.Background(), rs...); return err })
				if err != nil {
					fail <- err
					return
				}
				erased.Add(int64(len(rs)))
			}
		})
	}
	writing.Wait()
	close(written)
	erasing.Wait()
	close(fail)
	for err := range fail {
		require.NoError(t, err)
	}
	require.EqualValues(t, creations, created.Load())
	s := openKeystore(t, dsn, roots)
	h, err := s.Health(t.Context())
	require.NoError(t, err)
	t.Logf("%d created, %d erased, epoch %d", created.Load(), erased.Load(), h.Epoch)
	require.Greater(t, h.Epoch, uint64(5))
	keystoretest.Check(t, s)
}
