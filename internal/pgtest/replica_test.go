package pgtest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAStandbyReplaysAndIsPromoted(t *testing.T) {
	t.Parallel()
	EachVersion(t, func(t *testing.T, version int) {
		s := Start(t, &Options{Version: version, Archive: true})
		db := s.Database(t)
		run(t, db, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
		begin := time.Now()
		standby := s.Standby(t, "second")
		t.Logf("a standby in %v", time.Since(begin).Round(time.Millisecond))
		there := Via(db, standby.DSN())
		require.Equal(t, 1, value[int](t, there, "SELECT count(*) FROM t"))

		// Remote apply: the commit returns when the standby shows it.
		run(t, s.DSN(), "ALTER SYSTEM SET synchronous_standby_names = 'second'", "SELECT pg_reload_conf()")
		s.await(t, "the synchronous standby", "SELECT sync_state FROM pg_stat_replication WHERE sync_state = 'sync'")
		run(t, db, "SET synchronous_commit = remote_apply", "INSERT INTO t VALUES (2)")
		require.Equal(t, 2, value[int](t, there, "SELECT count(*) FROM t"))
		run(t, db, "SET synchronous_commit = local", "INSERT INTO t VALUES (3)")
		s.CaughtUp(t, standby)
		require.Equal(t, 3, value[int](t, there, "SELECT count(*) FROM t"))
		_, err := connect(t, there).Exec(t.Context(), "INSERT INTO t VALUES (4)")
		require.ErrorContains(t, err, "read-only")

		s.Kill()
		begin = time.Now()
		standby.Promote(t)
		t.Logf("promoted in %v", time.Since(begin).Round(time.Millisecond))
		run(t, there, "INSERT INTO t VALUES (4)")
		standby.SwitchWAL(t)
		require.FileExists(t, filepath.Join(s.ArchiveDir(), "00000002.history"))
	})
}

func TestRecoveryGoesToItsTarget(t *testing.T) {
	t.Parallel()
	EachVersion(t, func(t *testing.T, version int) {
		s := Start(t, &Options{Version: version, Archive: true})
		db := s.Database(t)
		run(t, db, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
		base := filepath.Join(t.TempDir(), "base")
		begin := time.Now()
		s.BaseBackup(t, base)
		t.Logf("a base backup in %v", time.Since(begin).Round(time.Millisecond))
		run(t, db, "INSERT INTO t VALUES (2)", "SELECT pg_create_restore_point('two')")
		run(t, db, "INSERT INTO t VALUES (3)")
		three := value[time.Time](t, db, "SELECT clock_timestamp()")
		run(t, db, "INSERT INTO t VALUES (4)")

		type recovery struct {
			target Target
			rows   int
		}
		recoveries := []recovery{{Target{Name: "two"}, 2}}
		if version == Versions()[0] {
			recoveries = append(recoveries, recovery{Target{Time: three}, 3}, recovery{Target{}, 4})
		}
		for _, c := range recoveries {
			begin = time.Now()
			recovered := s.Recover(t, base, c.target)
			t.Logf("recovered in %v", time.Since(begin).Round(time.Millisecond))
			there := Via(db, recovered.DSN())
			require.Equal(t, c.rows, value[int](t, there, "SELECT count(*) FROM t"))
			run(t, there, "INSERT INTO t VALUES (5)")
		}
		require.Equal(t, 4, value[int](t, db, "SELECT count(*) FROM t"))
	})
}

func TestABouncerPoolsTransactions(t *testing.T) {
	t.Parallel()
	s := Shared(t)
	db := s.Database(t)
	backends := func(mode string) int {
		through := Via(db, s.Bouncer(t, mode)) + "&default_query_exec_mode=simple_protocol"
		pids := map[int]bool{}
		for range 3 {
			// In its transaction each of them would need its own server connection.
			pids[value[int](t, through, "SELECT pg_backend_pid()")] = true
		}
		return len(pids)
	}
	require.Equal(t, 1, backends("transaction"))
	require.Equal(t, 3, backends("session"))
}

func TestABaseBackupNeedsAnEmptyDirectory(t *testing.T) {
	t.Parallel()
	EachVersion(t, func(t *testing.T, version int) {
		s := Start(t, &Options{Version: version})
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
		require.ErrorContains(t, s.baseBackup(t.Context(), dir), "not empty")
	})
}
