package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience bounds every wait for a server. It is long because tests share their machine.
const patience = 60 * time.Second

// Options of a server. Zero values are the defaults.
type Options struct {
	Version  int               // the major version; 0: the first of Versions
	Settings map[string]string // lines of postgresql.conf, over those of the harness
	Archive  bool              // archive each WAL segment into ArchiveDir
}

// Server is a PostgreSQL server. Its methods may be called concurrently; those that take a
// testing.TB end that test when they fail, so only its own goroutine may call them.
type Server struct {
	in       install
	room     *room
	root     string // the server's directory in the room
	archive  string // "": none
	settings map[string]string
	port     int

	mu     sync.Mutex
	pid    int           // of the postmaster; 0 when it was stopped
	exited chan struct{} // closed when the postmaster ended
}

// Start starts a new server with an empty cluster. It is stopped and removed when the test
// has ended.
func Start(t testing.TB, o *Options) *Server {
	t.Helper()
	if o == nil {
		o = &Options{}
	}
	s, err := start(choose(t, o.Version), o)
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	t.Cleanup(s.end)
	return s
}

// start starts a server on a copy of the template.
func start(in install, o *Options) (*Server, error) {
	s, err := newServer(in, o.Settings)
	if err != nil {
		return nil, err
	}
	if o.Archive {
		s.archive = filepath.Join(s.root, "archive")
		err = s.room.mkdir(s.archive)
	}
	template, err2 := s.room.template(in)
	if err := errors.Join(err, err2); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.root))
	}
	if err := s.room.copyTree(s.Dir(), template, nil); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.root))
	}
	return s, s.first()
}

// newServer returns a server with a directory that has nothing in it yet.
func newServer(in install, settings map[string]string) (*Server, error) {
	room, err := theRoom()
	if err != nil {
		return nil, err
	}
	root, err := room.newDir("server")
	return &Server{in: in, room: room, root: root, settings: maps.Clone(settings)}, err
}

// first starts a server for the first time, on a port that is free, and removes it if that
// fails.
func (s *Server) first() error {
	var err error
	for range 5 {
		s.port = freePort()
		if err = s.configure(); err != nil {
			break
		}
		err = s.up("ready", "standby")
		if err == nil || !strings.Contains(err.Error(), "could not bind") {
			break
		}
	}
	if err != nil {
		s.end()
	}
	return err
}

// freePort returns a port that nobody listens on, from below those that the kernel gives
// to clients: one of them must not take it while the server is down.
func freePort() int {
	for {
		port := 12000 + rand.IntN(20000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
}

// configure writes postgresql.conf.
func (s *Server) configure() error {
	conf := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(s.port),
		"unix_socket_directories": "",
		"shared_buffers":          "32MB",
		"max_connections":         "200",
		"max_wal_senders":         "10",
		"wal_level":               "replica",
		"wal_keep_size":           "512MB", // for a standby that was away
		"jit":                     "off",
		"timezone":                "UTC",
		// In the data directory, so that it goes with it.
		"dynamic_shared_memory_type": "mmap",
	}
	if s.archive != "" {
		conf["archive_mode"] = "on"
		conf["archive_command"] = fmt.Sprintf(`cp "%%p" "%[1]s/%%f.part" && mv "%[1]s/%%f.part" "%[1]s/%%f"`, s.archive)
	}
	maps.Copy(conf, s.settings)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(conf)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(conf[name], "'", "''"))
	}
	path := filepath.Join(s.Dir(), "postgresql.conf")
	return errors.Join(os.WriteFile(path, []byte(text.String()), 0o600), s.room.owner.chown(path))
}

// up starts the server and waits until its postmaster.pid says one of the states.
func (s *Server) up(states ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid != 0 {
		return errors.New("the server runs already")
	}
	log, err := os.OpenFile(filepath.Join(s.root, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	before, err := log.Seek(0, 2)
	if err != nil {
		return err
	}
	cmd := exec.Command(s.Bin("postgres"), "-D", s.Dir())
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.root, log, log
	cmd.SysProcAttr = s.room.owner.sysProcAttr()
	if err := startTied(cmd); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	s.pid, s.exited = cmd.Process.Pid, exited
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if slices.Contains(states, s.state()) {
			return nil
		}
		select {
		case <-exited:
			s.pid = 0
			return fmt.Errorf("the server ended:\n%s", s.logFrom(before))
		case <-time.After(5 * time.Millisecond):
		}
	}
	return errors.Join(fmt.Errorf("the server is not up after %v:\n%s", patience, s.logFrom(before)), s.kill())
}

// state returns what the postmaster says of itself in its pid file, as pg_ctl reads it:
// starting, standby (it takes reads), ready, stopping; or "".
func (s *Server) state() string {
	text, err := os.ReadFile(filepath.Join(s.Dir(), "postmaster.pid"))
	lines := strings.Split(string(text), "\n")
	if err != nil || len(lines) < 8 || lines[0] != strconv.Itoa(s.pid) {
		return ""
	}
	return strings.TrimSpace(lines[7])
}

// logFrom returns what the server logged since an offset; the last of it if it is long.
func (s *Server) logFrom(offset int64) string {
	text, err := os.ReadFile(filepath.Join(s.root, "log"))
	if err != nil {
		return err.Error()
	}
	text = text[min(offset, int64(len(text))):]
	return string(text[max(0, len(text)-4000):])
}

// Stop stops the server: "smart" waits for clients to leave, "fast" disconnects them,
// "immediate" leaves out the checkpoint, so that the next start recovers from the WAL.
func (s *Server) Stop(t testing.TB, mode string) {
	t.Helper()
	if err := s.stop(mode); err != nil {
		t.Fatalf("stop PostgreSQL: %v", err)
	}
}

func (s *Server) stop(mode string) error {
	signal, ok := map[string]syscall.Signal{"smart": syscall.SIGTERM, "fast": syscall.SIGINT, "immediate": syscall.SIGQUIT}[mode]
	if !ok {
		return fmt.Errorf("%q is not a mode to stop in: use smart, fast or immediate", mode)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 {
		return nil
	}
	if process, err := os.FindProcess(s.pid); err == nil {
		_ = process.Signal(signal)
	}
	select {
	case <-s.exited:
		s.pid = 0
		return nil
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("the server does not stop in %v", patience), s.kill())
	}
}

// Up starts the server again after Stop or Kill, on the port that it had. It returns once
// the server takes connections.
func (s *Server) Up(t testing.TB) {
	t.Helper()
	if err := s.up("ready", "standby"); err != nil {
		t.Fatalf("start PostgreSQL again: %v", err)
	}
}

// Restart is Stop in mode fast, and Up.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t, "fast")
	s.Up(t)
}

// Kill kills all processes of the server at once with SIGKILL, as a loss of power of its
// machine would (but for what the kernel had not yet written).
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.kill(); err != nil {
		panic(err)
	}
}

func (s *Server) kill() error {
	if s.pid == 0 {
		return nil
	}
	err := killTree(s.pid)
	<-s.exited
	s.pid = 0
	return err
}

// end stops and removes the server. It stands in cleanups, where the test's verdict is
// made: what it cannot do, the watchdog or the next run does.
func (s *Server) end() {
	_ = s.stop("immediate")
	_ = removeSharedMemory(filepath.Join(s.Dir(), "postmaster.pid"))
	_ = os.RemoveAll(s.root)
}

// Dir returns the data directory.
func (s *Server) Dir() string { return filepath.Join(s.root, "data") }

// ArchiveDir returns the directory of the archived WAL, "" without Options.Archive.
func (s *Server) ArchiveDir() string { return s.archive }

// Port returns the port on 127.0.0.1. It stays the same over restarts.
func (s *Server) Port() int { return s.port }

// Version returns the major version.
func (s *Server) Version() int { return s.in.major }

// Bin returns the path of a program of the server's version, as pg_waldump; it need not
// exist.
func (s *Server) Bin(name string) string { return filepath.Join(s.in.bin, name) }

// DSN returns the URL of the database postgres, for the superuser.
func (s *Server) DSN() string { return dsn(s.port, "postgres") }

func dsn(port int, database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", port, database)
}

// Via returns dsn with the address of the other: the same database as a standby, a
// recovered server, a [Proxy] or a pgbouncer has it.
func Via(dsn, other string) string {
	a, err := url.Parse(dsn)
	b, err2 := url.Parse(other)
	if err := errors.Join(err, err2); err != nil {
		panic(err)
	}
	a.Host = b.Host
	return a.String()
}

// databases counts the databases of this process, for their names.
var databases atomic.Int64

// Database makes an empty database, which is dropped when the test has ended, and returns
// its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", databases.Add(1))
	// From template0: nobody connects to it, which would make this fail.
	s.exec(t, "CREATE DATABASE "+name+" TEMPLATE template0")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		// A server that the test left stopped or read-only keeps it, until its own end.
		_, _ = s.query(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	})
	return dsn(s.port, name)
}

// exec runs statements in the database postgres, each in its own transaction.
func (s *Server) exec(t testing.TB, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := s.query(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// query runs a statement in the database postgres and returns the first column of its
// result as text.
func (s *Server) query(ctx context.Context, sql string) ([]string, error) {
	conn, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	return query(ctx, conn, sql)
}

func query(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]string, error) {
	rows, err := conn.Query(ctx, sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
