package pgtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Bouncer starts a pgbouncer before the server, with pool_mode "transaction" or "session",
// and returns the URL of the database postgres through it; [Via] makes that of another.
// It is otherwise set as it comes, and knows the user postgres only. It ends with the test.
func (s *Server) Bouncer(t testing.TB, mode string) string {
	t.Helper()
	program := pgbouncer()
	if program == "" {
		missing(t, "pgbouncer")
	}
	port, err := s.startBouncer(t, program, mode)
	if err != nil {
		t.Fatalf("start pgbouncer: %v", err)
	}
	return dsn(port, "postgres")
}

func (s *Server) startBouncer(t testing.TB, program, mode string) (int, error) {
	dir, err := s.room.newDir("pgbouncer")
	if err != nil {
		return 0, err
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	port := freePort()
	users, ini, log := filepath.Join(dir, "users.txt"), filepath.Join(dir, "pgbouncer.ini"), filepath.Join(dir, "log")
	files := map[string]string{
		users: "\"postgres\" \"\"\n",
		log:   "",
		ini: strings.Join([]string{
			"[databases]",
			fmt.Sprintf("* = host=127.0.0.1 port=%d", s.port),
			"[pgbouncer]",
			"listen_addr = 127.0.0.1",
			fmt.Sprintf("listen_port = %d", port),
			"unix_socket_dir =",
			"auth_type = trust",
			"auth_file = " + users,
			"pool_mode = " + mode,
			"max_client_conn = 200",
		}, "\n") + "\n",
	}
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return 0, err
		}
		if err := s.room.owner.chown(path); err != nil {
			return 0, err
		}
	}
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	cmd := exec.Command(program, ini)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.SysProcAttr = s.room.owner.sysProcAttr()
	if err := startTied(cmd); err != nil {
		return 0, err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		// It has nothing to lose.
		_ = cmd.Process.Kill()
		<-exited
	})
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, conn.Close()
		}
		select {
		case <-exited:
			text, _ := os.ReadFile(log)
			return 0, fmt.Errorf("it ended:\n%s", text)
		default:
		}
	}
	return 0, fmt.Errorf("it takes no connection in %v", patience)
}
