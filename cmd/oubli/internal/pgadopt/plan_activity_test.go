package pgadopt

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/internal/pgtest"
)

func TestOldTransactionsAreCounted(t *testing.T) {
	ctx := context.Background()
	pool, err := pgmap.Connect(ctx, pgtest.Shared(t).Database(t))
	require.NoError(t, err)
	defer pool.Close()
	count := func() int {
		d := &findings{}
		require.NoError(t, readOnly(ctx, pool, func(tx pgx.Tx) error { return d.activity(ctx, tx, map[string]string{"archive_mode": "off"}, "0") }))
		return len(d.all)
	}
	require.Zero(t, count())
	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	require.Equal(t, 1, count())
}
