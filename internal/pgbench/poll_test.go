package pgbench

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// counted counts the reads of a store, each of which is one query.
type counted struct {
	*pgstore.Store
	gets atomic.Int64
}

func (c *counted) Get(ctx context.Context, keys [][]byte) ([]keystore.Record, error) {
	c.gets.Add(1)
	return c.Store.Get(ctx, keys)
}

// The poll is one query a second, whatever the number of keys.
func TestThePollIsOneQueryASecond(t *testing.T) {
	ctx := context.Background()
	for _, n := range []int{10, 5_000} {
		db, err := pgstore.Create(ctx, pgtest.Shared(t).Database(t), nil)
		require.NoError(t, err)
		roots, err := rootfile.New([]string{filepath.Join(t.TempDir(), "oubli.root")}, nil)
		require.NoError(t, err)
		require.NoError(t, keystore.Create(ctx, db, roots, nil))
		c := &counted{Store: db}
		keys, err := keystore.Open(ctx, c, roots, nil)
		require.NoError(t, err)
		all := make([]keystore.Subject, n)
		for i := range all {
			all[i], err = keystore.NewSubject("customer", i+1)
			require.NoError(t, err)
		}
		_, err = keys.Ensure(ctx, nil, []string{""}, all...)
		require.NoError(t, err)
		c.gets.Store(0)
		time.Sleep(3500 * time.Millisecond)
		got := c.gets.Load()
		require.LessOrEqual(t, got, int64(4), "with %d keys", n)
		require.GreaterOrEqual(t, got, int64(2), "with %d keys", n)
		_, err = keys.Lookup(ctx, nil, all...)
		require.NoError(t, err)
		require.LessOrEqual(t, c.gets.Load(), got+1, "what is cached takes no query")
		require.NoError(t, keys.Close())
	}
}
