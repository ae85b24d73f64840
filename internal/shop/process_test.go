package shop_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/internal/shop"
)

// configVar makes this test binary a process of the shop, which the tests start, kill and
// start again.
const configVar = "SHOP_TEST_CONFIG"

func TestMain(m *testing.M) {
	if config, ok := os.LookupEnv(configVar); ok {
		if err := serve(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	pgtest.Main(m)
}

func serve(config string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var c shop.Config
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c.Options.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	fmt.Println(l.Addr())
	return shop.Serve(ctx, l, c)
}

// process is a process of the shop.
type process struct {
	client
	cmd *exec.Cmd
	log bytes.Buffer // complete once it has ended
}

// start starts a process. It is killed when the test has ended, if not before.
func start(t *testing.T, c shop.Config) *process {
	t.Helper()
	config, err := json.Marshal(c)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), configVar+"="+string(config))
	p := &process{cmd: cmd}
	cmd.Stderr = &p.log
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("a process of the shop:\n%s", p.log.Bytes())
		}
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	p.client = client{t: t, url: "http://" + strings.TrimSpace(address)}
	return p
}

// kill ends the process as a loss of power would.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// stop ends the process as an operator does, and wants it to say nothing.
func (p *process) stop() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		require.NoError(p.t, err)
	case <-time.After(20 * time.Second):
		require.Fail(p.t, "the process does not end")
	}
}
