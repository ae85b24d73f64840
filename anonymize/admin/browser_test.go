package admin_test

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/keystore"
)

// keyed are the English texts with their keys before those that tests look for.
func keyed() *admin.Texts {
	texts := admin.English()
	for k, text := range texts {
		for _, family := range []string{"step.", "notice.", "refused.", "error.", "people.problem.", "confirm.stale", "confirm.wrong", "value.", "call.", "problem."} {
			if strings.HasPrefix(k, family) {
				texts[k] = "«" + k + "» " + text
			}
		}
	}
	return &texts
}

var inBatch = regexp.MustCompile(`(?s)<a href="person\?([^"]+)">.*?«step\.(\w+)»`)

// steps reads from the page of a batch how far everybody is.
func (w *office) steps(batch string) map[string]string {
	w.t.Helper()
	rec := w.get(batch)
	require.Equal(w.t, http.StatusOK, rec.Code, w.said(rec))
	steps := map[string]string{}
	for _, m := range inBatch.FindAllStringSubmatch(rec.Body.String(), -1) {
		q, err := url.ParseQuery(html.UnescapeString(m[1]))
		require.NoError(w.t, err)
		steps[q.Get("s")] = m[2]
	}
	return steps
}

// get asks for a page; to is relative, as the links on pages are.
func (w *office) get(to string) *httptest.ResponseRecorder {
	w.t.Helper()
	return w.do(http.MethodGet, to, nil, nil)
}

// post sends a form as a browser does that stands on one of our pages.
func (w *office) post(to string, form url.Values) *httptest.ResponseRecorder {
	w.t.Helper()
	return w.do(http.MethodPost, to, form, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") })
}

func (w *office) do(method, to string, form url.Values, change func(*http.Request)) *httptest.ResponseRecorder {
	w.t.Helper()
	at, err := url.Parse("https://app.example/privacy/")
	require.NoError(w.t, err)
	at, err = at.Parse(to)
	require.NoError(w.t, err)
	r := httptest.NewRequest(method, at.String(), strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if change != nil {
		change(r)
	}
	rec := httptest.NewRecorder()
	w.page.ServeHTTP(rec, r)
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin"} {
		require.Equal(w.t, want, rec.Header().Get(name), "%s %s: %s", method, to, name)
	}
	require.Contains(w.t, rec.Header().Get("Content-Security-Policy"), "default-src 'none'")
	return rec
}

var hidden = regexp.MustCompile(`name="(batch|digest)"[^>]*value="([^"]*)"`)

// confirm sends the form of a list, and goes on to the confirmation.
func (w *office) confirm(form url.Values) *httptest.ResponseRecorder {
	w.t.Helper()
	rec := w.post("confirm", form)
	if to := rec.Header().Get("Location"); rec.Code == http.StatusSeeOther {
		require.True(w.t, strings.HasPrefix(to, "confirm?"), to)
		return w.get(to)
	}
	return rec
}

// confirmed asks for the confirmation of an action and fills it in as the officer does.
func (w *office) confirmed(action string, subjects ...string) url.Values {
	w.t.Helper()
	form := url.Values{"action": {action}, "s": subjects}
	rec := w.confirm(form)
	require.Equal(w.t, http.StatusOK, rec.Code, w.said(rec))
	for _, m := range hidden.FindAllStringSubmatch(rec.Body.String(), -1) {
		form.Set(m[1], m[2])
	}
	require.NotEmpty(w.t, form.Get("batch"), w.said(rec))
	require.Len(w.t, form.Get("digest"), 64)
	form.Set("typed", fmt.Sprint(len(subjects)))
	if len(subjects) == 1 {
		form.Set("typed", subj(w.t, subjects[0]).ID())
	}
	return form
}

// erase confirms and acts, and returns the address of the batch.
func (w *office) erase(subjects ...string) string {
	w.t.Helper()
	rec := w.post("act", w.confirmed("erase", subjects...))
	require.Equal(w.t, http.StatusSeeOther, rec.Code, w.said(rec))
	return rec.Header().Get("Location")
}

func (w *office) status(subject string) keystore.Status {
	w.t.Helper()
	sts, err := w.keys.Status(context.Background(), subj(w.t, subject))
	require.NoError(w.t, err)
	return sts[0]
}

// until waits until somebody is in a state.
func (w *office) until(state keystore.State, subjects ...string) {
	w.t.Helper()
	for _, s := range subjects {
		require.Eventually(w.t, func() bool { return w.status(s).State == state }, 10*time.Second, 5*time.Millisecond, "%s: %s", s, state)
	}
}

// everything is all that an action could have changed: everybody with their history, and
// all batches.
func (w *office) everything() string {
	w.t.Helper()
	var b strings.Builder
	for st, err := range w.keys.All(context.Background()) {
		require.NoError(w.t, err)
		fmt.Fprintf(&b, "%s %s %q %q %v %v\n", st.Subject, st.State, st.Hold, st.Purposes, st.History, st.Journal)
	}
	batches, err := w.keys.Batches(context.Background(), keystore.BatchID{}, 1000)
	require.NoError(w.t, err)
	fmt.Fprintf(&b, "%v", batches)
	return b.String()
}

// refuses asks for something that must be refused, and change nothing.
func (w *office) refuses(code int, do func() *httptest.ResponseRecorder) *httptest.ResponseRecorder {
	w.t.Helper()
	before := w.everything()
	rec := do()
	require.Equal(w.t, code, rec.Code, w.said(rec))
	require.Empty(w.t, rec.Header().Get("Location"))
	require.Equal(w.t, before, w.everything(), "something was changed")
	return rec
}

// said is the main part of a page, and the log, for the messages of failed tests.
func (w *office) said(rec *httptest.ResponseRecorder) string {
	text := rec.Body.String()
	if at := strings.Index(text, "<main"); at >= 0 {
		text = text[at:]
	}
	return text + "\nlog: " + w.log.String()
}

func subj(t testing.TB, text string) keystore.Subject {
	t.Helper()
	s, err := keystore.ParseSubject(text, keystore.AllowAt())
	require.NoError(t, err)
	return s
}

// form makes values from pairs.
func form(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

var filled = regexp.MustCompile(`<input type="hidden" name="(\w+)" value="([^"]*)"`)

// filledIn is the form of a confirmation to erase as the officer sends it.
func (w *office) filledIn(rec *httptest.ResponseRecorder) url.Values {
	w.t.Helper()
	require.Contains(w.t, []int{http.StatusOK, http.StatusConflict}, rec.Code, w.said(rec))
	_, body, ok := strings.Cut(rec.Body.String(), `action="act"`)
	require.True(w.t, ok, w.said(rec))
	f := url.Values{}
	for _, m := range filled.FindAllStringSubmatch(body, -1) {
		f.Add(m[1], html.UnescapeString(m[2]))
	}
	f.Set("typed", fmt.Sprint(len(f["s"])))
	if len(f["s"]) == 1 {
		f.Set("typed", subj(w.t, f.Get("s")).ID())
	}
	return f
}
