package admin_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOversized(t *testing.T) {
	w := open(t, "1")
	real := w.confirmed("erase", "client/1")
	large := changed(real, "hold", strings.Repeat("x", 1<<20))
	for _, to := range []string{"act", "confirm", "batch", "export"} {
		rec := w.refuses(http.StatusRequestEntityTooLarge, func() *httptest.ResponseRecorder { return w.post(to, large) })
		require.Contains(t, rec.Body.String(), "«error.toolarge»")
	}
	many := url.Values{"action": {"erase"}, "format": {"json"}}
	for i := range 1001 {
		many.Add("s", fmt.Sprintf("client/%d", i+1))
	}
	for _, to := range []string{"act", "confirm", "batch", "export"} {
		form := changed(many)
		if to == "batch" {
			form.Set("action", "cancel")
		}
		rec := w.refuses(http.StatusUnprocessableEntity, func() *httptest.ResponseRecorder { return w.post(to, form) })
		require.Contains(t, rec.Body.String(), "«error.toomany»", to)
	}
	fields := changed(real)
	for i := range 300 {
		fields.Add("keep", fmt.Sprint(i))
	}
	w.refuses(http.StatusBadRequest, func() *httptest.ResponseRecorder { return w.post("act", fields) })
	w.refuses(http.StatusBadRequest, func() *httptest.ResponseRecorder {
		return w.post("confirm", form("action", "restrict", "s", "client/1", "hold", strings.Repeat("x", 501)))
	})
}

// A thousand of the longest subjects fit into a form.
func TestThousand(t *testing.T) {
	w := open(t)
	f := url.Values{"action": {"restrict"}}
	for i := range 1000 {
		f.Add("s", fmt.Sprintf("client/%04d%s", i, strings.Repeat("\U0001f469", 62)))
	}
	rec := w.post("confirm", f)
	require.Equal(t, http.StatusOK, rec.Code, w.said(rec)[:300])
}

func TestMethods(t *testing.T) {
	w := open(t, "1")
	for to, allow := range map[string]string{
		"./": "GET, HEAD", "person?s=client/1": "GET, HEAD", "batches": "GET, HEAD", "health": "GET, HEAD", "static/admin.css": "GET, HEAD",
		"confirm?action=erase&s=client/1": "GET, HEAD, POST", "batch": "GET, HEAD, POST", "act": "POST", "export": "POST",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, "HACK"} {
			rec := w.do(method, to, nil, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") })
			if strings.Contains(allow, method) {
				require.NotEqual(t, http.StatusMethodNotAllowed, rec.Code, "%s %s", method, to)
				continue
			}
			require.Equal(t, http.StatusMethodNotAllowed, rec.Code, "%s %s: %s", method, to, w.said(rec))
			require.Equal(t, allow, rec.Header().Get("Allow"))
		}
	}
	require.Equal(t, http.StatusOK, w.do(http.MethodHead, "./", nil, nil).Code)
	require.Equal(t, "no-store", w.get("./").Header().Get("Cache-Control"))
}

func TestOtherPaths(t *testing.T) {
	w := open(t, "1")
	for _, to := range []string{"nothing", "act/", "person/../../x", "static/", "static/../admin.go", "static/x", "//evil.example/", "/", "/privacyx", "a/b/c"} {
		r := httptest.NewRequest(http.MethodGet, "https://app.example/", nil)
		r.URL.Path = "/privacy/" + to
		if strings.HasPrefix(to, "/privacyx") || to == "/" {
			r.URL.Path = to
		}
		rec := httptest.NewRecorder()
		w.page.ServeHTTP(rec, r)
		require.Equal(t, http.StatusNotFound, rec.Code, to)
		require.NotEmpty(t, rec.Header().Get("Content-Security-Policy"))
	}
}

// What a request says about where to go back to never leads elsewhere.
func TestNoOpenRedirect(t *testing.T) {
	w := open(t, "1", "2")
	evil := []string{"https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"}
	for _, e := range evil {
		f := form("action", "erase", "s", "client/1", "s", "client/2", "q", e, "state", e, "after", e, "back", e, "next", e)
		page := w.confirm(f)
		require.Equal(t, http.StatusOK, page.Code, w.said(page))
		for _, m := range hrefs.FindAllStringSubmatch(page.Body.String(), -1) {
			require.NotRegexp(t, `^(https?:|//|/\\|javascript:)`, m[1])
		}
		f.Del("s")
		for _, to := range []string{"confirm", "export"} {
			if to == "export" {
				f.Set("format", "json")
			}
			rec := w.post(to, f)
			require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
			require.True(t, strings.HasPrefix(rec.Header().Get("Location"), "./?"), rec.Header().Get("Location"))
		}
		require.NotContains(t, w.get("./?note="+url.QueryEscape(e)+"&problem="+url.QueryEscape(e)).Body.String(), "evil.example")
	}
}

func TestOtherBodies(t *testing.T) {
	w := open(t, "1")
	real := w.confirmed("erase", "client/1")
	for _, kind := range []string{"multipart/form-data; boundary=x", "text/plain", "application/json", ""} {
		w.refuses(http.StatusBadRequest, func() *httptest.ResponseRecorder {
			return w.do(http.MethodPost, "act", real, func(r *http.Request) {
				r.Header.Set("Sec-Fetch-Site", "same-origin")
				r.Header.Set("Content-Type", kind)
			})
		})
	}
	w.refuses(http.StatusBadRequest, func() *httptest.ResponseRecorder {
		return w.do(http.MethodPost, "act", real, func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			r.Body = io.NopCloser(strings.NewReader("action=erase&s=%zz"))
		})
	})
}
