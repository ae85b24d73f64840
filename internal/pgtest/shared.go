package pgtest

import (
	"os"
	"sync"
	"testing"
)

// shared is the server of Shared.
var shared struct {
	sync.Mutex
	server *Server
	err    error
}

// Shared returns the one server that all tests of a package share; it is started for the
// first that asks, with default options. Tests use a [Server.Database] of it each, and
// leave the server as it is: to stop or set it, [Start] one.
func Shared(t testing.TB) *Server {
	t.Helper()
	in := choose(t, 0)
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = start(in, &Options{})
	}
	if shared.err != nil {
		t.Fatalf("start the shared PostgreSQL: %v", shared.err)
	}
	return shared.server
}

// Main runs the tests of a package that uses [Shared], stops the server and exits. Without
// it, the server stops a moment after the test process has ended.
func Main(m *testing.M) {
	code := m.Run()
	shared.Lock()
	if shared.server != nil {
		shared.server.end()
	}
	os.Exit(code)
}
