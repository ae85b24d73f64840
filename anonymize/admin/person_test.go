package admin_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

func TestPerson(t *testing.T) {
	w := open(t, "1", "2")
	body := w.get("person?s=client/1").Body.String()
	for _, want := range []string{"Ada of 1", "1 Main Street", "NL", "clients"} {
		require.Contains(t, body, want)
	}
	for _, k := range w.status("client/1").Keys {
		require.Contains(t, body, keyID(k.ID))
	}
	require.Equal(t, http.StatusOK, w.post("export", form("s", "client/1", "format", "json")).Code)
	rec := w.post("act", w.confirmed("restrict", "client/1"))
	require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
	require.Equal(t, "exported restricted ", kinds(w.status("client/1")))
	for _, c := range w.status("client/1").History {
		require.Equal(t, "officer-7", c.Actor)
	}
	body = w.get("person?s=client/1").Body.String()
	require.NotContains(t, body, "Ada of 1")
	require.Contains(t, body, "officer-7")

	rec = w.get("person?s=client/404")
	require.Equal(t, http.StatusNotFound, rec.Code, w.said(rec))
	for _, to := range []string{"person", "person?s=", "person?s=client", "person?s=client/1&s=client/2", "person?s=client/0"} {
		require.Equal(t, http.StatusBadRequest, w.get(to).Code, to)
	}
}

func keyID(id uint32) string {
	const digits = "0123456789abcdef"
	text := make([]byte, 8)
	for i := range text {
		text[i] = digits[id>>(28-4*i)&15]
	}
	return string(text)
}

// A row that does not open hides neither the person nor what became of them.
func TestRowThatDoesNotOpen(t *testing.T) {
	w := open(t, "1", "2")
	spoilt := w.clients.rows["1"]
	spoilt.Name = w.clients.rows["2"].Name // somebody else's
	w.clients.rows["1"] = spoilt
	rec := w.get("person?s=client/1")
	require.Equal(t, http.StatusOK, rec.Code, w.said(rec))
	require.Contains(t, rec.Body.String(), "client/1")
	require.NotContains(t, rec.Body.String(), "Ada")
	require.Contains(t, w.log.String(), "can't be opened")
	list := w.get("./").Body.String()
	require.Contains(t, list, "Ada of 2")
	require.Contains(t, list, "client/1")
	require.Equal(t, http.StatusInternalServerError, w.post("export", form("s", "client/1", "format", "json")).Code)
}

func TestExport(t *testing.T) {
	w := open(t, "1", "2", "3")
	one := w.post("export", form("s", "client/1", "format", "json"))
	require.Equal(t, http.StatusOK, one.Code, w.said(one))
	require.Equal(t, "application/json", one.Header().Get("Content-Type"))
	require.Equal(t, "attachment; filename=export-client-1.json", one.Header().Get("Content-Disposition"))
	require.Equal(t, "no-store", one.Header().Get("Cache-Control"))
	var doc struct {
		Subject string
		Tables  []struct {
			Rows []struct{ Values map[string]any }
		}
	}
	require.NoError(t, json.Unmarshal(one.Body.Bytes(), &doc))
	require.Equal(t, "client/1", doc.Subject)
	require.Equal(t, "Ada of 1", doc.Tables[0].Rows[0].Values["name"])

	csv := w.post("export", form("s", "client/1", "format", "csv"))
	require.Equal(t, "text/csv; charset=utf-8", csv.Header().Get("Content-Type"))
	require.Contains(t, csv.Body.String(), "clients,1,name,open,Ada of 1\n")

	several := w.post("export", form("s", "client/1", "s", "client/2", "format", "json"))
	require.Equal(t, "attachment; filename=export.json", several.Header().Get("Content-Disposition"))
	var docs []struct{ Subject string }
	require.NoError(t, json.Unmarshal(several.Body.Bytes(), &docs))
	require.Len(t, docs, 2)
	require.Equal(t, "client/2", docs[1].Subject)

	require.Equal(t, "exported exported exported ", kinds(w.status("client/1")))
	require.Equal(t, "exported ", kinds(w.status("client/2")))
	require.Equal(t, "officer-7", w.status("client/2").History[0].Actor)
	require.Empty(t, w.status("client/3").History)
	for _, f := range []string{"", "xml"} {
		w.refuses(http.StatusBadRequest, func() *httptest.ResponseRecorder { return w.post("export", form("s", "client/1", "format", f)) })
	}
	w.refuses(http.StatusNotFound, func() *httptest.ResponseRecorder {
		return w.post("export", form("s", "client/1", "s", "client/404", "format", "json"))
	})
}

// recorder notes what the histories say when the first byte of an answer leaves.
type recorder struct {
	*httptest.ResponseRecorder
	before func()
}

func (r *recorder) Write(p []byte) (int, error) { r.before(); return r.ResponseRecorder.Write(p) }

// It is noted before anything leaves, and where it can't be noted nothing leaves.
func TestExportIsNotedFirst(t *testing.T) {
	w := open(t, "1")
	send := func(before func()) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "https://app.example/privacy/export", strings.NewReader("s=client/1&format=json"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		rec := &recorder{httptest.NewRecorder(), before}
		w.page.ServeHTTP(rec, r)
		return rec.ResponseRecorder
	}
	noted := ""
	rec := send(func() { noted = kinds(w.status("client/1")) })
	require.Equal(t, http.StatusOK, rec.Code, w.said(rec))
	require.Equal(t, "exported ", noted)

	w.backend.FailAt(1, 0)
	rec = send(func() {})
	require.Equal(t, http.StatusServiceUnavailable, rec.Code)
	require.NotContains(t, rec.Body.String(), "Ada")
	require.Empty(t, rec.Header().Get("Content-Disposition"))
	w.backend.Revive()
}

func TestHealth(t *testing.T) {
	w := open(t, "1", "2", "3", "4")
	body := w.get("health").Body.String()
	require.NotContains(t, body, "client/")
	_, err := w.eraser.Anonymize(t.Context(), subj(t, "client/1"))
	require.NoError(t, err)
	require.NoError(t, w.eraser.Request(t.Context(), subj(t, "client/2")))
	require.NoError(t, w.eraser.Request(t.Context(), subj(t, "client/3")))
	w.officer.lacks("view", "client/3")
	rec := w.get("health")
	require.Equal(t, http.StatusOK, rec.Code, w.said(rec))
	body = rec.Body.String()
	require.Equal(t, []string{"client/2"}, unique(linked(body)))
	h, err := w.keys.Health(t.Context())
	require.NoError(t, err)
	for _, r := range h.Roots {
		require.Contains(t, body, r.ID.String()[:8])
	}
	require.NotContains(t, body, "client/3")
	w.wait(25 * time.Hour)
	require.NotContains(t, body, "«problem.stuck»")
	require.Contains(t, body, "«problem.idle»")
	require.Contains(t, w.get("health").Body.String(), "«problem.stuck»", "an erasure of yesterday")
}

// unique drops repetitions that follow each other.
func unique(list []string) []string {
	var u []string
	for _, s := range list {
		if len(u) == 0 || u[len(u)-1] != s {
			u = append(u, s)
		}
	}
	return u
}

func TestBatchesPage(t *testing.T) {
	w := open(t, "1", "2", "3")
	var made []string
	for _, s := range three {
		made = append([]string{w.erase(s)}, made...)
		time.Sleep(2 * time.Millisecond) // ids are as exact as milliseconds
	}
	body := w.get("batches").Body.String()
	at := -1
	for _, b := range made { // the newest first
		i := strings.Index(body, b)
		require.Greater(t, i, at, b)
		at = i
	}
	require.Contains(t, body, "officer-7")
	require.Equal(t, http.StatusNotFound, w.get("batch?id="+keystore.NewBatchID(time.Now()).String()).Code)
	require.Equal(t, http.StatusNotFound, w.get("batch?id=x").Code)
	require.Equal(t, http.StatusNotFound, w.get("batch").Code)
}

func TestKeepingAPurpose(t *testing.T) {
	w := open(t, "1")
	w.addStaff(1)
	page := w.get("confirm?action=erase&s=client/1&keep=tax").Body.String()
	require.Contains(t, page, `name="keep" value="tax"`)
	require.NotContains(t, w.get("confirm?action=erase&s=client/1&s=staff/1").Body.String(), `value="taxes"`)
	f := form("action", "erase", "s", "client/1", "keep", "tax", "typed", "1")
	for _, m := range hidden.FindAllStringSubmatch(page, -1) {
		f.Set(m[1], m[2])
	}
	rec := w.post("act", f)
	require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
	w.run()
	w.until(keystore.StateRestricted, "client/1")
	require.Equal(t, map[string]string{"client/1": "done"}, w.steps(rec.Header().Get("Location")))
	st := w.status("client/1")
	require.True(t, st.Kept)
	require.Equal(t, []string{"tax"}, st.Purposes)
	// The rest can be erased later; it can't be released.
	require.Contains(t, w.get("confirm?action=release&s=client/1").Body.String(), "«refused.kept»")
	batch := w.erase("client/1")
	w.until(keystore.StateErased, "client/1")
	require.Equal(t, map[string]string{"client/1": "done"}, w.steps(batch))
}

func TestReleaseAndHold(t *testing.T) {
	w := open(t, "1", "2")
	real := w.confirmed("restrict", "client/1")
	real.Set("hold", "a lawsuit")
	real.Set("purpose", "court")
	require.Equal(t, http.StatusSeeOther, w.post("act", real).Code)
	st := w.status("client/1")
	require.Equal(t, []any{keystore.StateRestricted, "a lawsuit", []string{"court"}}, []any{st.State, st.Hold, st.Purposes})
	page := w.get("confirm?action=erase&s=client/1&s=client/2").Body.String()
	require.Contains(t, page, "«refused.held»")
	require.Contains(t, page, "a lawsuit")
	rec := w.post("act", w.confirmed("release", "client/1"))
	require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
	require.Equal(t, keystore.StateActive, w.status("client/1").State)
	require.Equal(t, map[string]string{"client/1": "done"}, w.steps(rec.Header().Get("Location")))
	require.Equal(t, "restricted released ", kinds(w.status("client/1")))
}

// blocked lets a receiver wait until the test goes on.
func blocked(w *office, name string) (arrived, release chan struct{}) {
	arrived, release = make(chan struct{}, 10), make(chan struct{})
	w.eraser.PreAnonymize("client", name, func(ctx context.Context, _ anonymize.Erasure) error {
		arrived <- struct{}{}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return arrived, release
}
