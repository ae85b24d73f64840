package admin_test

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// linked lists whom a page has links to.
func linked(page string) []string {
	var found []string
	for _, m := range hrefs.FindAllStringSubmatch(page, -1) {
		if to, err := url.Parse(html.UnescapeString(m[1])); err == nil && to.Path == "person" {
			found = append(found, to.Query().Get("s"))
		}
	}
	return found
}

// next is the address of the next page, empty if there is none.
func next(page string) string {
	for _, m := range hrefs.FindAllStringSubmatch(page, -1) {
		if to := html.UnescapeString(m[1]); strings.Contains(to, "after=") {
			return to
		}
	}
	return ""
}

func TestPaging(t *testing.T) {
	w := newData(t).start(t, func(o *admin.Options) { o.PageSize = 7 })
	var all []string
	for i := range 30 {
		w.add(fmt.Sprint(i + 1))
		all = append(all, fmt.Sprintf("client/%d", i+1))
	}
	w.officer.lacks(admin.View, "client/3", "client/4")
	all = slices.DeleteFunc(all, func(s string) bool { return s == "client/3" || s == "client/4" })
	var found []string
	pages := 0
	for to := "./"; to != ""; pages++ {
		rec := w.get(to)
		require.Equal(t, http.StatusOK, rec.Code, w.said(rec))
		people := linked(rec.Body.String())
		require.LessOrEqual(t, len(people), 7)
		found = append(found, people...)
		to = next(rec.Body.String())
	}
	require.ElementsMatch(t, all, found)
	require.Equal(t, 5, pages)
}

func TestFilters(t *testing.T) {
	ctx := context.Background()
	w := open(t, "1", "2", "3", "4")
	_, err := w.eraser.Anonymize(ctx, subj(t, "client/1"))
	require.NoError(t, err)
	require.NoError(t, w.eraser.Request(ctx, subj(t, "client/2")))
	_, err = w.keys.Restrict(ctx, &keystore.RestrictOptions{Hold: "a lawsuit"}, subj(t, "client/3"))
	require.NoError(t, err)
	for state, want := range map[string][]string{"erased": {"client/1"}, "erasing": {"client/2"}, "restricted": {"client/3"},
		"": {"client/1", "client/2", "client/3", "client/4"}} {
		rec := w.get("./?state=" + state)
		require.Equal(t, http.StatusOK, rec.Code, w.said(rec))
		require.ElementsMatch(t, want, linked(rec.Body.String()), state)
	}
	body := w.get("./").Body.String()
	require.NotContains(t, body, "Ada of 1")
	require.Contains(t, body, "«value.erased»")
	require.Contains(t, body, "«value.withheld»", "restricted people are not read by who names no purpose")
	require.NotContains(t, body, "Ada of 3")
	require.Contains(t, body, "Ada of 4")
}

// A viewer reads of restricted people what the context of their request may read.
func TestPurposeOfTheViewer(t *testing.T) {
	w := open(t, "1")
	_, err := w.keys.Restrict(t.Context(), &keystore.RestrictOptions{Purposes: []string{"court"}}, subj(t, "client/1"))
	require.NoError(t, err)
	require.NotContains(t, w.get("person?s=client/1").Body.String(), "Ada of 1")
	rec := w.do(http.MethodGet, "person?s=client/1", nil, func(r *http.Request) { *r = *r.WithContext(keystore.WithPurpose(r.Context(), "court")) })
	require.Contains(t, rec.Body.String(), "Ada of 1")
}

// asked are Columns that note what they are asked for.
type asked struct {
	mu   sync.Mutex
	asks []admin.Ask
	rows func(a admin.Ask) []admin.Value
	err  error
	less bool
}

func (c *asked) Columns() []admin.Column {
	return []admin.Column{{Name: "name", Personal: true}, {Name: "country"}}
}

func (c *asked) Values(_ context.Context, asks []admin.Ask) ([][]admin.Value, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asks = append(c.asks, asks...)
	rows := make([][]admin.Value, len(asks))
	for i, a := range asks {
		rows[i] = c.rows(a)
	}
	if c.less {
		rows = rows[1:]
	}
	return rows, c.err
}

func TestMasks(t *testing.T) {
	// These show to everybody what they should not.
	columns := &asked{rows: func(a admin.Ask) []admin.Value {
		return []admin.Value{{Text: "Ada of " + a.Subject.ID(), State: fieldcrypt.StatusOpen}, {Text: "NL of " + a.Subject.ID()}}
	}}
	w := newData(t).start(t, func(o *admin.Options) { o.Columns = columns })
	w.add("1", "2", "3")
	_, err := w.eraser.Anonymize(t.Context(), subj(t, "client/3"))
	require.NoError(t, err)
	w.officer.lacks(admin.Reveal, "client/2", "client/3")
	w.officer.lacks(admin.View, "client/4")
	for _, to := range []string{"./", "./?q=1+2+3", "confirm?action=restrict&s=client/1&s=client/2&s=client/3"} {
		body := w.get(to).Body.String()
		require.Contains(t, body, "Ada of 1", to)
		require.NotContains(t, body, "Ada of 2", to)
		require.NotContains(t, body, "Ada of 3", to)
		require.Contains(t, body, "NL of 2", to)
		require.Contains(t, body, "«value.masked»", to)
		require.Contains(t, body, "«value.erased»", to)
	}
	for _, a := range columns.asks {
		require.Equal(t, a.Subject.ID() == "1", a.Reveal, a.Subject)
	}

	// The person's own page opens nothing either.
	body := w.get("person?s=client/2").Body.String()
	require.NotContains(t, body, "Ada")
	require.NotContains(t, body, "Main Street")
	require.Contains(t, body, "address")
	require.Contains(t, w.get("person?s=client/1").Body.String(), "Main Street")

	for name, spoil := range map[string]func(){
		"fails":          func() { columns.err = errors.New("ada@example.com") },
		"too few rows":   func() { columns.less = true },
		"too few values": func() { columns.rows = func(admin.Ask) []admin.Value { return []admin.Value{{Text: "Ada"}} } },
		"no row":         func() { columns.rows = func(admin.Ask) []admin.Value { return nil } },
	} {
		columns.err, columns.less = nil, false
		spoil()
		rec := w.get("./")
		require.Equal(t, http.StatusOK, rec.Code, name)
		require.Contains(t, rec.Body.String(), "client/1", name)
		require.NotContains(t, rec.Body.String(), "Ada", name)
	}
	require.NotContains(t, w.log.String(), "ada@example.com")
	columns.err = keystore.ErrUnavailable
	require.Equal(t, http.StatusServiceUnavailable, w.get("./").Code)
}

// nulls are columns in which nobody has anything.
type nulls struct{}

func (nulls) Columns() []admin.Column {
	return []admin.Column{{Name: "phone", Personal: true}, {Name: "region"}}
}

func (nulls) Values(_ context.Context, asks []admin.Ask) ([][]admin.Value, error) {
	return slices.Repeat([][]admin.Value{{{State: fieldcrypt.StatusOpen}, {}}}, len(asks)), nil
}

// Where an erasure leaves NULL, an erased person shows as erased, and others as they are.
func TestNullsInTheList(t *testing.T) {
	w := open(t, "1", "2")
	w.run()
	w.erase("client/1")
	w.until(keystore.StateErased, "client/1")
	w.o.Columns = nulls{}
	var err error
	w.page, err = admin.New(w.eraser, &w.o)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(w.get("?q=client/1").Body.String(), "«value.erased»"))
	require.NotContains(t, w.get("?q=client/2").Body.String(), "«value.erased»")
}

// What is not revealed is not opened: it takes no keystore.
func TestTableColumnsOpenNothingUnasked(t *testing.T) {
	w := open(t, "1", "2")
	c, err := admin.TableColumns(w.clientT, "country", "name")
	require.NoError(t, err)
	require.Equal(t, []admin.Column{{Name: "country"}, {Name: "name", Personal: true}}, c.Columns())
	ask := func(id string, reveal bool) admin.Ask {
		return admin.Ask{Subject: subj(t, "client/"+id), Reveal: reveal}
	}
	got, err := c.Values(t.Context(), []admin.Ask{ask("1", false), ask("2", true), ask("404", true), {Subject: subj(t, "staff/1")}})
	require.NoError(t, err)
	require.Equal(t, [][]admin.Value{
		{{Text: "NL"}, {Masked: true}},
		{{Text: "NL"}, {Text: "Ada of 2", State: fieldcrypt.StatusOpen}}, nil, nil}, got)
	w.goAway()
	require.NoError(t, w.keys.Close())
	got, err = c.Values(t.Context(), []admin.Ask{ask("1", false)})
	require.NoError(t, err)
	require.Equal(t, [][]admin.Value{{{Text: "NL"}, {Masked: true}}}, got)
	_, err = c.Values(t.Context(), []admin.Ask{ask("1", true)})
	require.Error(t, err)

	for _, names := range [][]string{nil, {"phone"}, {"name", ""}} {
		_, err := admin.TableColumns(w.clientT, names...)
		require.ErrorIs(t, err, keystore.ErrInvalid)
	}
	_, err = admin.TableColumns[client](nil, "name")
	require.ErrorIs(t, err, keystore.ErrInvalid)
}

func TestNothingTicked(t *testing.T) {
	w := open(t, "1", "2")
	for to, f := range map[string]url.Values{
		"confirm": form("action", "erase", "q", "client/1 & 2"), "export": form("format", "json", "state", "erasing"),
	} {
		rec := w.post(to, f)
		require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
		back := w.get(rec.Header().Get("Location"))
		require.Equal(t, http.StatusOK, back.Code)
		require.Contains(t, back.Body.String(), "«people.problem.none»")
	}
	rec := w.post("export", form("format", "csv", "s", "client/1", "s", "client/2"))
	require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
	require.Contains(t, w.get(rec.Header().Get("Location")).Body.String(), "people.problem.csv")
}

func TestOptions(t *testing.T) {
	w := open(t)
	viewer := func(*http.Request) (admin.Viewer, error) { return w.officer, nil }
	for name, o := range map[string]*admin.Options{
		"none": nil, "no viewer": {}, "path": {Viewer: viewer, Path: "privacy/"}, "path without end": {Viewer: viewer, Path: "/privacy"},
		"page": {Viewer: viewer, PageSize: 1001}, "kind": {Viewer: viewer, Protected: []string{"a/b"}},
	} {
		_, err := admin.New(w.eraser, o)
		require.ErrorIs(t, err, keystore.ErrInvalid, name)
	}
	_, err := admin.New(nil, &admin.Options{Viewer: viewer})
	require.ErrorIs(t, err, keystore.ErrInvalid)
	yes, err := admin.ViewerFor("tool", admin.View, admin.Export).May(t.Context(), admin.View, subj(t, "client/1"), subj(t, "client/2"))
	require.NoError(t, err)
	require.Equal(t, []bool{true, true}, yes)
	yes, err = admin.ViewerFor("tool", admin.View).May(t.Context(), admin.Reveal, subj(t, "client/1"))
	require.NoError(t, err)
	require.Equal(t, []bool{false}, yes)
}
