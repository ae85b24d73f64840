package pgtest

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// startChild runs tests of this package, count times, in a process of their own.
func startChild(t *testing.T, run string, count int) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", run, "-test.count", strconv.Itoa(count))
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// servers returns the processes that a test process started in its room, with the room.
func servers(process int) (pids []int, room string) {
	for _, pid := range childrenOf(process) {
		cmdline, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if match := inRoom.Find(cmdline); match != nil {
			room = string(match)
			pids = append(append(pids, pid), childrenOf(pid)...)
		}
	}
	return pids, room
}

var inRoom = regexp.MustCompile(`[^\x00=]*/run-[^/\x00]+`)

func TestNothingIsLeftOfAKilledProcess(t *testing.T) {
	t.Parallel()
	choose(t, 0)
	child := startChild(t, "^(TestAStandbyReplaysAndIsPromoted|TestABouncerPoolsTransactions)$", 10)
	var pids []int
	var room string
	// The watchdog, at least two servers and what they started.
	require.Eventually(t, func() bool {
		pids, room = servers(child.Process.Pid)
		return len(pids) > 12
	}, patience, 5*time.Millisecond)
	require.DirExists(t, room)
	// While this is locked, no other process sweeps: it is the watchdog that is tested.
	r, err := theRoom()
	require.NoError(t, err)
	lock, err := lockFile(filepath.Join(r.base, "lock"), true)
	require.NoError(t, err)
	defer lock.Close()
	require.NoError(t, child.Process.Kill())
	_ = child.Wait()
	require.Eventually(t, func() bool {
		_, err := os.Stat(room)
		return errors.Is(err, fs.ErrNotExist)
	}, patience, 5*time.Millisecond, room)
	for _, pid := range pids {
		require.True(t, waitState(pid, "ZX"), "process %d of the child runs", pid)
	}
}

func TestNothingIsLeftOfAProcessThatEnded(t *testing.T) {
	t.Parallel()
	choose(t, 0)
	child := startChild(t, "^TestTheSharedServerIsOne$", 1)
	var room string
	require.Eventually(t, func() bool {
		_, room = servers(child.Process.Pid)
		return room != ""
	}, patience, 5*time.Millisecond)
	require.NoError(t, child.Wait())
	left, err := filepath.Glob(filepath.Join(room, "server-*"))
	require.NoError(t, err)
	require.Empty(t, left, "Main removed the server")
	require.Eventually(t, func() bool {
		_, err := os.Stat(room)
		return errors.Is(err, fs.ErrNotExist)
	}, patience, 5*time.Millisecond, room)
}

func TestTheNextRunRemovesWhatADeadOneLeft(t *testing.T) {
	t.Parallel()
	Shared(t) // so that this process has a room, which lives
	r, err := theRoom()
	require.NoError(t, err)
	old := &room{base: t.TempDir(), owner: r.owner}
	dead, alive := filepath.Join(old.base, "run-dead"), filepath.Join(old.base, "run-alive")
	stale, boot := filepath.Join(old.base, "template-00000000-1"), filepath.Join(old.base, "template-"+bootID()+"-1")
	for _, dir := range []string{dead, alive, stale, boot} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "server-1", "data"), 0o755))
	}
	lock, err := lockFile(filepath.Join(alive, "alive"), false)
	require.NoError(t, err)
	defer lock.Close()
	old.sweep()
	require.NoDirExists(t, dead)
	require.NoDirExists(t, stale)
	require.DirExists(t, alive)
	require.DirExists(t, boot)
}
