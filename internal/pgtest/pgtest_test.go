package pgtest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { Main(m) }

// connect opens a connection that is closed when the test has ended.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// value returns the first column of the only row of a query.
func value[T any](t *testing.T, dsn, sql string, args ...any) T {
	t.Helper()
	rows, err := connect(t, dsn).Query(t.Context(), sql, args...)
	require.NoError(t, err)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	require.NoError(t, err)
	return v
}

func run(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	conn := connect(t, dsn)
	for _, sql := range statements {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
}

func TestServersStartStopAndKeepWhatWasCommitted(t *testing.T) {
	for _, version := range Versions() {
		begin := time.Now()
		s := Start(t, &Options{Version: version, Settings: map[string]string{"work_mem": "5MB"}})
		t.Logf("PostgreSQL %d: up in %v", version, time.Since(begin))
		require.Equal(t, version, s.Version())
		require.Equal(t, version, value[int](t, s.DSN(), "SELECT current_setting('server_version_num')::int / 10000"))
		require.Equal(t, "on", value[string](t, s.DSN(), "SHOW fsync"))
		require.Equal(t, "5MB", value[string](t, s.DSN(), "SHOW work_mem"))

		begin = time.Now()
		db := s.Database(t)
		t.Logf("PostgreSQL %d: a database in %v", version, time.Since(begin))
		require.NotEqual(t, db, s.Database(t))
		run(t, db, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
		for _, again := range []func(){
			func() { s.Restart(t) },
			func() { s.Stop(t, "immediate"); s.Up(t) },
			func() { s.Kill(); s.Up(t) },
		} {
			begin = time.Now()
			again()
			t.Logf("PostgreSQL %d: up again in %v", version, time.Since(begin))
			run(t, db, "INSERT INTO t VALUES (1)")
		}
		require.Equal(t, 4, value[int](t, db, "SELECT count(*) FROM t"))
		s.Stop(t, "fast")
		_, err := pgx.Connect(t.Context(), db)
		require.Error(t, err)
	}
}

func TestTheSharedServerIsOne(t *testing.T) {
	require.Same(t, Shared(t), Shared(t))
	require.Equal(t, 1, value[int](t, Shared(t).Database(t), "SELECT 1"))
}
