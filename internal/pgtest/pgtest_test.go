package pgtest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if os.Getenv("PGTEST_NOTHING_INSTALLED") != "" {
		places = nil
	}
	Main(m)
}

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
	t.Parallel()
	EachVersion(t, func(t *testing.T, version int) {
		begin := time.Now()
		took := func(what string) {
			t.Logf("%s in %v", what, time.Since(begin).Round(time.Millisecond))
			begin = time.Now()
		}
		s := Start(t, &Options{Version: version, Settings: map[string]string{"work_mem": "5MB"}})
		took("a server")
		require.Equal(t, version, s.Version())
		require.Equal(t, version, value[int](t, s.DSN(), "SELECT current_setting('server_version_num')::int / 10000"))
		require.Equal(t, "on", value[string](t, s.DSN(), "SHOW fsync"))
		require.Equal(t, "5MB", value[string](t, s.DSN(), "SHOW work_mem"))

		begin = time.Now()
		db := s.Database(t)
		took("a database")
		require.NotEqual(t, db, s.Database(t))
		run(t, db, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
		begin = time.Now()
		s.Restart(t)
		took("restarted")
		run(t, db, "INSERT INTO t VALUES (1)")
		s.Stop(t, "immediate")
		s.Up(t)
		run(t, db, "INSERT INTO t VALUES (1)")
		s.Kill()
		begin = time.Now()
		s.Up(t)
		took("up after a kill")
		require.Equal(t, 3, value[int](t, db, "SELECT count(*) FROM t"))
		s.Stop(t, "fast")
		_, err := pgx.Connect(t.Context(), db)
		require.Error(t, err)
	})
}

func TestACopyOfTheTemplateIsFast(t *testing.T) {
	t.Parallel()
	EachVersion(t, func(t *testing.T, version int) {
		room, err := theRoom()
		require.NoError(t, err)
		template, err := room.template(choose(t, version))
		require.NoError(t, err)
		again, err := room.template(choose(t, version))
		require.NoError(t, err)
		require.Equal(t, template, again)
		dir, err := room.newDir("copy")
		require.NoError(t, err)
		defer func() { require.NoError(t, os.RemoveAll(dir)) }()
		begin := time.Now()
		require.NoError(t, room.copyTree(dir, template, nil))
		t.Logf("copied in %v", time.Since(begin).Round(time.Millisecond))
		// 0.1 s where nothing else runs.
		require.Less(t, time.Since(begin), 5*time.Second)
	})
}

func TestTheSharedServerIsOne(t *testing.T) {
	t.Parallel()
	require.Same(t, Shared(t), Shared(t))
	require.Equal(t, 1, value[int](t, Shared(t).Database(t), "SELECT 1"))
}
