package browsertest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A page that nothing is wrong with.
const good = `<!doctype html><html lang="en"><head><title>A page</title><meta name="viewport" content="width=device-width">
<style>:root { color-scheme: light dark } button, input { min-height: 2rem; min-width: 2rem; background: Canvas; color: CanvasText }</style></head>
<body><main><h1>A page</h1><p>Some text.</p>%s</main></body></html>`

// serve serves one page for every address.
func serve(t *testing.T, page string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/favicon.ico" {
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "img-src http:")
		if status := r.FormValue("status"); status != "" {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
		fmt.Fprintf(w, page, r.FormValue("name"))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestTester sees to it that what the tests look for is found where it is.
func TestTester(t *testing.T) {
	for _, c := range []struct{ name, part, finds string }{
		{"nothing", ``, ""},
		{"console", `<script>console.error("broken")</script>`, "the console has error: broken"},
		{"exception", `<script>missing()</script>`, "missing is not defined"},
		{"dialog", `<script>alert("hello")</script>`, "a dialog: hello"},
		{"image elsewhere", `<img alt="A picture" src="http://127.0.0.1:1/a.png">`, "leaves the origin: http://127.0.0.1:1/a.png"},
		{"host elsewhere", `<img alt="A picture" src="http://example.org/a.png">`, "leaves the origin: http://example.org/a.png"},
		{"policy", `<img alt="A picture" src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=">`, "the policy forbids img-src"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := serve(t, strings.Replace(good, "%s", "%.0s"+c.part, 1))
			b := openTab(t, at)
			require.Equal(t, http.StatusOK, b.open("/"))
			b.until("finding", func() bool { return c.finds == "" || strings.Contains(strings.Join(b.found(), "\n"), c.finds) })
			if c.finds == "" {
				require.Empty(t, b.found())
				require.Empty(t, b.tooWide())
				require.Empty(t, b.violations(false))
			}
		})
	}
	t.Run("status", func(t *testing.T) {
		b := openTab(t, serve(t, good))
		require.Equal(t, http.StatusUnprocessableEntity, b.open("/?status=1"))
		b.until("finding", func() bool { return len(b.found()) == 1 })
		b = newTab(t, serve(t, good))
		b.allow(http.StatusUnprocessableEntity)
		require.Equal(t, http.StatusUnprocessableEntity, b.open("/?status=1"))
	})
	t.Run("axe", func(t *testing.T) {
		for _, part := range []string{`<img src="/picture">`, `<p style="color: #777; background: #888">Grey</p>`, `<h4>Too deep</h4>`} {
			b := openTab(t, serve(t, strings.Replace(good, "%s", "%.0s"+part, 1)))
			b.open("/")
			require.NotEmpty(t, b.violations(false), part)
		}
	})
	t.Run("wide", func(t *testing.T) {
		b := openTab(t, serve(t, strings.Replace(good, "%s", `%.0s<p style="width: 500px">Wide`, 1)))
		b.open("/")
		require.Empty(t, b.tooWide())
		b.size(360, 740)
		require.Contains(t, b.tooWide(), "the page is 508 wide")
	})
}

// TestActing sees to it that forms are filled in as by people, with scripts and without.
func TestActing(t *testing.T) {
	at := serve(t, strings.Replace(good, "%s", `<p>Hello %s.</p><form>
		<label>Name <input name="name"></label> <label>Agreed <input type="checkbox" name="agreed"></label>
		<button>Send</button><noscript>No scripts.</noscript></form>`, 1))
	for _, scripts := range []bool{true, false} {
		b := newTab(t, at)
		if !scripts {
			b.withoutScripts()
		}
		b.open("/page")
		require.Equal(t, !scripts, strings.Contains(b.text(), "No scripts."))
		b.fill("Name", "Zoë")
		b.tick("Agreed")
		require.Equal(t, http.StatusOK, b.follow("button", "Send"))
		require.Contains(t, b.text(), "Hello Zoë.")
		require.Equal(t, "/page?name=Zo%C3%AB&agreed=on", b.address())
		b.look(fmt.Sprintf("scripts-%v", scripts))
	}
	b := newTab(t, at)
	b.open("/keys")
	b.press("Tab")
	b.write("Ada")
	b.press("Tab", "Space", "Tab")
	require.Equal(t, http.StatusOK, b.send("Enter"))
	require.Equal(t, "/keys?name=Ada&agreed=on", b.address())
}
