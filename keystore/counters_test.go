package keystore_test

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/stretchr/testify/require"
)

// counterStore is a keystore of one page whose records a test alters.
func counterStore(t *testing.T, grace time.Duration) (*memstore.Store, *keystore.Store) {
	ctx := context.Background()
	db, roots := memstore.New(), memstore.NewRoots()
	require.NoError(t, keystore.Create(ctx, db, roots, &keystore.CreateOptions{Grace: grace, Shards: 1}))
	s, err := keystore.Open(ctx, db, roots, nil)
	require.NoError(t, err)
	return db, s
}

// alter changes a record behind the keystore's back; nil deletes it.
func alter(t *testing.T, db *memstore.Store, key, value []byte) (before []byte) {
	ctx := context.Background()
	recs, err := db.Get(ctx, [][]byte{key})
	require.NoError(t, err)
	w := keystore.Write{Op: keystore.Put, Key: key, If: recs[0].Rev, Rev: 12345, Value: value}
	if value == nil {
		w.Op, w.Rev = keystore.Delete, 0
	}
	_, err = db.Commit(ctx, []keystore.Group{{w}})
	require.NoError(t, err)
	return recs[0].Value
}

// A counter that was raised for one advance, and then put back, must not make later
// erasures pass for covered.
func TestCounterThatWentBackIsNoticed(t *testing.T) {
	ctx := context.Background()
	db, s := counterStore(t, 0)
	counter := []byte{0, 'c'}
	_, err := s.Erase(ctx, keystore.Request{Subject: subject(t, 1), Unknown: true})
	require.NoError(t, err)
	was := alter(t, db, counter, binary.AppendUvarint([]byte{1}, 1<<40))
	_, err = s.Erase(ctx, keystore.Request{Subject: subject(t, 2), Unknown: true})
	require.NoError(t, err)
	alter(t, db, counter, was)
	_, err = s.Erase(ctx, keystore.Request{Subject: subject(t, 3), Unknown: true})
	require.ErrorIs(t, err, keystore.ErrTampered)
	report, err := s.Verify(ctx)
	require.NoError(t, err)
	require.Contains(t, strings.Join(report.Problems, "\n"), "change counter of page 0")
}

// An erasure whose entry somebody took off the worklist is found.
func TestMissingWorklistEntryIsFound(t *testing.T) {
	ctx := context.Background()
	db, s := counterStore(t, time.Hour)
	for range 64 { // the next advance waits: they keep a distance by now
		_, err := s.Erase(ctx, keystore.Request{Subject: subject(t, 1), Unknown: true})
		require.NoError(t, err)
		require.NoError(t, s.Readmit(ctx, subject(t, 1)))
	}
	_, err := s.Erase(ctx, keystore.Request{Subject: subject(t, 2), Unknown: true})
	require.NoError(t, err)
	report, err := s.Verify(ctx)
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	list, err := db.Scan(ctx, []byte{0, 'w'}, []byte{0, 'x'}, 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	alter(t, db, list[0].Key, nil)
	report, err = s.Verify(ctx)
	require.NoError(t, err)
	require.Contains(t, strings.Join(report.Problems, "\n"), "customer/2")
}
