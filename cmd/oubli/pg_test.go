package main

import (
	"bytes"
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

func isPostgreSQL(file string) bool { return strings.HasPrefix(filepath.Base(file), "pg-") }

// TestPostgreSQLScripts runs the stories about keystores in PostgreSQL. Each has a database
// of its own in OUBLI_KEYSTORE, the server's programs on its PATH and its data in PGDATA.
func TestPostgreSQLScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/pg-*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	server := pgtest.Shared(t)
	for file := range slices.Values(files) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			dsn := server.Database(t)
			database := strings.TrimSuffix(strings.TrimPrefix(dsn, "postgres://postgres@"), "?sslmode=disable")
			runScripts(t, []string{file}, map[string]string{
				"OUBLI_KEYSTORE": dsn,
				"DATABASE":       database, // HOST:PORT/NAME
				"HOST":           filepath.Dir(database),
				"PGDATA":         server.Dir(),
				"PATH":           filepath.Dir(server.Bin("psql")) + string(filepath.ListSeparator) + os.Getenv("PATH"),
			})
		})
	}
}

// An erasure that is interrupted while it waits for the leases of other processes stands,
// and says so. The same command again waits anew.
func TestInterruptedWaitForLeases(t *testing.T) {
	const lease = 4 * time.Second
	p := newPgPeople(t)
	p.run("oubli", "init", "--shards", "32", "--lease", lease.String())
	p.run("oubli", "seal", "people", "people.csv", "-o", "sealed.csv")

	for _, story := range []struct {
		args  []string
		state string
	}{
		{[]string{"anonymize", "customer/1", "--yes"}, "erased"},
		{[]string{"restrict", "customer/2"}, "restricted"},
	} {
		c := p.command("oubli", story.args...)
		var out, words bytes.Buffer
		c.Stdout, c.Stderr = &out, &words
		began := time.Now()
		require.NoError(t, c.Start())
		subject := story.args[1]
		for !strings.HasPrefix(p.run("oubli", "status", subject), subject+": "+story.state) {
			require.Less(t, time.Since(began), lease, "it is too slow to be interrupted")
		}
		require.NoError(t, c.Process.Signal(os.Interrupt))
		var exit *exec.ExitError
		require.ErrorAs(t, c.Wait(), &exit)
		require.Equal(t, exitFailed, exit.ExitCode())
		require.Empty(t, out.String())
		require.Equal(t, "oubli: error: interrupted, and what was changed stands: of 1 subjects, now 1 "+story.state+
			"; another process may serve what it remembers of them for up to 4s from now\n"+
			"oubli: hint: the same command again does the rest\n", words.String())

		began = time.Now()
		p.run("oubli", story.args...)
		require.GreaterOrEqual(t, time.Since(began), lease, "other processes may still serve %s", subject)
	}
	p.run("oubli", "verify")
}

// Waiting is shown on a terminal, and nowhere else. It leaves nothing behind.
func TestWaitIsShown(t *testing.T) {
	var words bytes.Buffer
	u := &ui{err: &words}
	u.wait("erasing 1 of 1")()
	require.Empty(t, words.String())

	u.shows = true
	done := u.wait("erasing 1 of 1")
	done()
	require.False(t, u.shown)
	require.Contains(t, words.String(), "erasing 1 of 1")
	lines := strings.Split(words.String(), "\r")
	require.Empty(t, strings.TrimSpace(lines[len(lines)-1]))
	require.NotContains(t, words.String(), "\n")
}
