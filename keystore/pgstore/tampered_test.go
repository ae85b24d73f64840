package pgstore_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// A ring that does not authenticate keeps nobody else of its batch from reading.
func TestABadRingIsItsPersonsAlone(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Start(t, nil).DSN()
	roots, err := rootfile.New([]string{filepath.Join(t.TempDir(), "root")}, nil)
	require.NoError(t, err)
	newKeystore(t, dsn, roots, 1, 2*time.Second)
	a := openKeystore(t, dsn, roots)
	var all []keystore.Subject
	for n := 1; n <= 9; n++ {
		all = append(all, customer(t, n))
	}
	_, err = a.Ensure(t.Context(), nil, []string{""}, all...)
	require.NoError(t, err)
	exec(t, dsn, `update oubli.records set value = set_byte(value, length(value)-1, get_byte(value, length(value)-1) # 1)
		where position('customer/3'::bytea in key) > 0`)
	b := openKeystore(t, dsn, roots)
	ks, err := b.Lookup(t.Context(), nil, all[0]) // from here on its page is remembered
	require.NoError(t, err)
	require.NoError(t, ks[0].Err())
	ks, err = b.Lookup(t.Context(), nil, all...)
	require.NoError(t, err)
	for i, k := range ks {
		if i == 2 {
			require.ErrorIs(t, k.Err(), keystore.ErrTampered)
		} else {
			require.NoError(t, k.Err(), all[i].String())
		}
	}
}
