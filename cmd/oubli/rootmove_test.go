package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// reader is a process that opens rows from a pipe, until it is ended.
type reader struct {
	t     *testing.T
	rows  atomic.Int64 // read, and right
	end   func()
	ended chan struct{}
	wrong string // what it wrote that is not right
	words bytes.Buffer
}

// read starts a process that opens people all along.
func (p *pgPeople) read(args ...string) *reader {
	text, err := os.ReadFile(filepath.Join(p.dir, "sealed.csv"))
	require.NoError(p.t, err)
	header, rows, _ := strings.Cut(string(text), "\n")
	c := p.command("oubli", append([]string{"open", "people", "-"}, args...)...)
	in, err := c.StdinPipe()
	require.NoError(p.t, err)
	out, err := c.StdoutPipe()
	require.NoError(p.t, err)
	r := &reader{t: p.t, ended: make(chan struct{})}
	c.Stderr = &r.words
	require.NoError(p.t, c.Start())
	stop := make(chan struct{})
	go func() {
		defer in.Close()
		fmt.Fprintln(in, header)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if _, err := fmt.Fprint(in, strings.Repeat(rows, batchRows/2)); err != nil {
				return
			}
		}
	}()
	go func() {
		defer close(r.ended)
		s := bufio.NewScanner(out)
		for s.Scan() {
			switch line := s.Text(); line {
			case "1,Anna", "2,Bob":
				r.rows.Add(1)
			case "id,name":
			default:
				r.wrong += line + "\n"
			}
		}
		if err := c.Wait(); err != nil {
			r.wrong += err.Error()
		}
	}()
	r.end = func() {
		close(stop)
		<-r.ended
		require.Empty(p.t, r.wrong, "%s", &r.words)
	}
	p.t.Cleanup(func() { c.Process.Kill(); <-r.ended })
	return r
}

// goesOn waits until it has read more.
func (r *reader) goesOn() {
	const enough = 4 * batchRows // what stood in its buffers is less
	began := r.rows.Load()
	for start := time.Now(); r.rows.Load() < began+enough; time.Sleep(time.Millisecond) {
		select {
		case <-r.ended:
			require.Fail(r.t, "the reader has ended", "%s %s", r.wrong, &r.words)
		default:
			require.Less(r.t, time.Since(start), 30*time.Second, "the reader stands still")
		}
	}
}

// movesUnderAReader moves the root between two places, erasing people in between, while
// another process that was told of both reads.
func movesUnderAReader(t *testing.T, p *pgPeople, a, b string) {
	p.run("oubli", "init", "--shards", "32", "--lease", "200ms", "--grace", "0", "--root", a)
	p.run("oubli", "seal", "people", "people.csv", "-o", "sealed.csv", "--root", a)
	r := p.read("--root", a, "--root-next", b)
	r.goesOn()
	places := []string{a, b}
	for i := range 4 {
		from, to := places[i%2], places[(i+1)%2]
		p.run("oubli", "root", "move", "--root", from, "--to", to)
		r.goesOn()
		p.run("oubli", "anonymize", fmt.Sprint("customer/", 10+i), "--unknown", "--yes", "--root", a, "--root-next", b)
		r.goesOn()
		out, err := p.command("oubli", "status", "--root", from).CombinedOutput()
		require.Error(t, err, "%s", out) // who is not told is left behind
		p.run("oubli", "verify", "--root", to)
	}
	r.end()
	t.Logf("%d rows were opened meanwhile", r.rows.Load())
}

func TestRootMovesUnderAReader(t *testing.T) {
	movesUnderAReader(t, newPgPeople(t), "file:oubli.root", "file:next.root")
}

// A move that was killed at any moment is finished by the same command.
func TestKilledMoveIsRunAgain(t *testing.T) {
	p := newPgPeople(t)
	p.run("oubli", "init", "--shards", "32", "--lease", "200ms", "--grace", "1h")
	p.run("oubli", "seal", "people", "people.csv", "-o", "sealed.csv")
	usual, killed := time.Duration(0), 0
	places := []string{"file:oubli.root", "file:next.root"}
	for i := range 16 {
		from, to := places[i%2], places[(i+1)%2]
		move := []string{"root", "move", "--root", from, "--to", to}
		if p.killed(os.Kill, &usual, move...) {
			killed++
			p.run("oubli", move...)
		}
		require.Contains(t, p.run("oubli", "open", "people", "sealed.csv", "--root", to), "1,Anna\n2,Bob\n")
		p.run("oubli", "verify", "--root", to)
	}
	require.Positive(t, killed)
	t.Logf("%d moves were killed", killed)
}
