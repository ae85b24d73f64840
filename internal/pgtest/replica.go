package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// BaseBackup backs up the running server into dir, which must be absent or empty, with the
// WAL that makes it consistent. It is pg_basebackup; a version that comes without that
// program is copied between pg_backup_start and pg_backup_stop.
func (s *Server) BaseBackup(t testing.TB, dir string) {
	t.Helper()
	if err := s.baseBackup(t.Context(), dir); err != nil {
		t.Fatalf("base backup: %v", err)
	}
}

func (s *Server) baseBackup(ctx context.Context, dir string) error {
	program := s.Bin("pg_basebackup")
	if !executable(program) {
		return s.copyOnline(ctx, dir)
	}
	// As this process, not as the owner of servers: dir may be in a directory of a test.
	cmd := exec.CommandContext(ctx, program, "--dbname="+s.DSN(), "--pgdata="+dir, "--wal-method=stream", "--checkpoint=fast", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	return nil
}

// copyOnline backs up with the functions for it, as the manual describes in "Making a
// Base Backup Using the Low Level API" (PostgreSQL 15 and later). Tablespaces outside of
// the data directory are not copied.
func (s *Server) copyOnline(ctx context.Context, dir string) error {
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		return fmt.Errorf("%s is not empty", dir)
	}
	conn, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "SELECT pg_backup_start('pgtest', true)"); err != nil {
		return err
	}
	err = s.room.copyTree(dir, s.Dir(), func(path string) bool {
		in, name, _ := strings.Cut(path, "/")
		switch in {
		case "postmaster.pid", "postmaster.opts":
			return true
		case "pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans":
			return name != ""
		}
		return false
	})
	if err != nil {
		return err
	}
	var label string
	if err := conn.QueryRow(ctx, "SELECT labelfile FROM pg_backup_stop(false)").Scan(&label); err != nil {
		return err
	}
	// The WAL last: it must reach to the end of the backup.
	if err := os.Remove(filepath.Join(dir, "pg_wal")); err != nil {
		return err
	}
	if err := s.room.copyTree(filepath.Join(dir, "pg_wal"), filepath.Join(s.Dir(), "pg_wal"), nil); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "backup_label"), []byte(label), 0o600)
}

// Standby starts a standby that streams from this server as application_name name, and
// returns once it streams. It takes reads, and archives where this server does once it is
// promoted. It has the settings of Options, but no synchronous_standby_names, and none of
// ALTER SYSTEM. It is stopped and removed when the test has ended.
func (s *Server) Standby(t testing.TB, name string) *Server {
	t.Helper()
	standby, err := s.follow("standby.signal", s.archive, map[string]string{
		"primary_conninfo": fmt.Sprintf("host=127.0.0.1 port=%d user=postgres application_name=%s", s.port, name),
	}, func(dir string) error { return s.baseBackup(t.Context(), dir) })
	if err != nil {
		t.Fatalf("start a standby: %v", err)
	}
	t.Cleanup(standby.end)
	s.await(t, "that "+name+" streams",
		"SELECT state FROM pg_stat_replication WHERE state = 'streaming' AND application_name = $1", name)
	return standby
}

// follow starts a server on what fill puts into its data directory, with a signal file
// that makes it recover, and more settings than this server's.
func (s *Server) follow(signal, archive string, more map[string]string, fill func(dir string) error) (*Server, error) {
	settings := map[string]string{}
	maps.Copy(settings, s.settings)
	maps.Copy(settings, more)
	delete(settings, "synchronous_standby_names")
	other, err := newServer(s.in, settings)
	if err != nil {
		return nil, err
	}
	other.archive = archive
	dir := other.Dir()
	err = fill(dir)
	for _, name := range []string{signal, "postgresql.auto.conf"} {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), nil, 0o600)
		}
	}
	if err == nil {
		err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, s.room.owner.chown(path))
		})
	}
	if err != nil {
		other.end()
		return nil, err
	}
	return other, other.first()
}

// Promote makes a standby a primary, and returns once it takes writes. The server that it
// followed is left as it is: stop or kill that first.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	s.exec(t, "SELECT pg_promote(true, 60)::text")
	s.await(t, "the promotion", "SELECT 'primary' WHERE NOT pg_is_in_recovery()")
}

// CaughtUp waits until a standby has applied all that was committed on this server before
// the call.
func (s *Server) CaughtUp(t testing.TB, standby *Server) {
	t.Helper()
	lsn, err := s.query(t.Context(), "SELECT pg_current_wal_flush_lsn()::text")
	if err != nil {
		t.Fatalf("wait for a standby: %v", err)
	}
	standby.await(t, "the standby", "SELECT 'applied' WHERE pg_last_wal_replay_lsn() >= $1::pg_lsn", lsn[0])
}

// SwitchWAL ends the current WAL segment and returns once it is in ArchiveDir.
func (s *Server) SwitchWAL(t testing.TB) {
	t.Helper()
	s.needArchive(t)
	// A segment with nothing in it would not be switched, so something is written.
	s.exec(t, "SELECT pg_create_restore_point('pgtest switches the WAL')::text")
	file, err := s.query(t.Context(), "SELECT pg_walfile_name(pg_switch_wal())")
	if err != nil {
		t.Fatalf("switch the WAL: %v", err)
	}
	path := filepath.Join(s.archive, file[0])
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
	t.Fatalf("%s is not archived in %v", file[0], patience)
}

func (s *Server) needArchive(t testing.TB) {
	t.Helper()
	if s.archive == "" {
		t.Fatal("this server does not archive its WAL: start it with Options.Archive")
	}
}

// Target is the point that a recovery goes to: the last commit up to Time, or the restore
// point Name (pg_create_restore_point), or with neither the end of the archive. For a time
// there must be a later commit.
type Target struct {
	Time time.Time
	Name string
}

// Recover starts a new server from a base backup of this one and the archived WAL, up to
// the target, and returns once it takes writes, on a timeline of its own that it doesn't
// archive. While this server runs, its current segment is archived first. The recovered
// server is stopped and removed when the test has ended.
func (s *Server) Recover(t testing.TB, base string, target Target) *Server {
	t.Helper()
	s.needArchive(t)
	s.mu.Lock()
	runs := s.pid != 0
	s.mu.Unlock()
	if runs {
		s.SwitchWAL(t)
	}
	settings := map[string]string{
		"restore_command":        fmt.Sprintf(`cp "%s/%%f" "%%p"`, s.archive),
		"recovery_target_action": "promote",
	}
	if !target.Time.IsZero() {
		settings["recovery_target_time"] = target.Time.UTC().Format("2006-01-02 15:04:05.999999") + "+00"
	}
	if target.Name != "" {
		settings["recovery_target_name"] = target.Name
	}
	recovered, err := s.follow("recovery.signal", "", settings, func(dir string) error {
		return s.room.copyTree(dir, base, nil)
	})
	if err != nil {
		t.Fatalf("recover: %v", err)
	}
	t.Cleanup(recovered.end)
	recovered.await(t, "the end of the recovery", "SELECT 'recovered' WHERE NOT pg_is_in_recovery()")
	return recovered
}

// await waits until a query in the database postgres returns a row.
func (s *Server) await(t testing.TB, what, sql string, args ...any) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var conn *pgx.Conn
		if conn, err = pgx.Connect(t.Context(), s.DSN()); err != nil {
			continue
		}
		var rows []string
		for err == nil && len(rows) == 0 && time.Now().Before(end) {
			rows, err = query(t.Context(), conn, sql, args...)
			if len(rows) == 0 {
				time.Sleep(5 * time.Millisecond)
			}
		}
		_ = conn.Close(t.Context())
		if len(rows) > 0 {
			return
		}
	}
	t.Fatalf("waited %v for %s: %v\n%s", patience, what, err, s.logFrom(0))
}
