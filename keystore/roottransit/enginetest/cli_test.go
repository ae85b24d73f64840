package enginetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore/roottransit"
)

// program builds the command line as users do, and returns the folder that it is in.
func program(t *testing.T) string {
	dir := t.TempDir()
	c := exec.Command("go", "build", "-o", filepath.Join(dir, "oubli"), ".")
	c.Dir = filepath.Join("..", "..", "..", "cmd", "oubli")
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return dir
}

// TestCommandLine runs the stories in testdata/cli, each with a Vault of its own, whose
// address is in VAULT and, by another name, in ALIAS, a database in OUBLI_KEYSTORE, and the
// program on its PATH.
func TestCommandLine(t *testing.T) {
	files, err := filepath.Glob("testdata/cli/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	server := pgtest.Shared(t)
	path := strings.Join([]string{program(t), filepath.Dir(server.Bin("psql")), os.Getenv("PATH")}, string(filepath.ListSeparator))
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			e := start(t, nil)
			testscript.Run(t, testscript.Params{
				Files:               []string{file},
				RequireUniqueNames:  true,
				RequireExplicitExec: true,
				Cmds:                administrator(e),
				Setup: func(env *testscript.Env) error {
					env.Setenv("PATH", path)
					env.Setenv("VAULT", e.URL())
					env.Setenv("ALIAS", strings.Replace(e.URL(), "127.0.0.1", "localhost", 1))
					env.Setenv("OUBLI_KEYSTORE", server.Database(t))
					return nil
				},
			})
		})
	}
}

// administrator is who runs the Vault, in scripts:
//
//	vault setup URL           does what "oubli root policy URL" printed to standard output; a
//	                          token is put into VAULT_TOKEN
//	vault approle URL         makes an AppRole, and puts what it needs into ROLE and OUBLI_VAULT_SECRET_ID
//	vault token TTL URL...    puts a token with these policies and that lifetime into VAULT_TOKEN
//	vault revoke              revokes VAULT_TOKEN
//	vault write PATH K=V...   writes; delete and policy NAME FILE likewise
//	vault seal, unseal, down, up, restart
//	vault calls N WHAT        was asked N times for a path that contains WHAT since the last call
func administrator(e *Engine) map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"vault": func(ts *testscript.TestScript, neg bool, args []string) {
			err := administrate(ts, e, args[0], args[1:])
			if neg == (err == nil) {
				ts.Fatalf("vault %s: %v", args[0], err)
			}
		},
	}
}

func administrate(ts *testscript.TestScript, e *Engine, what string, args []string) error {
	config := func(url string) *roottransit.Config {
		c, err := roottransit.Parse(url)
		ts.Check(err)
		return c
	}
	admin := e.Admin()
	switch what {
	case "setup":
		c := config(args[0])
		if printed := ts.ReadFile("stdout"); strings.TrimSpace(printed) != strings.TrimSpace(c.Setup()) {
			return fmt.Errorf("something else was printed")
		}
		token, err := e.Setup(c)
		if token != "" {
			ts.Setenv("VAULT_TOKEN", token)
		}
		return err
	case "approle":
		c, secret, err := e.AppRole(config(args[0]), time.Hour, 0)
		if err != nil {
			return err
		}
		ts.Setenv("ROLE", c.Role)
		ts.Setenv("OUBLI_VAULT_SECRET_ID", secret)
		return nil
	case "token":
		r := api.TokenCreateRequest{TTL: args[0]}
		for _, url := range args[1:] {
			r.Policies = append(r.Policies, config(url).PolicyName())
		}
		made, err := admin.Auth().Token().CreateOrphan(&r)
		ts.Check(err)
		ts.Setenv("VAULT_TOKEN", made.Auth.ClientToken)
		return nil
	case "revoke":
		return admin.Auth().Token().RevokeTree(ts.Getenv("VAULT_TOKEN"))
	case "write":
		data := map[string]any{}
		for _, kv := range args[1:] {
			name, value, _ := strings.Cut(kv, "=")
			data[name] = value
		}
		_, err := admin.Logical().Write(args[0], data)
		return err
	case "delete":
		_, err := admin.Logical().Delete(args[0])
		return err
	case "policy":
		return admin.Sys().PutPolicy(args[0], ts.ReadFile(args[1]))
	case "seal":
		return e.Seal()
	case "unseal":
		return e.Unseal()
	case "down":
		e.Down()
		return nil
	case "up":
		return e.Up()
	case "restart":
		return e.Restart()
	case "calls":
		n := 0
		for call, times := range e.Calls() {
			if strings.Contains(call, args[1]) {
				n += times
			}
		}
		if fmt.Sprint(n) != args[0] {
			return fmt.Errorf("%d calls with %s", n, args[1])
		}
		return nil
	}
	return fmt.Errorf("no such command: %s", what)
}
