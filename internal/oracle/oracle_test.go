package oracle_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/oracle"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
)

// What was deleted still stands in the file, and is found there.
func TestBoltRecordsFindsWhatWasDeleted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	b, err := boltstore.Create(path, nil)
	require.NoError(t, err)
	for i := range 200 {
		put := keystore.Write{Op: keystore.Put, Key: fmt.Appendf(nil, "a%03d", i), Rev: 1, Value: make([]byte, 60)}
		_, err := b.Commit(t.Context(), []keystore.Group{{put}})
		require.NoError(t, err)
	}
	for i := range 200 {
		_, err := b.Commit(t.Context(), []keystore.Group{{{Op: keystore.Delete, Key: fmt.Appendf(nil, "a%03d", i), If: 1}}})
		require.NoError(t, err)
	}
	require.NoError(t, b.Close())
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	found := map[string]bool{}
	for _, rec := range oracle.BoltRecords(raw) {
		found[string(rec.Key)] = true
	}
	require.NotEmpty(t, found) // how many depends on the pages that bbolt happens to use again

	for i := range raw {
		raw[i] ^= 0x55
	}
	require.Empty(t, oracle.BoltRecords(raw))
}
