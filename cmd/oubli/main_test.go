package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this test binary several programs, for the scripts and for tests
// that run and kill the real thing.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"oubli":   main,
		"app":     func() { os.Exit(application(os.Args[1:])) },
		"hold":    func() { os.Exit(hold(os.Args[1])) },
		"foreign": func() { os.Exit(foreign(os.Args[1], os.Args[2])) },
	})
}

// TestScripts runs the stories in testdata. Each is a file that reads like a session.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Cmds:                scriptCommands,
		Setup: func(e *testscript.Env) error {
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
