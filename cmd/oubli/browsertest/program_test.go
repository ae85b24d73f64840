package browsertest

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// program is the command line, built once for all tests.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(profile, "oubli")
	out, err := exec.Command("go", "build", "-C", "..", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// start runs a command that prints a link, and returns that. The command is interrupted when
// the test ends, and must then end well.
func start(t *testing.T, dir string, args ...string) string {
	t.Helper()
	path, err := program()
	require.NoError(t, err)
	c := exec.Command(path, args...)
	var words bytes.Buffer
	c.Dir, c.Stderr = dir, &words
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, c.Process.Signal(os.Interrupt))
		for range lines { // until it has ended
		}
		require.NoError(t, c.Wait(), "%s", &words)
	})
	select {
	case link, ok := <-lines:
		require.True(t, ok, "it printed no link")
		return link
	case <-time.After(time.Minute):
		t.Fatal("it printed no link within a minute")
		return ""
	}
}

// enter opens a link, and returns the tab, the address of the page's first one, and the status.
func enter(t *testing.T, link string) (b *tab, home string, status int) {
	t.Helper()
	u, err := url.Parse(link)
	require.NoError(t, err)
	b = newTab(t, u.Scheme+"://"+u.Host)
	b.allow(http.StatusForbidden)
	home, _, ok := strings.Cut(u.RequestURI(), "enter?")
	require.True(t, ok)
	return b, home, b.open(u.RequestURI())
}

// TestServeByItself follows the link of oubli serve, over a keystore and nothing else.
func TestServeByItself(t *testing.T) {
	dir := t.TempDir()
	path, err := program()
	require.NoError(t, err)
	for name, text := range map[string]string{
		"oubli.yaml": "tables:\n  people:\n    subject: person=id\n    personal: [name]\n",
		"people.csv": "id,name\n1,Ada\n2,Zoë\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	for _, args := range []string{"init --shards 16", "seal people people.csv -o sealed.csv"} {
		c := exec.Command(path, strings.Fields(args)...)
		c.Dir = dir
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	link := start(t, dir, "serve", "--listen", "127.0.0.1:0", "--actor", "officer-7")
	b, home, status := enter(t, link)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, home, b.address(), "the link's key stands in the address")
	require.ElementsMatch(t, []string{"person/1", "person/2"}, b.listed())
	require.Contains(t, b.text(), "officer-7")
	b.look("list")

	again, _, status := enter(t, link) // in another browser, as far as cookies go
	require.Equal(t, http.StatusForbidden, status)
	require.NotContains(t, again.text(), "person/1")
	again.look("used")
	require.Equal(t, http.StatusForbidden, again.open(home+"person?s=person/1"))

	require.Equal(t, http.StatusOK, b.open(home+"person?s=person/2"))
	require.Equal(t, http.StatusOK, b.follow("button", words("action.erase")))
	b.look("confirm")
	b.erase("2")
	b.until("erasure", func() bool { return strings.Contains(b.text(), words("batch.finished")) })
	b.open(home)
	require.ElementsMatch(t, []string{"Active", "Erased"}, eval[[]string](b, `[...document.querySelectorAll("tbody .badge")].map(e => e.innerText.trim())`))
}

// TestDemoServes follows the link of the demo, and erases somebody of the Chinook shop.
func TestDemoServes(t *testing.T) {
	b, home, status := enter(t, start(t, t.TempDir(), "demo", "--serve", "--listen", "127.0.0.1:0"))
	require.Equal(t, http.StatusOK, status)
	b.look("list")
	for _, c := range [][2]string{{"37", "Erased"}, {"2", "Restricted"}, {"59", "Restricted"}, {"5", "Restricted"}, {"17", "Active"}} {
		require.Equal(t, http.StatusOK, b.open(home+"?q=customer/"+c[0]))
		require.Equal(t, []string{"customer/" + c[0]}, b.listed())
		require.Contains(t, b.text(), c[1])
	}
	require.Contains(t, b.text(), "Jack\tSmith")
	b.tick("customer/17")
	require.Equal(t, http.StatusOK, b.follow("button", words("action.erase")))
	require.Contains(t, b.text(), "newsletter")
	b.erase("17")
	b.until("erasure", func() bool { return strings.Contains(b.text(), words("batch.finished")) })
	b.open(home + "?q=customer/17")
	require.NotContains(t, b.text(), "Smith")
}
