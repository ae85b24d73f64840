package admin_test

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// unusual are ids that a page could stumble over.
var unusual = []string{
	`<script>alert(1)</script>`,
	`"quoted" & 'so'`,
	`"><img src=x onerror=alert(1)>`,
	"\u202eright to left\u200f",
	"e\u0301 combined",
	"👩‍👩‍👧 family",
	"100%25 %zz %",
	"a/b//c",
	"a+b c,d",
	"x=1&s=client/2;y",
	"../../etc/passwd",
	"#frag?x",
	"somebody@example.com",
	"{{.}}",
	"javascript:alert(1)",
	"Ada  with two spaces",
	"\u00e9 precomposed",
	strings.Repeat("ü", 127),
}

var (
	hrefs  = regexp.MustCompile(`href="([^"]*)"`)
	chosen = regexp.MustCompile(`name="s" value="([^"]*)"`)
)

// leads tells that a page has a link to somebody, as a browser follows it.
func (w *office) leads(page string, subject string) {
	w.t.Helper()
	for _, m := range hrefs.FindAllStringSubmatch(page, -1) {
		to, err := url.Parse(html.UnescapeString(m[1]))
		require.NoError(w.t, err, m[1])
		require.Empty(w.t, to.Scheme+to.Host, m[1])
		if to.Path != "person" || to.Query().Get("s") != subject {
			continue
		}
		rec := w.get(to.String())
		require.Equal(w.t, http.StatusOK, rec.Code, w.said(rec))
		require.Contains(w.t, html.UnescapeString(rec.Body.String()), subject)
		w.clean(rec.Body.String())
		return
	}
	require.Fail(w.t, "no link", "to %s in %s", subject, page)
}

// clean tells that nothing of an id became markup.
func (w *office) clean(page string) {
	w.t.Helper()
	require.NotContains(w.t, page, "<script>alert")
	require.NotContains(w.t, page, "<img")
	require.NotContains(w.t, page, `href="javascript:`)
}

// offers tells that a page has a form for somebody.
func (w *office) offers(page, subject string) {
	w.t.Helper()
	for _, m := range chosen.FindAllStringSubmatch(page, -1) {
		if html.UnescapeString(m[1]) == subject {
			return
		}
	}
	require.Fail(w.t, "no form", "for %s in %s", subject, page)
}

func TestUnusualSubjects(t *testing.T) {
	w := open(t, unusual...)
	w.add("2")
	for _, id := range unusual {
		t.Run(id, func(t *testing.T) {
			w.t = t
			subject := "client/" + id
			list := w.get("./").Body.String()
			w.clean(list)
			w.leads(list, subject)
			w.offers(list, subject)

			for _, q := range []string{subject, id, "client/nobody\n" + subject} {
				found := w.get("./?" + url.Values{"q": {q}}.Encode())
				require.Equal(t, http.StatusOK, found.Code, w.said(found))
				w.leads(found.Body.String(), subject)
				w.clean(found.Body.String())
			}

			page := w.get("person?" + url.Values{"s": {subject}}.Encode()).Body.String()
			w.offers(page, subject)
			confirmation := w.get("confirm?" + url.Values{"s": {subject}, "action": {"erase"}}.Encode()).Body.String()
			w.clean(confirmation)
			w.leads(confirmation, subject)
			w.offers(confirmation, subject)

			export := w.post("export", form("s", subject, "format", "json"))
			require.Equal(t, http.StatusOK, export.Code, w.said(export))
			require.Regexp(t, `^attachment; filename="?export-client-[A-Za-z0-9_-]+\.json"?$`, export.Header().Get("Content-Disposition"))

			batch := w.erase(subject)
			require.Equal(t, map[string]string{subject: "waiting"}, w.steps(batch))
			w.clean(w.get(batch).Body.String())
			rec := w.post("batch", form("action", "cancel", "s", subject))
			require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
			require.Equal(t, http.StatusOK, w.get(rec.Header().Get("Location")).Code)
			require.Equal(t, keystore.StateActive, w.status(subject).State)
			require.Equal(t, map[string]string{subject: "cancelled"}, w.steps(batch))
		})
	}
	w.t = t
	require.Equal(t, keystore.StateActive, w.status("client/2").State)
	require.Empty(t, w.status("client/2").History)
}

// A kind that no table has, from a keystore that others use, too.
func TestSubjectOfAnotherKind(t *testing.T) {
	w := open(t)
	subject := "x/<script>alert(1)</script>"
	_, err := w.keys.Ensure(t.Context(), nil, []string{""}, subj(t, subject))
	require.NoError(t, err)
	list := w.get("./").Body.String()
	w.clean(list)
	w.leads(list, subject)

	// Where there are no tables, its keys tell what can be kept; that is confirmed like all else.
	_, err = w.keys.Ensure(t.Context(), nil, []string{"tax"}, subj(t, subject))
	require.NoError(t, err)
	more := changed(w.confirmed("erase", subject), "keep", "tax")
	w.refuses(http.StatusConflict, func() *httptest.ResponseRecorder { return w.post("act", more) })
	batch := w.erase(subject)
	w.run()
	w.until(keystore.StateErased, subject)
	require.Equal(t, map[string]string{subject: "done"}, w.steps(batch))
}

func TestSearch(t *testing.T) {
	w := open(t, "1", "2", "a b", "7 client/2", "x,y")
	w.addStaff(1)
	for _, c := range []struct {
		q       string
		found   []string
		missing string
	}{
		{"client/1", []string{"client/1"}, ""},
		{"  client/1\t", []string{"client/1"}, ""},
		{"1", []string{"client/1", "staff/1"}, ""},
		{"client/1 client/2", []string{"client/1", "client/2"}, ""},
		{"client/1, client/2,staff/1", []string{"client/1", "client/2", "staff/1"}, ""},
		{"client/1\r\nclient/a b\n", []string{"client/1", "client/a b"}, ""},
		{"client/a b", []string{"client/a b"}, ""},
		{"a b", []string{"client/a b"}, ""},
		{"client/x,y", []string{"client/x,y"}, ""},
		{"7 client/2", []string{"client/7 client/2"}, ""}, // an id with a space, before two subjects
		{"client/1\nclient/1 1", []string{"client/1", "staff/1"}, ""},
		{"client/01", nil, "client/01"},
		{"nobody client/2", []string{"client/2"}, "nobody"},
	} {
		rec := w.get("./?" + url.Values{"q": {c.q}}.Encode())
		require.Equal(t, http.StatusOK, rec.Code, "%q: %s", c.q, w.said(rec))
		var found []string
		for _, m := range hrefs.FindAllStringSubmatch(rec.Body.String(), -1) {
			if to, err := url.Parse(html.UnescapeString(m[1])); err == nil && to.Path == "person" {
				found = append(found, to.Query().Get("s"))
			}
		}
		require.ElementsMatch(t, c.found, found, "%q", c.q)
		if c.missing != "" {
			require.Contains(t, rec.Body.String(), ">"+c.missing+"<", "%q", c.q)
		}
	}
	// Too many at once are refused, not half done.
	many := strings.Repeat("nobody ", 1001)
	require.Equal(t, http.StatusUnprocessableEntity, w.get("./?"+url.Values{"q": {many}}.Encode()).Code)
	require.Equal(t, http.StatusOK, w.get("./?q=%00").Code)
	require.Equal(t, http.StatusBadRequest, w.get("./?q=%zz").Code)
	require.Equal(t, http.StatusBadRequest, w.get("./?state=active").Code)
	require.Equal(t, http.StatusBadRequest, w.get("./?after=nothing").Code)
	require.Equal(t, http.StatusBadRequest, w.get(fmt.Sprintf("batches?after=%s", "x")).Code)
}
