//go:build cgo

package pkcs11

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// childRoles are what this test binary does as another process.
var childRoles = map[string]func(){"churn": churn, "unwrap": unwrapAll}

// child starts a process of that role on the token.
func child(t *testing.T, role string, c Config, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "PKCS11_TEST_CHILD="+role, "PKCS11_TEST_TOKEN="+c.Token)
	cmd.Stderr = os.Stderr
	return cmd
}

func childKeys() *Keys {
	k, err := Open(context.Background(), Config{Token: os.Getenv("PKCS11_TEST_TOKEN"), Module: softHSM(), PIN: pin(testPIN)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return k
}

// churn makes keys, uses them and destroys every other one, as often as its argument says,
// and tells of each step before and after.
func churn() {
	k, ctx := childKeys(), context.Background()
	do := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	rounds, err := strconv.Atoi(os.Args[1])
	do(err)
	fmt.Println("ready")
	for i := range rounds {
		name, err := k.Make(ctx, someStore, someRoot)
		do(err)
		blob, err := k.Wrap(ctx, name, []byte(name), testAD)
		do(err)
		fmt.Print(wrapped{name, []byte(name), blob, testAD}.line())
		secret, err := k.Unwrap(ctx, name, blob, testAD)
		do(err)
		if string(secret) != name {
			do(errors.New("another key opened it"))
		}
		if i%2 == 0 {
			fmt.Printf("destroying %s\n", name)
			do(k.Destroy(ctx, []string{name}))
			fmt.Printf("destroyed %s\n", name)
		}
	}
}

// unwrapAll tells of each "made" line of its input what becomes of it here.
func unwrapAll() {
	k := childKeys()
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		w, ok := madeLine(in.Text() + "\n")
		if !ok {
			continue
		}
		secret, err := k.Unwrap(context.Background(), w.name, w.blob, w.ad)
		switch {
		case err == nil && bytes.Equal(secret, w.secret):
			fmt.Println(w.name, "opens")
		case errors.Is(err, keystore.ErrNotFound):
			fmt.Println(w.name, "gone")
		default:
			fmt.Println(w.name, err)
		}
	}
}

func (w wrapped) line() string {
	return fmt.Sprintf("made %s %x %x %x\n", w.name, w.secret, w.blob, w.ad)
}

func madeLine(s string) (w wrapped, ok bool) {
	n, _ := fmt.Sscanf(s, "made %s %x %x %x\n", &w.name, &w.secret, &w.blob, &w.ad)
	return w, n == 4
}

// startChurn starts a churning child and waits until it has logged in: SoftHSM writes to a
// token's file then, which neither a reader nor being killed goes well with. What else the
// child says is to be read before it is waited for.
func startChurn(t *testing.T, c Config, rounds int) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := child(t, "churn", c, strconv.Itoa(rounds))
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	out := bufio.NewReader(pipe)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return cmd, out
}

// story is what a churning child told: what it made and did not begin to destroy, and what
// it destroyed. Of others it can't be said.
func story(out string) (living, gone []wrapped) {
	made := map[string]wrapped{}
	var order []string
	for line := range strings.Lines(out) {
		if !strings.HasSuffix(line, "\n") {
			continue // it was killed at this
		}
		if w, ok := madeLine(line); ok {
			made[w.name] = w
			order = append(order, w.name)
		} else if name, ok := strings.CutPrefix(line, "destroyed "); ok {
			gone = append(gone, made[strings.TrimSpace(name)])
		} else if name, ok := strings.CutPrefix(line, "destroying "); ok {
			order = append(order, "-"+strings.TrimSpace(name))
		}
	}
	for _, name := range order {
		if w, ok := made[name]; ok && !strings.Contains(out, "destroying "+name) {
			living = append(living, w)
		}
	}
	return living, gone
}

// elsewhere opens blobs by the tokens of another folder.
func elsewhere(t *testing.T, dir string, c Config, ws ...wrapped) []string {
	t.Helper()
	conf := filepath.Join(dir, "softhsm2.conf")
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", filepath.Join(dir, "tokens"))
	require.NoError(t, os.WriteFile(conf, []byte(text), 0o600))
	cmd := child(t, "unwrap", c)
	cmd.Env = append(cmd.Env, "SOFTHSM2_CONF="+conf)
	var in strings.Builder
	for _, w := range ws {
		in.WriteString(w.line())
	}
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.Output()
	require.NoError(t, err)
	var fates []string
	for line := range strings.Lines(string(out)) {
		_, fate, _ := strings.Cut(strings.TrimSpace(line), " ")
		fates = append(fates, fate)
	}
	return fates
}

// copyTokens copies the folder of all tokens, as a backup of the machine does.
func copyTokens(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	from := filepath.Join(filepath.Dir(os.Getenv("SOFTHSM2_CONF")), "tokens")
	require.NoError(t, os.CopyFS(filepath.Join(dir, "tokens"), os.DirFS(from)))
	return dir
}
