//go:build linux

package enginetest

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/oubli/oubli/internal/pgtest"
)

// namespaces is the environment variable that says what to do where this machine lets nobody
// make network namespaces: with "required" the test fails, else a proxy stands before each
// host. With "none" that is so everywhere.
const namespaces = "OUBLI_TEST_NAMESPACES"

// host is a machine of its own as far as processes on it can tell: it has a name and a
// machine id, and the database and the root store are at the other ends of two cables.
type host struct {
	name             string
	enter            func() error // takes the calling thread into the host, for good; nil: there is no host
	database, engine *cable
}

// cable leads from a host to a server.
type cable struct {
	addr      string // of the server, as the host sees it
	cut, mend func() error
	cuts      int // so far
}

// pull cuts a cable: not a packet comes through, and nobody is told.
func (c *cable) pull(t testing.TB) {
	t.Helper()
	require.NoError(t, c.cut())
	c.cuts++
}

// plug undoes pull.
func (c *cable) plug(t testing.TB) {
	t.Helper()
	require.NoError(t, c.mend())
}

var errNone = errors.New(namespaces + " says none")

// wire makes hosts with cables to two servers. They are network namespaces where that can
// be done; else they are but proxies, one for each cable. It says which.
func wire(t *testing.T, database, engine string, names ...string) []*host {
	t.Helper()
	hosts, err := []*host(nil), error(errNone)
	if os.Getenv(namespaces) != "none" {
		hosts, err = wireNamespaces(t, database, engine, names)
	}
	if err == nil {
		t.Logf("HOSTS: %d network namespaces", len(names))
		return hosts
	}
	require.NotEqual(t, "required", os.Getenv(namespaces), "no network namespaces can be made here, and they are required: %v", err)
	fmt.Fprintf(os.Stderr, "HOSTS: no network namespaces can be made here (%v): proxies stand in for them\n", err)
	t.Logf("HOSTS: proxies; no network namespaces can be made here: %v", err)
	hosts = nil
	for _, name := range names {
		hosts = append(hosts, &host{name: name, database: proxied(t, database), engine: proxied(t, engine)})
	}
	return hosts
}

// proxied is a cable that is a proxy.
func proxied(t *testing.T, server string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	l.Close()
	p := pgtest.NewProxy(t, addr, server)
	return &cable{addr: addr, cut: func() error { p.Hold(); return nil }, mend: func() error { p.Restore(t); return nil }}
}

// space is a network namespace. It has no name: it ends with the processes and the sockets
// in it, however the test does.
type space struct{ f *os.File }

func newSpace() (s *space, err error) {
	err = aside(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		s = &space{f}
		return err
	})
	return s, err
}

// aside calls f on a thread that ends with it.
func aside(f func() error) error {
	failed := errors.New("the test has failed")
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := failed
		defer func() { done <- err }()
		err = f()
	}()
	return <-done
}

func (s *space) enter() error { return unix.Setns(int(s.f.Fd()), unix.CLONE_NEWNET) }

// do calls f in the namespace.
func (s *space) do(f func() error) error {
	return aside(func() error { return errors.Join(s.enter(), f()) })
}

// ip runs commands of ip(8) in the namespace. "@" stands for another namespace.
func (s *space) ip(other *space, commands ...string) error {
	return s.do(func() error {
		for _, command := range commands {
			cmd := exec.Command("ip", strings.Fields(strings.ReplaceAll(command, "@", "/proc/self/fd/3"))...)
			if other != nil {
				cmd.ExtraFiles = []*os.File{other.f}
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("ip %s: %w: %s", command, err, out)
			}
		}
		return nil
	})
}

// wireNamespaces makes each host a network namespace with two cables to one that is the hub.
// There relays take what comes, and go on to the servers in the namespace that the test is in.
func wireNamespaces(t *testing.T, database, engine string, names []string) (hosts []*host, err error) {
	hub, err := newSpace()
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { hub.f.Close() })
	for i, name := range names {
		s, err := newSpace()
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { s.f.Close() })
		dir := t.TempDir()
		h := &host{name: name, enter: func() error { return errors.Join(s.enter(), become(name, dir)) }}
		if h.database, err = hub.cable(t, s, 2*i, database); err != nil {
			return nil, err
		}
		if h.engine, err = hub.cable(t, s, 2*i+1, engine); err != nil {
			return nil, err
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// cable leads from a host to the hub, and from there to a server.
func (s *space) cable(t *testing.T, to *space, number int, server string) (*cable, error) {
	here, there := fmt.Sprintf("10.77.%d.1", number), fmt.Sprintf("10.77.%d.2", number)
	plug := fmt.Sprintf("hub%d", number)
	err := s.ip(to,
		fmt.Sprintf("link add %s type veth peer name host%d netns @", plug, number),
		fmt.Sprintf("addr add %s/24 dev %s", here, plug),
		fmt.Sprintf("link set dev %s up", plug))
	if err == nil {
		err = to.ip(nil,
			fmt.Sprintf("addr add %s/24 dev host%d", there, number),
			fmt.Sprintf("link set dev host%d up", number))
	}
	if err != nil {
		return nil, err
	}
	c := &cable{addr: net.JoinHostPort(here, "7000"),
		cut:  func() error { return s.ip(nil, "link set dev "+plug+" down") },
		mend: func() error { return s.ip(nil, "link set dev "+plug+" up") },
	}
	return c, s.do(func() error { pgtest.NewProxy(t, c.addr, server); return nil })
}

// become gives the calling thread a host name and a machine id of its own.
func become(name, dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWUTS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if _, err := os.Stat("/etc/machine-id"); err != nil {
		return nil // the name is what tells this machine from others, too
	}
	id := filepath.Join(dir, "machine-id")
	if err := os.WriteFile(id, fmt.Appendf(nil, "%032x\n", name), 0o600); err != nil {
		return err
	}
	return unix.Mount(id, "/etc/machine-id", "", unix.MS_BIND, "")
}

// at is a URL that leads to another address.
func at(t testing.TB, address, addr string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	u.Host = addr
	return u.String()
}

// A cable that is cut carries nothing, one that is mended does, and the other one never
// stopped.
func TestCables(t *testing.T) {
	server := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					b := make([]byte, 1)
					for {
						if _, err := c.Read(b); err != nil {
							return
						}
						if _, err := c.Write(b); err != nil {
							return
						}
					}
				}()
			}
		}()
		return l.Addr().String()
	}
	h := wire(t, server(), server(), "one", "two")[1]
	in := func(f func() error) error {
		return aside(func() error {
			if h.enter != nil {
				if err := h.enter(); err != nil {
					return err
				}
			}
			return f()
		})
	}
	dial := func(c *cable) (conn net.Conn) {
		err := in(func() (err error) { conn, err = net.DialTimeout("tcp", c.addr, 10*time.Second); return err })
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	echo := func(c net.Conn, limit time.Duration) error {
		c.SetDeadline(time.Now().Add(limit))
		b := []byte{7}
		if _, err := c.Write(b); err != nil {
			return err
		}
		_, err := c.Read(b)
		return err
	}
	database, engine := dial(h.database), dial(h.engine)
	require.NoError(t, echo(database, 10*time.Second))
	require.NoError(t, echo(engine, 10*time.Second))
	h.engine.pull(t)
	require.ErrorIs(t, echo(engine, 200*time.Millisecond), os.ErrDeadlineExceeded)
	require.NoError(t, echo(database, 10*time.Second))
	h.engine.plug(t)
	c := dial(h.engine)
	require.NoError(t, echo(c, 10*time.Second))
	if h.enter == nil {
		return
	}
	require.NoError(t, in(func() error {
		name, err := os.Hostname()
		if name != "two" {
			return fmt.Errorf("the host's name is %q: %w", name, err)
		}
		return nil
	}))
	name, err := os.Hostname()
	require.NoError(t, err)
	require.NotEqual(t, "two", name, "this machine has become the host")
}
