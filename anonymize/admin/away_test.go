package admin_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/keystore"
)

// goAway lets the keystore fail from now on.
func (w *office) goAway() {
	w.backend.FailAt(1, fault.Lost)
	_, err := w.keys.Note(context.Background(), keystore.ChangeExported, subj(w.t, "client/1"))
	require.ErrorIs(w.t, err, keystore.ErrUnavailable)
}

func TestKeystoreAway(t *testing.T) {
	w := open(t, "1", "2")
	real := w.confirmed("erase", "client/1")
	batch := w.erase("client/2")
	before := w.everything()
	w.goAway()
	for _, to := range []string{"./", "./?state=erased", "./?state=erasing", "./?q=client/1", "person?s=client/1", "confirm?action=erase&s=client/1",
		"batches", batch, "health"} {
		rec := w.get(to)
		require.Equal(t, http.StatusServiceUnavailable, rec.Code, "%s: %s", to, w.said(rec))
		body := rec.Body.String()
		require.Contains(t, body, "«error.unavailable»", to)
		require.NotContains(t, body, "«value.erased»", to)
		require.NotContains(t, body, "#i-erased\"/></svg>", to)
		require.NotContains(t, body, "«step.", to)
	}
	for to, f := range map[string]url.Values{"act": real, "confirm": form("action", "restrict", "s", "client/1", "hold", "a lawsuit"), "export": form("s", "client/1", "format", "json"),
		"batch": form("action", "cancel", "s", "client/2")} {
		rec := w.post(to, f)
		require.Equal(t, http.StatusServiceUnavailable, rec.Code, "%s: %s", to, w.said(rec))
		require.NotContains(t, rec.Body.String(), "Ada")
		require.Empty(t, rec.Header().Get("Content-Disposition"))
	}
	w.backend.Revive()
	require.Equal(t, before, w.everything())
	require.Equal(t, http.StatusSeeOther, w.post("act", real).Code)
}

// An application that can't say who asks, or what they may, is no yes.
func TestUndecided(t *testing.T) {
	secret := errors.New("user ada@example.com not in ldap")
	for name, c := range map[string]struct {
		set  func(w *office)
		code int
	}{
		"May fails":         {func(w *office) { w.officer.broken = secret }, http.StatusServiceUnavailable},
		"May says too few":  {func(w *office) { w.officer.short = true }, http.StatusServiceUnavailable},
		"the viewer fails":  {func(w *office) { w.who = func(*http.Request) (admin.Viewer, error) { return nil, secret } }, http.StatusServiceUnavailable},
		"nobody":            {func(w *office) { w.who = func(*http.Request) (admin.Viewer, error) { return nil, admin.ErrNobody } }, http.StatusUnauthorized},
		"a nil viewer":      {func(w *office) { w.who = func(*http.Request) (admin.Viewer, error) { return nil, nil } }, http.StatusForbidden},
		"no actor":          {func(w *office) { w.officer.actor = "" }, http.StatusForbidden},
		"an odd actor":      {func(w *office) { w.officer.actor = "x\x1b[2J" }, http.StatusForbidden},
		"an endless actor":  {func(w *office) { w.officer.actor = strings.Repeat("x", 300) }, http.StatusForbidden},
		"the viewer panics": {func(w *office) { w.who = func(*http.Request) (admin.Viewer, error) { panic(secret) } }, http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, "1", "2")
			real := w.confirmed("erase", "client/1")
			batch := w.erase("client/2")
			c.set(w)
			for _, to := range []string{"./", "person?s=client/1", batch, "batches", "health"} {
				rec := w.refuses(c.code, func() *httptest.ResponseRecorder { return w.get(to) })
				require.NotContains(t, rec.Body.String(), "client/1", to)
				require.NotContains(t, rec.Body.String(), "ada@example.com", to)
			}
			w.refuses(c.code, func() *httptest.ResponseRecorder { return w.post("act", real) })
			w.refuses(c.code, func() *httptest.ResponseRecorder { return w.post("export", form("s", "client/1", "format", "json")) })
			w.refuses(c.code, func() *httptest.ResponseRecorder { return w.post("batch", form("action", "cancel", "s", "client/2")) })
			require.NotEmpty(t, w.log.String())
			require.NotContains(t, w.log.String(), "ada@example.com")
			// The words and colours of the page need nobody.
			require.Equal(t, http.StatusOK, w.get("static/admin.css").Code)
		})
	}
}

// The tables of the application fail: nothing reads as erased or empty, and nothing is done.
func TestTablesAway(t *testing.T) {
	w := open(t, "1", "2")
	real := w.confirmed("erase", "client/1")
	w.clients.fail = errors.New("relation for ada@example.com is gone")
	list := w.get("./")
	require.Equal(t, http.StatusOK, list.Code)
	require.Contains(t, list.Body.String(), "«people.problem.novalues»")
	require.Contains(t, list.Body.String(), "client/1")
	for _, to := range []string{"person?s=client/1", "confirm?action=erase&s=client/1"} {
		rec := w.get(to)
		require.Equal(t, http.StatusInternalServerError, rec.Code, w.said(rec))
		require.Contains(t, rec.Body.String(), "«error.tables»")
	}
	for to, f := range map[string]url.Values{"act": real, "export": form("s", "client/1", "format", "json")} {
		w.refuses(http.StatusInternalServerError, func() *httptest.ResponseRecorder { return w.post(to, f) })
	}
	require.NotContains(t, w.log.String(), "ada@example.com")
}
