package memstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/storetest"
)

func TestSuite(t *testing.T) {
	storetest.Run(t, &storetest.Suite{
		New:    func() (keystore.Backend, error) { return memstore.New(), nil },
		Reopen: func(b keystore.Backend) (keystore.Backend, error) { return b.(*memstore.Store).Snapshot(), nil },
	})
}

func TestSnapshotIsIndependent(t *testing.T) {
	ctx := t.Context()
	s := memstore.New()
	put := func(s *memstore.Store, key, value string, old, rev keystore.Rev) {
		_, err := s.Commit(ctx, []keystore.Group{{{Op: keystore.Put, Key: []byte(key), If: old, Rev: rev, Value: []byte(value)}}})
		require.NoError(t, err)
	}
	put(s, "a", "old", 0, 1)
	backup := s.Snapshot()
	put(s, "a", "new", 1, 2)
	put(s, "b", "new", 0, 3)
	put(backup, "c", "mine", 0, 4)

	for store, want := range map[*memstore.Store]string{s: "a=new b=new ", backup: "a=old c=mine "} {
		rs, err := store.Scan(ctx, []byte("a"), []byte("z"), 10)
		require.NoError(t, err)
		got := ""
		for _, r := range rs {
			got += string(r.Key) + "=" + string(r.Value) + " "
		}
		require.Equal(t, want, got)
	}
}
