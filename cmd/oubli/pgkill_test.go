package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
)

// pgPeople runs programs in a folder with a table of two people and a database.
type pgPeople struct {
	t      *testing.T
	server *pgtest.Server
	dsn    string
	dir    string
	env    []string
}

func newPgPeople(t *testing.T) *pgPeople {
	server := pgtest.Shared(t)
	p := &pgPeople{t: t, server: server, dsn: server.Database(t), dir: t.TempDir(), env: os.Environ()}
	for name, text := range map[string]string{
		"oubli.yaml": "tables: {people: {subject: customer=id, personal: [name]}}",
		"people.csv": "id,name\n1,Anna\n2,Bob\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600))
	}
	return p
}

func (p *pgPeople) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Dir, c.Env = p.dir, append(slices.Clone(p.env), "OUBLI_KEYSTORE="+p.dsn)
	return c
}

func (p *pgPeople) run(name string, args ...string) string {
	out, err := p.command(name, args...).CombinedOutput()
	require.NoError(p.t, err, "%s %v: %s", name, args, out)
	return string(out)
}

// killed runs oubli and sends it a signal at a random moment of the time that it usually
// takes, but not the first time. It tells whether it came to an early end.
func (p *pgPeople) killed(by os.Signal, usual *time.Duration, args ...string) bool {
	c := p.command("oubli", args...)
	began := time.Now()
	require.NoError(p.t, c.Start())
	wait := time.Minute
	if *usual > 0 {
		wait = time.Duration(rand.Int64N(int64(*usual)))
	}
	timer := time.AfterFunc(wait, func() { c.Process.Signal(by) })
	err := c.Wait()
	if timer.Stop() {
		require.NoError(p.t, err)
		*usual = time.Since(began)
	}
	return err != nil
}

// An init that was killed can be run again. Only where it had made its root, which may be
// all that is left of another keystore, must that be given up in so many words; one that
// was interrupted takes its root away.
func TestKilledInitIsRunAgain(t *testing.T) {
	p := newPgPeople(t)
	usual, killed := time.Duration(0), 0
	for i := range 12 {
		by := []os.Signal{os.Interrupt, os.Kill}[i%2]
		where := []string{"--keystore-schema", fmt.Sprint("s", i), "--root", fmt.Sprint("file:r", i)}
		command := append([]string{"init", "--shards", "32", "--lease", "500ms"}, where...)
		if !p.killed(by, &usual, command...) {
			continue
		}
		killed++
		out, err := p.command("oubli", command...).CombinedOutput()
		if err != nil && strings.Contains(string(out), "--discard-root") {
			require.Equal(t, os.Kill, by, "%s", out)
			p.run("oubli", append(command, "--discard-root")...)
		} else if err != nil {
			require.Contains(t, string(out), "already exists: a keystore is never overwritten")
		}
		p.run("oubli", append([]string{"status"}, where...)...)
	}
	require.Positive(t, killed)
}

// A restore that was killed is run again. Until then, and after, who was erased stays so.
func TestKilledRestoreIsRunAgain(t *testing.T) {
	p := newPgPeople(t)
	program := func(name string) string { return p.server.Bin(name) }
	p.run("oubli", "init", "--shards", "32", "--lease", "500ms", "--grace", "1h")
	p.run("oubli", "seal", "people", "people.csv", "-o", "sealed.csv")
	p.run(program("pg_dump"), "-Fc", "-f", "before.dump", p.dsn)
	p.run("oubli", "anonymize", "customer/1", "--yes")
	usual, killed := time.Duration(0), 0
	for range 5 {
		p.run(program("psql"), "-q", p.dsn, "-c", "drop schema oubli cascade")
		p.run(program("pg_restore"), "-d", p.dsn, "before.dump")
		if p.killed(os.Kill, &usual, "restore") {
			killed++
			out, _ := p.command("oubli", "open", "people", "sealed.csv").Output()
			require.NotContains(t, string(out), "Anna")
			p.run("oubli", "restore")
		}
		out := p.run("oubli", "open", "people", "sealed.csv")
		require.NotContains(t, out, "Anna")
		require.Contains(t, out, "Bob")
		p.run("oubli", "verify")
	}
	require.Positive(t, killed)
}
