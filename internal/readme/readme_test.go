// Package readme follows the README as a newcomer would.
package readme

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
)

// block returns the first fenced block of a language behind a heading or sentence.
func block(t *testing.T, text, behind, fence string) string {
	t.Helper()
	_, text, ok := strings.Cut(text, behind)
	require.True(t, ok, "the README says %q", behind)
	_, text, ok = strings.Cut(text, "```"+fence+"\n")
	require.True(t, ok, "a block follows %q", behind)
	code, _, ok := strings.Cut(text, "```\n")
	require.True(t, ok)
	return code
}

// run runs a command and returns its standard output.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), stderr.String())
	return string(out)
}

// follow builds the program behind a heading, runs the commands that stand there, and then
// the program, which must print what the README says. It returns where it did so.
func follow(t *testing.T, heading, prints string) (work string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	raw, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	text := string(raw)

	// A program of its own, within the module so that nothing has to be fetched.
	program, err := os.MkdirTemp(".", "program-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(program) })
	require.NoError(t, os.WriteFile(filepath.Join(program, "main.go"), []byte(block(t, text, heading, "go")), 0o600))
	work = t.TempDir()
	run(t, ".", "go", "build", "-o", filepath.Join(work, "app"), "./"+program)
	run(t, root, "go", "build", "-C", "cmd/oubli", "-o", filepath.Join(work, "oubli"), ".")

	for line := range strings.Lines(block(t, text, heading, "sh")) {
		words := strings.Fields(os.Expand(strings.ReplaceAll(line, `"`, ""), os.Getenv))
		require.Equal(t, "oubli", words[0])
		run(t, work, filepath.Join(work, "oubli"), words[1:]...)
	}
	require.Equal(t, block(t, text, prints, ""), run(t, work, filepath.Join(work, "app")))
	return work
}

func TestFiveMinutes(t *testing.T) {
	work := follow(t, "## Five minutes", "It prints:")
	run(t, work, filepath.Join(work, "oubli"), "verify")
}

func TestPostgreSQL(t *testing.T) {
	dsn := pgtest.Shared(t).Database(t)
	t.Setenv("DATABASE_URL", dsn)
	work := follow(t, "## PostgreSQL, and many processes", "It prints\n")
	run(t, work, filepath.Join(work, "oubli"), "verify", "--keystore", dsn)
}

func TestMain(m *testing.M) { pgtest.Main(m) }
