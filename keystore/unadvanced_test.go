package keystore_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/rootfile"
	"github.com/stretchr/testify/require"
)

// An erasure whose advance has to wait, because many superseded roots live,
// is replayed all the same.
func TestRestoreReplaysWhatWaitsForSupersededRoots(t *testing.T) {
	ctx := context.Background()
	db, roots := memstore.New(), memstore.NewRoots()
	require.NoError(t, keystore.Create(ctx, db, roots, &keystore.CreateOptions{Grace: 24 * time.Hour, Shards: 64}))
	s, err := keystore.Open(ctx, db, roots, nil)
	require.NoError(t, err)
	for i := range 64 {
		_, err := s.Erase(ctx, keystore.Request{Subject: subject(t, 1000+i), Unknown: true})
		require.NoError(t, err)
	}
	ann := subject(t, 1)
	id, sealed := seal(t, s, ann, "", "Ann")
	backup := db.Snapshot()

	es, err := s.Erase(ctx, keystore.Request{Subject: ann})
	require.NoError(t, err)
	require.Equal(t, keystore.StateErased, es[0].State)
	require.False(t, es[0].Final)
	require.Zero(t, es[0].FinalAt, "the advance waits")
	require.NoError(t, s.Close())

	_, err = keystore.Open(ctx, backup, roots, nil)
	require.ErrorIs(t, err, keystore.ErrBehind)
	_, err = keystore.Restore(ctx, backup, roots, nil)
	require.NoError(t, err)
	s, err = keystore.Open(ctx, backup, roots, nil)
	require.NoError(t, err)
	_, err = open(ctx, s, ann, id, sealed)
	require.ErrorIs(t, err, keystore.ErrErased)
	require.NoError(t, s.Close())
}

// An erasure whose advance has to wait for a mirror is replayed all the same, and a copy
// from before it is noticed.
func TestRestoreReplaysWhatWaitsForAMirror(t *testing.T) {
	ctx := context.Background()
	p := newPlace(t, 0)
	s := p.mustOpen()
	a, b := filepath.Join(p.dir, "a.root"), filepath.Join(p.dir, "b", "b.root")
	require.NoError(t, os.Mkdir(filepath.Dir(b), 0o700))
	roots, err := rootfile.New([]string{a, b}, &rootfile.Options{Host: p.host})
	require.NoError(t, err)
	require.NoError(t, s.MoveRoots(ctx, roots))
	p.roots = []string{a, b}
	ann := subject(t, 1)
	id, sealed := seal(t, s, ann, "", "Ann")
	require.NoError(t, s.Close())
	backup := filepath.Join(p.dir, "backup")
	copyFile(t, p.path(), backup)

	s = p.mustOpen()
	away := filepath.Join(p.dir, "away")
	require.NoError(t, os.Rename(filepath.Dir(b), away))
	es, err := s.Erase(ctx, keystore.Request{Subject: ann})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.Equal(t, keystore.StateErased, es[0].State)
	require.NoError(t, s.Close())
	require.NoError(t, os.Rename(away, filepath.Dir(b)))

	copyFile(t, backup, p.path())
	_, err = p.open()
	require.ErrorIs(t, err, keystore.ErrBehind)
	db, err := boltstore.Open(p.path(), nil)
	require.NoError(t, err)
	_, err = keystore.Restore(ctx, db, p.rootStore(), nil)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	s = p.mustOpen()
	_, err = open(ctx, s, ann, id, sealed)
	require.ErrorIs(t, err, keystore.ErrErased)
	require.NoError(t, s.Close())
}
