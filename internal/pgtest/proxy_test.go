package pgtest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestAProxyIsCutAndRestored(t *testing.T) {
	t.Parallel()
	s := Shared(t)
	db := s.Database(t)
	p := s.Proxy(t)
	through := Via(db, p.DSN())
	run(t, through, "CREATE TABLE t (n int)")
	conn := connect(t, through)
	insert := func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		_, err := conn.Exec(ctx, "INSERT INTO t VALUES (1)")
		return err
	}
	rows := func() int { return value[int](t, db, "SELECT count(*) FROM t") }
	require.NoError(t, insert(time.Minute))

	p.Cut()
	require.Error(t, insert(time.Minute), "an open connection is closed")
	_, err := pgx.Connect(t.Context(), through)
	require.ErrorContains(t, err, "refused")
	require.Equal(t, 1, rows(), "others reach the server")

	p.Restore(t)
	conn = connect(t, through)
	p.HoldAnswers()
	require.ErrorIs(t, insert(200*time.Millisecond), context.DeadlineExceeded)
	require.Equal(t, 2, rows(), "committed, and not answered")

	p.Restore(t)
	conn = connect(t, through)
	p.Hold()
	require.ErrorIs(t, insert(200*time.Millisecond), context.DeadlineExceeded)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = pgx.Connect(ctx, through)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 2, rows())

	p.Restore(t)
	conn = connect(t, through)
	p.Hold()
	time.AfterFunc(200*time.Millisecond, func() { p.set(false, false) })
	require.NoError(t, insert(time.Minute), "what was held goes on its way")
}
