package pgtest

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy stands before a server and can be cut, so that the server is away for those that
// reach it through the Proxy and for nobody else. Its methods may be called concurrently.
type Proxy struct {
	addr, server string

	mu       sync.Mutex
	changed  *sync.Cond
	listener net.Listener
	conns    map[net.Conn]bool // both sides of each connection
	hold     [2]bool           // requests, answers
}

// The directions of a Proxy, indexes of hold.
const (
	requests = iota
	answers
)

// Proxy starts a Proxy before the server. It ends with the test.
func (s *Server) Proxy(t testing.TB) *Proxy {
	t.Helper()
	return NewProxy(t, fmt.Sprintf("127.0.0.1:%d", freePort()), fmt.Sprintf("127.0.0.1:%d", s.port))
}

// NewProxy starts a Proxy that listens on one address and leads to another, of whatever
// server. It ends with the test. It listens in the network namespace of the calling thread.
func NewProxy(t testing.TB, addr, server string) *Proxy {
	t.Helper()
	p := &Proxy{addr: addr, server: server, conns: map[net.Conn]bool{}}
	p.changed = sync.NewCond(&p.mu)
	p.Restore(t)
	t.Cleanup(p.Cut)
	return p
}

// DSN returns the URL of the database postgres through the proxy; [Via] makes that of
// another.
func (p *Proxy) DSN() string { return "postgres://postgres@" + p.addr + "/postgres?sslmode=disable" }

// Cut closes every connection, and refuses new ones until Restore.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	for conn := range p.conns {
		_ = conn.Close()
	}
	clear(p.conns)
	p.changed.Broadcast()
}

// Hold lets nothing through in either direction until Restore, as a network that drops
// every packet: connections stay open, new ones are taken, and nobody hears a word.
func (p *Proxy) Hold() { p.set(true, true) }

// HoldAnswers lets requests through to the server, but no answers back until Restore:
// what is committed meanwhile is so without its client knowing.
func (p *Proxy) HoldAnswers() { p.set(false, true) }

func (p *Proxy) set(holdRequests, holdAnswers bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold[requests], p.hold[answers] = holdRequests, holdAnswers
	p.changed.Broadcast()
}

// Restore ends Cut, Hold and HoldAnswers. What was held goes on its way.
func (p *Proxy) Restore(t testing.TB) {
	t.Helper()
	p.set(false, false)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return
	}
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		t.Fatalf("start a proxy: %v", err)
	}
	p.listener = l
	go p.accept(l)
}

func (p *Proxy) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		go p.serve(client)
	}
}

func (p *Proxy) serve(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.server, 10*time.Second)
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	cut := p.listener == nil
	if !cut {
		p.conns[client], p.conns[server] = true, true
	}
	p.mu.Unlock()
	end := func() {
		_ = client.Close()
		_ = server.Close()
		p.mu.Lock()
		delete(p.conns, client)
		delete(p.conns, server)
		p.changed.Broadcast()
		p.mu.Unlock()
	}
	if cut {
		end()
		return
	}
	go func() {
		p.pump(client, server, client, answers)
		end()
	}()
	p.pump(server, client, client, requests)
	end()
}

// pump copies one direction of a connection, named by its client, to the connection's end.
func (p *Proxy) pump(to io.Writer, from io.Reader, client net.Conn, direction int) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if !p.pass(client, direction) {
			return
		}
		if _, writeErr := to.Write(buf[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// pass waits while the direction is held, and reports whether the connection still stands.
func (p *Proxy) pass(client net.Conn, direction int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.hold[direction] && p.conns[client] {
		p.changed.Wait()
	}
	return p.conns[client]
}
