package pgadopt_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// A run that looks for what it missed seals nothing in a table whose adoption is undone
// meanwhile: nobody would ever open it again.
func TestRunBesideUndo(t *testing.T) {
	for _, ends := range []bool{true, false} {
		ctx := t.Context()
		w := newDDLWorld(t, pgtest.Shared(t), fiftySQL, fiftyMap)
		keys, before := keystoretest.New(t), w.read()
		w.widen()
		lock, err := w.pool.Begin(ctx) // a row that the first pass misses
		require.NoError(t, err)
		defer lock.Rollback(ctx)
		_, err = lock.Exec(ctx, `SELECT FROM t WHERE id = 7 FOR UPDATE`)
		require.NoError(t, err)
		c, undone := w.config(keys), false
		c.Progress = func(at pgadopt.Progress) {
			if at.Step != "look again" || undone {
				return
			}
			undone = true
			require.NoError(t, lock.Rollback(ctx))
			if ends {
				_, err := pgadopt.Undo(ctx, w.config(keys))
				require.NoError(t, err)
				require.Equal(t, before, w.read())
			} else {
				require.NoError(t, pgadopt.Reopen(ctx, w.pool, w.tables()[0]))
				before = w.read()
			}
		}
		_, err = pgadopt.Run(ctx, c)
		require.True(t, undone)
		require.ErrorIs(t, err, pgadopt.ErrPhase)
		require.Equal(t, before, w.read())
	}
}
