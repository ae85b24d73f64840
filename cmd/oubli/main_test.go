package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

// TestMain puts the real program on the PATH, built as users build it, and makes this
// test binary the other programs of the scripts.
func TestMain(m *testing.M) {
	testscript.Main(realProgram{m}, map[string]func(){
		"app":        func() { os.Exit(application(os.Args[1:])) },
		"browser":    func() { os.Exit(browser(os.Args[1:])) },
		"hold":       func() { os.Exit(hold(os.Args[1])) },
		"empty":      func() { os.Exit(empty(os.Args[1])) },
		"foreign":    func() { os.Exit(foreign(os.Args[1], os.Args[2])) },
		"half-moved": func() { os.Exit(halfMoved(os.Args[1], os.Args[2], os.Args[3])) },
	})
}

// realProgram runs the tests with oubli on the PATH.
type realProgram struct{ m *testing.M }

func (r realProgram) Run() int {
	dir, err := os.MkdirTemp("", "oubli-test-*")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	if err := build(dir, "oubli", buildTags()); err != nil {
		return fail(err)
	}
	if err := os.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH")); err != nil {
		return fail(err)
	}
	return r.m.Run()
}

// build builds the program with build tags.
func build(dir, name, tags string) error {
	out, err := exec.Command("go", "build", "-tags", tags, "-o", filepath.Join(dir, name), ".").CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// buildTags are those that this test was built with.
func buildTags() string {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-tags" {
			return s.Value
		}
	}
	return ""
}

// TestScripts runs the stories in testdata. Each is a file that reads like a session.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	runScripts(t, slices.DeleteFunc(files, isPostgreSQL), nil)
}

// runScripts runs stories, with more settings in their environment, and more to set up.
func runScripts(t *testing.T, files []string, more map[string]string, setups ...func(*testscript.Env) error) {
	testscript.Run(t, testscript.Params{
		Files:               files,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Cmds:                scriptCommands,
		Setup: func(e *testscript.Env) error {
			for name, value := range more {
				e.Setenv(name, value)
			}
			for _, setup := range setups {
				if err := setup(e); err != nil {
					return err
				}
			}
			for _, name := range []string{"customers.csv", "invoices.csv", "employees.csv"} {
				text, err := os.ReadFile("internal/demo/chinook/" + name)
				if err != nil {
					return err
				}
				if err := os.WriteFile(e.WorkDir+"/"+name, text, 0o600); err != nil {
					return err
				}
			}
			text, err := os.ReadFile("testdata/oubli.yaml")
			if err != nil {
				return err
			}
			return os.WriteFile(e.WorkDir+"/oubli.yaml", text, 0o600)
		},
	})
}
