package pgstore

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A server that has gone without a word is noticed also by whoever sends something, who
// would else wait for as long as the system tries.
func TestConnectionsBoundSilence(t *testing.T) {
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "socket")} {
		l, err := net.Listen(network, address)
		require.NoError(t, err)
		defer l.Close()
		c, err := dialer().DialContext(t.Context(), network, l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		if network == "unix" {
			continue
		}
		raw, err := c.(*net.TCPConn).SyscallConn()
		require.NoError(t, err)
		var ms int
		require.NoError(t, raw.Control(func(fd uintptr) {
			ms, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		}))
		require.NoError(t, err)
		require.EqualValues(t, silence.Milliseconds(), ms)
	}
}
