package admin_test

import (
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/keystore"
)

// The page works wherever it is mounted, as a browser finds its way: by the links, forms and
// redirects of its pages.
func TestMounts(t *testing.T) {
	for name, mount := range map[string]struct {
		path, prefix string // of Options, and before the request's path
		handler      func(http.Handler) http.Handler
	}{
		"at the root": {"/", "/", func(h http.Handler) http.Handler { return h }},
		"by a mux":    {"/staff/privacy/", "/staff/privacy/", func(h http.Handler) http.Handler { return h }},
		"by StripPrefix": {"/", "/staff/privacy/", func(h http.Handler) http.Handler {
			return http.StripPrefix("/staff/privacy", h)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newData(t).start(t, func(o *admin.Options) { o.Path = mount.path })
			w.add("1", "2")
			mux := http.NewServeMux()
			mux.Handle(mount.prefix, mount.handler(w.page))
			server := httptest.NewServer(mux)
			defer server.Close()
			base, err := url.Parse(server.URL + mount.prefix)
			require.NoError(t, err)
			follow := func(from *url.URL, to string, f url.Values) (*url.URL, string) {
				t.Helper()
				at, err := from.Parse(to)
				require.NoError(t, err)
				r, err := http.NewRequest(http.MethodGet, at.String(), nil)
				if f != nil {
					r, err = http.NewRequest(http.MethodPost, at.String(), strings.NewReader(f.Encode()))
					r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					r.Header.Set("Origin", server.URL)
				}
				require.NoError(t, err)
				res, err := http.DefaultClient.Do(r)
				require.NoError(t, err)
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, res.StatusCode, "%s %s", at, body)
				return res.Request.URL, string(body)
			}
			_, list := follow(base, "", nil)
			links := 0
			for _, m := range hrefs.FindAllStringSubmatch(list, -1) {
				if m[1][0] != '#' {
					follow(base, html.UnescapeString(m[1]), nil)
					links++
				}
			}
			require.Greater(t, links, 5)
			f := form("action", "erase", "s", "client/1")
			at, confirmation := follow(base, "confirm", f)
			for _, m := range hidden.FindAllStringSubmatch(confirmation, -1) {
				f.Set(m[1], m[2])
			}
			f.Set("typed", "1")
			at, batch := follow(at, "act", f)
			require.Equal(t, mount.prefix+"batch", at.Path)
			require.Contains(t, batch, "client/1")
			require.Equal(t, keystore.StateErasing, w.status("client/1").State)
			at, _ = follow(at, "batch", form("action", "cancel", "s", "client/1"))
			require.Equal(t, mount.prefix+"person", at.Path)
			require.Equal(t, keystore.StateActive, w.status("client/1").State)
		})
	}
}
