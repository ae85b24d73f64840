package pgtest

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/oubli/oubli"

// This is the one test that fails where servers are missing and nobody said that they may:
// without it, go test says "ok" of packages that tested nothing.
func TestPostgreSQLIsInstalled(t *testing.T) {
	mode := os.Getenv("OUBLI_TEST_POSTGRES")
	if mode == "none" {
		return
	}
	var missing []string
	if len(Versions()) == 0 {
		missing = append(missing, "PostgreSQL")
	}
	if len(Versions()) == 1 && mode == "required" {
		missing = append(missing, "a second major version of PostgreSQL")
	}
	if pgbouncer() == "" {
		missing = append(missing, "pgbouncer")
	}
	if len(missing) == 0 {
		return
	}
	packages, err := users(filepath.Join("..", ".."))
	require.NoError(t, err)
	t.Fatalf(`NOT TESTED: these are not installed: %s.
The tests that need them did not run in
	%s
Run scripts/test, which installs them, or set OUBLI_TEST_POSTGRES=none to do without.`,
		strings.Join(missing, ", "), strings.Join(packages, "\n\t"))
}

// users returns the packages of the module of which a test imports this package.
func users(root string) ([]string, error) {
	var packages []string
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			if spec.Path.Value == strconv.Quote(module+"/internal/pgtest") {
				dir, err := filepath.Rel(root, filepath.Dir(file))
				packages = append(packages, path.Join(module, filepath.ToSlash(dir)))
				return err
			}
		}
		return nil
	})
	packages = append(packages, module+"/internal/pgtest")
	slices.Sort(packages)
	return slices.Compact(packages), err
}

func TestUsersAreFoundByTheirImport(t *testing.T) {
	root := t.TempDir()
	for file, text := range map[string]string{
		"a/x_test.go":   `import "github.com/oubli/oubli/internal/pgtest"`,
		"a/y_test.go":   `import "github.com/oubli/oubli/internal/pgtest"`,
		"b/c/z_test.go": `import . "github.com/oubli/oubli/internal/pgtest"`,
		"d/x_test.go":   `import "testing"`,
		"e/x.go":        `import "github.com/oubli/oubli/internal/pgtest"`,
	} {
		file = filepath.Join(root, filepath.FromSlash(file))
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, fmt.Append(nil, "package p\n", text), 0o644))
	}
	packages, err := users(root)
	require.NoError(t, err)
	require.Equal(t, []string{module + "/a", module + "/b/c", module + "/internal/pgtest"}, packages)
}

func TestWithoutPostgreSQLOneTestFails(t *testing.T) {
	t.Parallel()
	child := func(mode string) (string, error) {
		cmd := exec.Command(os.Args[0], "-test.v", "-test.run", "^(TestPostgreSQLIsInstalled|TestTheSharedServerIsOne|TestServersStart.*)$")
		cmd.Env = []string{"PGTEST_NOTHING_INSTALLED=1", "OUBLI_TEST_POSTGRES=" + mode, "PATH=", "OUBLI_POSTGRES_BIN="}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := child("")
	require.Error(t, err)
	require.Equal(t, 1, strings.Count(out, "--- FAIL"), out)
	require.Contains(t, out, "--- FAIL: TestPostgreSQLIsInstalled")
	require.Contains(t, out, "not installed: PostgreSQL, pgbouncer.")
	require.Contains(t, out, "\t"+module+"/internal/pgtest\n")
	require.Contains(t, out, "--- SKIP: TestServersStart")
	require.Contains(t, out, "--- SKIP: TestTheSharedServerIsOne")

	out, err = child("none")
	require.NoError(t, err, out)
	require.Contains(t, out, "--- SKIP: TestTheSharedServerIsOne")

	out, err = child("required")
	require.Error(t, err)
	require.Equal(t, 3, strings.Count(out, "--- FAIL"), out)
}
