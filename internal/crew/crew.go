//go:build linux

package crew

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Patience is how long a worker may take to answer: tests share their machine.
const Patience = time.Minute

// Process is a process as the test that started it sees it. Its methods may be called
// concurrently.
type Process struct {
	Config
	enter  func() error
	pid    int
	in     io.Writer
	stderr string        // the file
	exited chan struct{} // closed at its end
	err    error         // of its end

	mu      sync.Mutex
	asked   int
	answers map[int]chan string
}

// start starts a process. It is killed when the test has ended, and by the kernel when the
// test's process has. enter, if not nil, is called by the thread that it is started from and
// that nothing else will run on: to take it into namespaces.
func start(t testing.TB, c Config, enter func() error) *Process {
	t.Helper()
	text, err := json.Marshal(c)
	must(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerVariable+"="+string(text))
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	p := &Process{Config: c, enter: enter, exited: make(chan struct{}), answers: map[int]chan string{}, stderr: c.Journal + ".stderr"}
	stderr, err := os.OpenFile(p.stderr, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	must(t, err)
	defer stderr.Close()
	cmd.Stderr = stderr
	p.in, err = cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	begun := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel takes the end of this thread for the test's
		var err error
		if enter != nil {
			err = enter()
		}
		if err == nil {
			err = cmd.Start()
		}
		begun <- err
		if err != nil {
			return
		}
		p.listen(out)
		p.err = cmd.Wait()
		close(p.exited)
	}()
	must(t, <-begun)
	p.pid = cmd.Process.Pid
	t.Cleanup(func() { p.Kill() })
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listen hands each answer to who asked, until the process ends.
func (p *Process) listen(out io.Reader) {
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

// Kill ends the process with SIGKILL, and returns when it has ended.
func (p *Process) Kill() {
	p.Signal(unix.SIGKILL)
	<-p.exited
}

// Signal sends a signal to the process if it has not ended.
func (p *Process) Signal(s unix.Signal) {
	select {
	case <-p.exited:
	default:
		_ = unix.Kill(p.pid, s)
	}
}

// Send gives a command; see obey. Await takes the answer.
func (p *Process) Send(command string, ids ...int64) (answer chan string) {
	answer = make(chan string, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	p.answers[p.asked] = answer
	fmt.Fprintln(p.in, p.asked, command, strings.Trim(fmt.Sprint(ids), "[]"))
	return answer
}

// Ask gives a command and returns the answer, or what there is in its place.
func (p *Process) Ask(limit time.Duration, command string, ids ...int64) string {
	return p.Await(limit, p.Send(command, ids...))
}

// Await returns the answer to a command, or what there is in its place.
func (p *Process) Await(limit time.Duration, answer chan string) string {
	select {
	case a := <-answer:
		return a
	case <-p.exited:
		return "it has ended"
	case <-time.After(limit):
		return "no answer"
	}
}

// end makes the process's loops end.
func (p *Process) end(t testing.TB) {
	t.Helper()
	if answer := p.Ask(Patience, "end"); answer != "ended" {
		t.Fatalf("%s does not end: %s\n%s", p.Name, answer, p.said())
	}
}

// Quit ends the process, and fails the test if it does not end well.
func (p *Process) Quit(t testing.TB) {
	t.Helper()
	p.Send("quit")
	select {
	case <-p.exited:
		if p.err != nil {
			t.Fatalf("%s ended: %v\n%s", p.Name, p.err, p.said())
		}
	case <-time.After(Patience):
		t.Fatalf("%s does not quit\n%s", p.Name, p.said())
	}
}

// said is what the process wrote to its standard error.
func (p *Process) said() string {
	text, _ := os.ReadFile(p.stderr)
	return string(text)
}

// Crew is the processes of a run. It is for one goroutine.
type Crew struct {
	Procs []*Process
	Kills int // how often one was killed and started again

	dir   string
	begin time.Duration
	base  Config
}

// New returns a crew without processes. All of them are told base.
func New(t testing.TB, base Config) *Crew {
	t.Helper()
	return &Crew{dir: t.TempDir(), begin: Now(), base: base}
}

// Since is how long the crew has been at work.
func (c *Crew) Since() time.Duration { return Now() - c.begin }

// Hire starts a process. change, if not nil, changes what it is told; enter, if not nil, is
// called by a thread of its own right before, and what namespaces that is in then the process
// is in, too.
func (c *Crew) Hire(t testing.TB, name string, change func(*Config), enter func() error) *Process {
	t.Helper()
	one := c.base
	one.Name, one.Index, one.Begin = name, int64(len(c.Procs)+1), c.begin
	one.Journal = filepath.Join(c.dir, name)
	if change != nil {
		change(&one)
	}
	p := start(t, one, enter)
	c.Procs = append(c.Procs, p)
	return p
}

// Kill kills a process and starts another in its place.
func (c *Crew) Kill(t testing.TB, i int) *Process {
	t.Helper()
	p := c.Procs[i]
	p.Kill()
	c.Kills++
	c.Procs[i] = start(t, p.Config, p.enter)
	return c.Procs[i]
}

// KeepAlive starts processes again that killed themselves. It is called from time to time.
func (c *Crew) KeepAlive(t testing.TB) {
	t.Helper()
	for i, p := range c.Procs {
		select {
		case <-p.exited:
			if p.Chance == 0 || p.err == nil || !strings.Contains(p.err.Error(), "killed") {
				t.Fatalf("%s ended: %v\n%s", p.Name, p.err, p.said())
			}
			c.Kill(t, i)
		default:
		}
	}
}

// EndAll ends all loops, judges, has each process ask for keys for everybody who was erased,
// ends the processes, and judges again.
func (c *Crew) EndAll(t testing.TB) *Verdict {
	t.Helper()
	for i, p := range c.Procs {
		if p.Chance > 0 { // once more, and from now on it lives
			p.Chance = 0
			c.Kill(t, i)
		}
	}
	for _, p := range c.Procs {
		p.end(t)
	}
	erased := slices.Collect(maps.Keys(c.Judge(t).gone))
	var faults []string
	for _, p := range c.Procs {
		if answer := p.Ask(Patience, "sweep", erased...); answer != "refused" {
			faults = append(faults, fmt.Sprintf("%s, asked for keys for all who were erased: %s", p.Name, answer))
		}
		p.Quit(t)
	}
	v := c.Judge(t)
	v.Faults = append(v.Faults, faults...)
	return v
}

// Judge judges what the journals say so far.
func (c *Crew) Judge(t testing.TB) *Verdict {
	t.Helper()
	return judge(func(f func(entry)) {
		for _, p := range c.Procs {
			must(t, readJournal(p.Journal, p.Name, f))
		}
	})
}
