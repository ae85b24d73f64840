//go:build linux

package pgchaos

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// patience is how long a worker may take to answer: tests share their machine.
const patience = time.Minute

// process is a worker as the test sees it.
type process struct {
	config
	pid    int
	in     io.Writer
	stderr string        // the file
	exited chan struct{} // closed at its end
	err    error         // of its end

	mu      sync.Mutex
	asked   int
	answers map[int]chan string
}

// start starts a worker. It is killed when the test has ended, and by the kernel when the
// test's process has.
func start(t testing.TB, c config) *process {
	t.Helper()
	text, err := json.Marshal(c)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerVariable+"="+string(text))
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	p := &process{config: c, exited: make(chan struct{}), answers: map[int]chan string{}, stderr: c.Journal + ".stderr"}
	stderr, err := os.OpenFile(p.stderr, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer stderr.Close()
	cmd.Stderr = stderr
	p.in, err = cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	begun := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel takes the end of this thread for the test's
		err := cmd.Start()
		begun <- err
		if err != nil {
			return
		}
		p.listen(out)
		p.err = cmd.Wait()
		close(p.exited)
	}()
	require.NoError(t, <-begun)
	p.pid = cmd.Process.Pid
	t.Cleanup(func() {
		p.signal(unix.SIGKILL)
		<-p.exited
	})
	return p
}

// listen hands each answer to who asked, until the process ends.
func (p *process) listen(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		number, answer, _ := strings.Cut(lines.Text(), " ")
		var n int
		fmt.Sscan(number, &n)
		p.mu.Lock()
		if c := p.answers[n]; c != nil {
			c <- answer
			delete(p.answers, n)
		}
		p.mu.Unlock()
	}
}

// signal sends a signal to the process if it has not ended.
func (p *process) signal(s unix.Signal) {
	select {
	case <-p.exited:
	default:
		_ = unix.Kill(p.pid, s)
	}
}

// send gives a command.
func (p *process) send(command string, ids ...int64) (answer chan string) {
	answer = make(chan string, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	p.answers[p.asked] = answer
	fmt.Fprintln(p.in, p.asked, command, strings.Trim(fmt.Sprint(ids), "[]"))
	return answer
}

// ask gives a command and returns the answer, or what there is in its place.
func (p *process) ask(limit time.Duration, command string, ids ...int64) string {
	return p.await(limit, p.send(command, ids...))
}

func (p *process) await(limit time.Duration, answer chan string) string {
	select {
	case a := <-answer:
		return a
	case <-p.exited:
		return "it has ended"
	case <-time.After(limit):
		return "no answer"
	}
}

// end makes a worker's loops end.
func (p *process) end(t testing.TB) {
	t.Helper()
	require.Equal(t, "ended", p.ask(patience, "end"), "%s:\n%s", p.Name, p.said())
}

// quit ends a worker, and requires that it ends well.
func (p *process) quit(t testing.TB) {
	t.Helper()
	p.send("quit")
	select {
	case <-p.exited:
		require.NoError(t, p.err, "%s:\n%s", p.Name, p.said())
	case <-time.After(patience):
		require.Fail(t, "a worker does not quit", "%s:\n%s", p.Name, p.said())
	}
}

// said is what the process wrote to its standard error.
func (p *process) said() string {
	text, _ := os.ReadFile(p.stderr)
	return string(text)
}

// crew is the processes of a run.
type crew struct {
	dir   string
	begin time.Duration
	base  config // what all are told
	procs []*process
	kills int
}

// hire starts a worker. One that may kill itself is started again by keepAlive.
func (c *crew) hire(t testing.TB, name string, change func(*config)) *process {
	t.Helper()
	one := c.base
	one.Name, one.Index, one.Begin = name, int64(len(c.procs)+1), c.begin
	one.Journal = filepath.Join(c.dir, name)
	if change != nil {
		change(&one)
	}
	p := start(t, one)
	c.procs = append(c.procs, p)
	return p
}

// keepAlive starts workers again that killed themselves. It is called from time to time.
func (c *crew) keepAlive(t testing.TB) {
	t.Helper()
	for i, p := range c.procs {
		select {
		case <-p.exited:
			require.Positive(t, p.Chance, "%s ended: %v\n%s", p.Name, p.err, p.said())
			require.ErrorContains(t, p.err, "killed", "%s:\n%s", p.Name, p.said())
			c.kills++
			c.procs[i] = start(t, p.config)
		default:
		}
	}
}

// endAll ends all workers' loops, judges, has each of them ask for keys for everybody who
// was erased, ends them, and judges again.
func (c *crew) endAll(t testing.TB) (v *verdict, sweeps map[string]string) {
	t.Helper()
	for i, p := range c.procs {
		if p.Chance > 0 { // once more, and from now on it lives
			p.signal(unix.SIGKILL)
			<-p.exited
			p.Chance = 0
			c.procs[i] = start(t, p.config)
		}
	}
	for _, p := range c.procs {
		p.end(t)
	}
	var erased []int64
	for id := range c.judge(t).gone {
		erased = append(erased, id)
	}
	sweeps = map[string]string{}
	for _, p := range c.procs {
		sweeps[p.Name] = p.ask(patience, "sweep", erased...)
		p.quit(t)
	}
	return c.judge(t), sweeps
}

// judge judges what the journals say so far.
func (c *crew) judge(t testing.TB) *verdict {
	t.Helper()
	return judge(func(f func(entry)) {
		for _, p := range c.procs {
			require.NoError(t, readJournal(p.Journal, p.Name, f))
		}
	})
}
