package admin_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/keystore"
)

// changed is a form with some fields set, or taken away where they are empty.
func changed(form url.Values, pairs ...string) url.Values {
	other := url.Values{}
	for k, v := range form {
		other[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		if other.Del(pairs[i]); pairs[i+1] != "" {
			other.Set(pairs[i], pairs[i+1])
		}
	}
	return other
}

func TestForgedPost(t *testing.T) {
	w := open(t, "1", "2", "3")
	real := w.confirmed("erase", "client/1", "client/2")
	for _, c := range []struct {
		name string
		form url.Values
		code int
	}{
		{"nothing", nil, http.StatusBadRequest},
		{"no confirmation", form("action", "erase", "s", "client/1"), http.StatusBadRequest},
		{"no digest", changed(real, "digest", ""), http.StatusBadRequest},
		{"no batch", changed(real, "batch", ""), http.StatusBadRequest},
		{"no people", changed(real, "s", ""), http.StatusBadRequest},
		{"no action", changed(real, "action", ""), http.StatusBadRequest},
		{"an unknown action", changed(real, "action", "export"), http.StatusBadRequest},
		{"a batch that is none", changed(real, "batch", "../../etc/passwd"), http.StatusBadRequest},
		{"nobody's subject", changed(real, "s", "client"), http.StatusBadRequest},
		{"a wrong digest", changed(real, "digest", real.Get("digest")[1:]+"0"), http.StatusConflict},
		{"an invented batch", changed(real, "batch", keystore.NewBatchID(time.Now()).String()), http.StatusConflict},
		{"a batch of the future", changed(real, "batch", keystore.NewBatchID(time.Now().Add(time.Hour)).String()), http.StatusConflict},
		{"other people", changed(real, "s", "client/3"), http.StatusConflict},
		{"another action", changed(real, "action", "restrict"), http.StatusConflict},
		{"more is kept", changed(real, "keep", "tax"), http.StatusConflict},
		{"an unknown purpose is kept", changed(real, "keep", "taxes"), http.StatusBadRequest},
		{"nothing typed", changed(real, "typed", ""), http.StatusUnprocessableEntity},
		{"the wrong count", changed(real, "typed", "3"), http.StatusUnprocessableEntity},
		{"an id for the count", changed(real, "typed", "client/1"), http.StatusUnprocessableEntity},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.refuses(c.code, func() *httptest.ResponseRecorder { return w.post("act", c.form) })
		})
	}
	w.refuses(http.StatusBadRequest, func() *httptest.ResponseRecorder { return w.post("act?"+real.Encode(), form("x", "y")) })
	for _, c := range []url.Values{
		nil, form("action", "erase", "s", "client/1"), form("action", "retry"), form("action", "cancel", "s", "client/1", "s", "client/2"),
	} {
		w.refuses(http.StatusBadRequest, func() *httptest.ResponseRecorder { return w.post("batch", c) })
	}
	for _, id := range []string{"x", keystore.NewBatchID(time.Now()).String()} {
		w.refuses(http.StatusNotFound, func() *httptest.ResponseRecorder { return w.post("batch", form("action", "retry", "id", id)) })
	}
	// After all that the confirmation as it was shown is good.
	require.Equal(t, http.StatusSeeOther, w.post("act", real).Code)
}

func TestReplays(t *testing.T) {
	w := open(t, "1", "2", "3")
	real := w.confirmed("erase", "client/1", "client/2")
	first := w.post("act", real)
	require.Equal(t, http.StatusSeeOther, first.Code, w.said(first))
	same := func() {
		t.Helper()
		before := w.everything()
		again := w.post("act", real)
		require.Equal(t, http.StatusSeeOther, again.Code, w.said(again))
		require.Equal(t, first.Header().Get("Location"), again.Header().Get("Location"))
		require.Equal(t, before, w.everything())
	}
	same()

	// Its id serves for nothing else, and nobody else.
	w.refuses(http.StatusConflict, func() *httptest.ResponseRecorder { return w.post("act", changed(real, "s", "client/3", "typed", "3")) })
	w.refuses(http.StatusConflict, func() *httptest.ResponseRecorder { return w.post("act", changed(real, "action", "release")) })
	w.officer = &officer{actor: "officer-8"}
	w.refuses(http.StatusConflict, func() *httptest.ResponseRecorder { return w.post("act", real) })
	w.officer = &officer{actor: "officer-7"}

	// What was cancelled is not asked for again by the same form.
	rec := w.post("batch", form("id", real.Get("batch"), "action", "cancel"))
	require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
	same()
	require.Equal(t, keystore.StateActive, w.status("client/1").State)

	// Nor after an hour, when a new confirmation would be stale.
	w.wait(2 * time.Hour)
	same()
}

func TestConfirmationOfSomebodyElse(t *testing.T) {
	w := open(t, "1")
	real := w.confirmed("erase", "client/1")
	w.officer = &officer{actor: "officer-8"}
	w.refuses(http.StatusConflict, func() *httptest.ResponseRecorder { return w.post("act", real) })
}

// Every POST of another origin, and every one that does not say where it is from, is refused,
// though the officer is signed in and the form is right.
func TestCrossOrigin(t *testing.T) {
	w := open(t, "1", "2")
	real := w.confirmed("erase", "client/1")
	batch := w.erase("client/2")
	id := batch[len("batch?id="):]
	posts := map[string]url.Values{
		"confirm": form("action", "erase", "s", "client/1"),
		"act":     real,
		"batch":   form("id", id, "action", "cancel"),
		"export":  form("s", "client/1", "format", "json"),
	}
	for name, set := range map[string]func(h http.Header){
		"cross-site": func(h http.Header) { h.Set("Sec-Fetch-Site", "cross-site") },
		"same-site":  func(h http.Header) { h.Set("Sec-Fetch-Site", "same-site") },
		"origin":     func(h http.Header) { h.Set("Origin", "https://evil.example") },
		"both": func(h http.Header) {
			h.Set("Sec-Fetch-Site", "cross-site")
			h.Set("Origin", "https://evil.example")
		},
		"null":    func(h http.Header) { h.Set("Origin", "null") },
		"port":    func(h http.Header) { h.Set("Origin", "https://app.example:8443") },
		"nothing": func(h http.Header) {},
	} {
		for to, form := range posts {
			t.Run(name+" "+to, func(t *testing.T) {
				rec := w.refuses(http.StatusForbidden, func() *httptest.ResponseRecorder {
					return w.do(http.MethodPost, to, form, func(r *http.Request) { set(r.Header) })
				})
				require.Contains(t, rec.Body.String(), "«error.crossorigin")
				require.Contains(t, w.log.String(), "of another origin")
				require.Contains(t, w.log.String(), "actor=officer-7")
			})
		}
	}
	// A browser that sends no Sec-Fetch-Site says where a form is from by Origin.
	rec := w.do(http.MethodPost, "act", real, func(r *http.Request) { r.Header.Set("Origin", "https://app.example") })
	require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
}

func TestPermissions(t *testing.T) {
	three := []string{"client/1", "client/2", "client/3"}
	type try struct {
		name    string
		lacking admin.Permission
		prepare func(w *office) func() *httptest.ResponseRecorder
	}
	post := func(to string, fields url.Values) func(w *office) func() *httptest.ResponseRecorder {
		return func(w *office) func() *httptest.ResponseRecorder {
			return func() *httptest.ResponseRecorder { return w.post(to, fields) }
		}
	}
	confirm := func(action string) func(w *office) func() *httptest.ResponseRecorder {
		return func(w *office) func() *httptest.ResponseRecorder {
			if action == "release" {
				_, err := w.keys.Restrict(t.Context(), nil, subj(t, "client/1"), subj(t, "client/3"))
				require.NoError(t, err)
			}
			real := w.confirmed(action, three...)
			return func() *httptest.ResponseRecorder { return w.post("act", real) }
		}
	}
	goOn := func(action string, chosen ...string) func(w *office) func() *httptest.ResponseRecorder {
		return func(w *office) func() *httptest.ResponseRecorder {
			id := w.erase(three...)[len("batch?id="):]
			return func() *httptest.ResponseRecorder {
				return w.post("batch", url.Values{"id": {id}, "action": {action}, "s": chosen})
			}
		}
	}
	for _, c := range []try{
		{"confirm", admin.Anonymize, post("confirm", url.Values{"action": {"erase"}, "s": three})},
		{"confirm unseen", admin.View, post("confirm", url.Values{"action": {"erase"}, "s": three})},
		{"confirm restrict", admin.Restrict, post("confirm", url.Values{"action": {"restrict"}, "s": three})},
		{"erase", admin.Anonymize, confirm("erase")},
		{"erase unseen", admin.View, confirm("erase")},
		{"restrict", admin.Restrict, confirm("restrict")},
		{"release", admin.Restrict, confirm("release")},
		{"retry all", admin.Anonymize, goOn("retry")},
		{"cancel all", admin.Anonymize, goOn("cancel")},
		{"cancel some", admin.Anonymize, goOn("cancel", "client/1", "client/2")},
		{"cancel unseen", admin.View, goOn("cancel", "client/2")},
		{"export", admin.Export, post("export", url.Values{"s": three, "format": {"json"}})},
		{"export unseen", admin.View, post("export", url.Values{"s": three, "format": {"json"}})},
		{"export one", admin.Export, post("export", url.Values{"s": {"client/2"}, "format": {"csv"}})},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := open(t, "1", "2", "3")
			do := c.prepare(w) // while all permissions are there: they are asked for again
			w.officer.lacks(c.lacking, "client/2")
			rec := w.refuses(http.StatusForbidden, do)
			require.Contains(t, rec.Body.String(), "«error.forbidden")
			require.NotContains(t, rec.Body.String(), "Main Street")
			log := w.log.String()
			require.Contains(t, log, "a permission is missing")
			require.Contains(t, log, "actor=officer-7")
			require.Contains(t, log, "permission="+string(c.lacking))
			require.Contains(t, log, "client/2")
		})
	}
}

func TestPagesNeedView(t *testing.T) {
	w := open(t, "1", "2")
	batch := w.erase("client/1", "client/2")
	w.officer.lacks(admin.View, "", "client/2") // the zero subject: pages about nobody in particular
	for _, to := range []string{"./", "./?q=client/1", "batches", "health", batch, "person?s=client/2", "confirm?action=erase&s=client/2"} {
		rec := w.refuses(http.StatusForbidden, func() *httptest.ResponseRecorder { return w.get(to) })
		require.NotContains(t, rec.Body.String(), "client/1", to)
	}
	w.officer.lacks(admin.View, "client/2", "client/9")
	require.NotContains(t, w.get("./").Body.String(), "client%2F2")
	require.Equal(t, map[string]string{"client/1": "waiting"}, w.steps(batch))
	// That somebody is known is not to be seen either.
	for _, q := range []string{"client/%s", "%s", "client/1 %s", "%s 7"} {
		known, unknown := w.get("./?q="+url.QueryEscape(fmt.Sprintf(q, "2"))), w.get("./?q="+url.QueryEscape(fmt.Sprintf(q, "9")))
		require.Equal(t, http.StatusOK, known.Code)
		require.Equal(t, strings.ReplaceAll(unknown.Body.String(), "9", "2"), strings.ReplaceAll(known.Body.String(), "9", "2"), q)
	}
	require.Equal(t, http.StatusForbidden, w.get("person?s=client/9").Code)
	require.Equal(t, http.StatusOK, w.get("health").Code)
}
