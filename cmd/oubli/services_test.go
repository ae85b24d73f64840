//go:build awskms && gcpkms && pkcs11

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
)

// softHSM returns the path of SoftHSM's module. scripts/test installs it.
func softHSM(t *testing.T) string {
	for _, pattern := range []string{os.Getenv("OUBLI_SOFTHSM2_MODULE"), "/usr/lib/softhsm/libsofthsm2.so", "/usr/lib*/*/softhsm/libsofthsm2.so",
		"/usr/lib64/pkcs11/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"} {
		if found, _ := filepath.Glob(pattern); pattern != "" && len(found) > 0 {
			return found[0]
		}
	}
	require.Fail(t, "SoftHSM2 is not installed: install it (Debian: softhsm2), or name its libsofthsm2.so in OUBLI_SOFTHSM2_MODULE")
	return ""
}

// withTokens gives each script tokens of its own.
func withTokens(e *testscript.Env) error {
	conf := filepath.Join(e.WorkDir, "softhsm2.conf")
	tokens := filepath.Join(e.WorkDir, "tokens")
	e.Setenv("SOFTHSM2_CONF", conf)
	return errors.Join(os.Mkdir(tokens, 0o700),
		os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", tokens), 0o600))
}

// TestServiceScripts runs the stories about roots in services, for which the program is built
// with the tags that this file has.
func TestServiceScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/services/*.txtar")
	require.NoError(t, err)
	plain := t.TempDir()
	require.NoError(t, build(plain, "oubli-plain", ""))
	server, module := pgtest.Shared(t), softHSM(t)
	for file := range slices.Values(files) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			settings := map[string]string{
				"MODULE": module,
				"PATH":   plain + string(filepath.ListSeparator) + os.Getenv("PATH"),
			}
			if isPostgreSQL(file) {
				settings["OUBLI_KEYSTORE"], settings["SHELF"] = server.Database(t), server.Database(t)
			}
			runScripts(t, []string{file}, settings, withTokens)
		})
	}
}

func TestRootMovesBetweenFileAndTokenUnderAReader(t *testing.T) {
	p := newPgPeople(t)
	e := testscript.Env{WorkDir: p.dir, Vars: os.Environ()}
	require.NoError(t, withTokens(&e))
	p.env = e.Vars
	p.run("softhsm2-util", "--init-token", "--free", "--label", "oubli", "--so-pin", "1234-officer", "--pin", "1234-user")
	pin := filepath.Join(p.dir, "pin")
	require.NoError(t, os.WriteFile(pin, []byte("1234-user"), 0o600))
	shelf := pgtest.Shared(t).Database(t)
	token := "pkcs11:token=oubli?module-path=" + softHSM(t) + "&pin-source=file:" + pin + "&shelf=" + shelf
	p.run("oubli", "root", "rehearse", "--root", token) // makes the shelf, which the reader is told of
	movesUnderAReader(t, p, "file:oubli.root", token)
}
