package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An interrupt while sealing leaves neither a half-done file nor a temporary one, also
// while the program waits for its input.
func interruptLeavesNothing(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			p := newPeople(t, 1, 0)
			require.NoError(t, os.WriteFile(filepath.Join(p.dir, "oubli.yaml"),
				[]byte("tables: {people: {subject: customer=id, personal: [name]}}"), 0o600))
			c := p.command("seal", "people", "-", "-o", "out.csv")
			in, err := c.StdinPipe()
			require.NoError(t, err)
			var words bytes.Buffer
			c.Stderr = &words
			require.NoError(t, c.Start())
			_, err = io.WriteString(in, "id,name\n1,Anna\n")
			require.NoError(t, err)
			temp := filepath.Join(p.dir, ".out.csv.oubli-*")
			require.Eventually(t, func() bool {
				found, _ := filepath.Glob(temp)
				return len(found) == 1
			}, 10*time.Second, 5*time.Millisecond)
			require.NoError(t, c.Process.Signal(sig))
			var exit *exec.ExitError
			require.ErrorAs(t, c.Wait(), &exit)
			require.Equal(t, exitFailed, exit.ExitCode())
			require.Equal(t, "oubli: error: interrupted\n", words.String())
			found, err := filepath.Glob(temp)
			require.NoError(t, err)
			require.Empty(t, found)
			require.NoFileExists(t, filepath.Join(p.dir, "out.csv"))
		})
	}
}

// What a killed run left of its output may be plaintext. The next run takes it away, and
// leaves alone what belongs to one that is at work.
func killedOutputIsSwept(t *testing.T) {
	p := newPeople(t, 1, 0)
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "oubli.yaml"),
		[]byte("tables: {people: {subject: customer=id, personal: [name]}}"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "empty.csv"), []byte("id,name\n"), 0o600))
	temps := func() []string {
		found, err := filepath.Glob(filepath.Join(p.dir, ".out.csv.oubli-*"))
		require.NoError(t, err)
		return found
	}
	c := p.command("open", "people", "-", "-o", "out.csv")
	in, err := c.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	_, err = io.WriteString(in, "id,name\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(temps()) == 1 }, 10*time.Second, 5*time.Millisecond)

	other := p.command("open", "people", "empty.csv", "-o", "out.csv")
	out, err := other.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Len(t, temps(), 1, "it belongs to a run that is at work")

	require.NoError(t, c.Process.Kill())
	require.Error(t, c.Wait())
	require.Len(t, temps(), 1)
	other = p.command("open", "people", "empty.csv", "-o", "out.csv")
	out, err = other.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, temps())
}
