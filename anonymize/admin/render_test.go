package admin

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"html/template"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

func TestPageSays500WhereThereIsNoTemplate(t *testing.T) {
	w := httptest.NewRecorder()
	require.ErrorContains(t, newTestRenderer(t, nil).page(w, 200, struct{ Secret string }{"Leonie"}), "no template")
	require.Equal(t, 500, w.Code)
	require.Contains(t, w.Body.String(), "Something went wrong")
	require.NotContains(t, w.Body.String(), "Leonie")
	require.Equal(t, strconv.Itoa(w.Body.Len()), w.Header().Get("Content-Length"))
	require.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
}

func TestViewsAndPointersToThemAreDrawnAlike(t *testing.T) {
	r := newTestRenderer(t, nil)
	for name, v := range gallery() {
		var value any
		switch v := v.(type) {
		case *peoplePage:
			value = *v
		case *personPage:
			value = *v
		case *confirmPage:
			value = *v
		case *batchPage:
			value = *v
		case *batchesPage:
			value = *v
		case *healthPage:
			value = *v
		case *errorPage:
			value = *v
		}
		require.Equal(t, draw(t, r, v), draw(t, r, value), name)
	}
}

func TestAssets(t *testing.T) {
	r := newTestRenderer(t, nil)
	get := func(target, name string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		require.True(t, r.asset(w, httptest.NewRequest("GET", target, nil), name))
		return w
	}
	page := draw(t, r, batchSample("working"))
	urls := regexp.MustCompile(`(?:href|src)="static/([^"?]+)\?v=([0-9a-f]+)"`).FindAllStringSubmatch(page, -1)
	require.Len(t, urls, 4, "icon, style, htmx and the script")
	for _, u := range urls {
		w := get("/static/"+u[1]+"?v="+u[2], u[1])
		require.Equal(t, "public, max-age=31536000, immutable", w.Header().Get("Cache-Control"))
		require.NotEmpty(t, w.Body.Bytes())
		require.NotContains(t, w.Header().Get("Content-Type"), "text/plain", u[1])
		require.Equal(t, "no-cache", get("/static/"+u[1]+"?v=0", u[1]).Header().Get("Cache-Control"), "an older page's")
	}
	for _, name := range []string{"", "nothing.css", "../render.go", "admin.css/"} {
		require.False(t, r.asset(httptest.NewRecorder(), httptest.NewRequest("GET", "/static/x", nil), name))
	}
}

func TestOnlyPagesThatChangeAskAgain(t *testing.T) {
	r := newTestRenderer(t, nil)
	for name, v := range gallery() {
		page, busy := draw(t, r, v), false
		switch v := v.(type) {
		case *batchPage:
			busy = v.Busy
		case *personPage:
			busy = v.Busy
		}
		for _, part := range []string{"hx-get=", "<noscript>", "htmx.min.js", `id="live"`} {
			require.Equal(t, busy, strings.Contains(page, part), "%s: %s", name, part)
		}
	}
	page := draw(t, r, batchSample("working"))
	require.Contains(t, page, `hx-get="batch?id=`)
	require.Regexp(t, `<noscript><p class="noprint"><a class="button" href="batch\?id=`, page)
	require.Contains(t, page, `"allowEval":false`)
	require.Contains(t, page, `"includeIndicatorStyles":false`)
	require.Contains(t, page, `"selfRequestsOnly":true`)
}

// The one place where HTML is written by hand: whatever comes in stands in the page as the
// same text, and makes no element.
func TestRowsShowWhatComesInAsText(t *testing.T) {
	r := newTestRenderer(t, nil)
	plain := manyPeople(1, false)
	_, shape := shapeOf(t, string(r.rows(plain)))
	for _, s := range append(slices.Clone(odd), `'"><&`, "&lt;b&gt;", "]]>", "<!--", "\x00", "javascript:alert(1)", `\`, "") {
		p := manyPeople(1, false)
		p.People[0].Subject, p.People[0].URL = s, "person?s="+s
		p.People[0].Values[0].Text, p.Columns[1].Name = s, s
		texts, tags := shapeOf(t, string(r.rows(p)))
		require.Equal(t, shape, tags, "%q", s)
		if s != "" {
			require.Equal(t, 3, strings.Count(strings.Join(texts, "\n"), html.UnescapeString(html.EscapeString(s))), "%q", s)
		}
		p.Columns[1].Name = "email"
	}
}

// shapeOf returns the texts of a piece of HTML, and the names of its elements with those
// of their attributes.
func shapeOf(t *testing.T, piece string) (texts, tags []string) {
	t.Helper()
	elements, texts, err := parsePage(strings.ReplaceAll(piece, "\x00", "\ufffd"))
	require.NoError(t, err)
	for i := range texts {
		texts[i] = strings.ReplaceAll(texts[i], "\ufffd", "\x00")
	}
	for _, e := range elements {
		attrs := slices.DeleteFunc(slices.Sorted(maps.Keys(e.attrs)), func(a string) bool { return a == "class" }) // a long text has one
		tags = append(tags, fmt.Sprint(e.name, attrs))
	}
	return texts, tags
}

func TestNothingOfAnErasedValueIsShown(t *testing.T) {
	r := newTestRenderer(t, nil)
	p := manyPeople(1, false)
	for _, v := range []Value{{Text: "Leonie", State: fieldcrypt.StatusErased}, {Text: "Leonie", State: fieldcrypt.StatusWithheld}, {Text: "Leonie", Masked: true, State: fieldcrypt.StatusOpen}} {
		p.People[0].Values[0] = v
		require.NotContains(t, draw(t, r, p), "Leonie")
		require.NotContains(t, string(r.field(field{Text: v.Text, State: v.State, Masked: v.Masked})), "Leonie")
	}
}

// A state shows by its word, by a class that colours it, and by a shape.
func TestEachStateHasWordColourAndShape(t *testing.T) {
	r := newTestRenderer(t, nil)
	seen := map[string]keystore.State{}
	for s := keystore.StateUnknown; s <= keystore.StateErased; s++ {
		b := string(r.badge(person{State: s}))
		require.Regexp(t, `^<span class="badge `+s.String()+`"><svg .*#i-`+s.String()+`"/></svg>[A-Z][a-z ]+</span>$`, b)
		require.NotContains(t, seen, b)
		seen[b] = s
	}
}

// colours reads the custom properties of a block of the stylesheet.
func colours(t *testing.T, block string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(block, -1) {
		found[m[1]] = m[2]
	}
	require.Greater(t, len(found), 20)
	return found
}

// contrast is WCAG 2's contrast ratio of two colours, written #rrggbb.
func contrast(a, b string) float64 {
	luminance := func(c string) float64 {
		sum := 0.0
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			n, _ := strconv.ParseUint(c[1+2*i:3+2*i], 16, 8)
			v := float64(n) / 255
			if v <= 0.04045 {
				v /= 12.92
			} else {
				v = math.Pow((v+0.055)/1.055, 2.4)
			}
			sum += weight * v
		}
		return sum
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// Text has WCAG's stricter contrast, 7:1; what shows that a thing can be used has 3:1.
func TestContrasts(t *testing.T) {
	require.InDelta(t, 21, contrast("#000000", "#ffffff"), 0.01)
	require.InDelta(t, 4.54, contrast("#767676", "#ffffff"), 0.01)
	css, err := os.ReadFile("static/admin.css")
	require.NoError(t, err)
	light, rest, ok := strings.Cut(string(css), "@media (prefers-color-scheme: dark)")
	require.True(t, ok)
	dark, _, ok := strings.Cut(rest, "/* Ground */")
	require.True(t, ok)
	for name, block := range map[string]string{"light": light, "dark": dark} {
		c := colours(t, block)
		for _, ground := range []string{"page", "sheet", "sunken", "accent-soft", "ok-soft", "warn-soft", "bad-soft", "off-soft"} {
			require.GreaterOrEqual(t, contrast(c["text"], c[ground]), 7.0, "%s: text on %s", name, ground)
		}
		pairs := [][2]string{{"on-accent", "accent"}, {"on-accent", "accent-hover"}, {"on-danger", "danger"}, {"on-danger", "danger-hover"}}
		for _, ground := range []string{"page", "sheet", "sunken", "accent-soft"} {
			pairs = append(pairs, [2]string{"muted", ground}, [2]string{"accent", ground}, [2]string{"accent-hover", ground}, [2]string{"off", ground})
		}
		pairs = append(pairs, [2]string{"bad", "sheet"})
		for _, state := range []string{"ok", "warn", "bad", "info", "off"} {
			pairs = append(pairs, [2]string{state, state + "-soft"}, [2]string{"accent", state + "-soft"})
		}
		for _, p := range pairs {
			require.GreaterOrEqual(t, contrast(c[p[0]], c[p[1]]), 7.0, "%s: %s on %s", name, p[0], p[1])
		}
		for _, ground := range []string{"page", "sheet", "sunken"} { // edges of what can be used
			require.GreaterOrEqual(t, contrast(c["edge"], c[ground]), 3.0, "%s: edge on %s", name, ground)
		}
	}
}

func TestStylesheetHasNoDirections(t *testing.T) {
	css, err := os.ReadFile("static/admin.css")
	require.NoError(t, err)
	bare := regexp.MustCompile(`(?s)/\*.*?\*/`).ReplaceAllString(string(css), "")
	require.NotRegexp(t, `\b(left|right)\b`, bare)
	require.NotRegexp(t, `url\(|@import|!important[^;}]*;[^}]*!important`, bare)
	for _, needed := range []string{"prefers-color-scheme: dark", "prefers-reduced-motion", "forced-colors: active", "@media print", ":focus-visible"} {
		require.Contains(t, bare, needed)
	}
}

func TestScriptsKeepToThePolicy(t *testing.T) {
	js, err := os.ReadFile("static/admin.js")
	require.NoError(t, err)
	require.NotRegexp(t, `\beval\b|\bFunction\(|innerHTML|\.style\b|https?://`, string(js))
}

func BenchmarkRenderPeople(b *testing.B) {
	r := newTestRenderer(b, nil)
	p := manyPeople(50, false)
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, r.page(&discard{header: http.Header{}}, 200, p))
	}
}

// discard is an answer that nobody reads.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// What a template fails with can quote a value, which the log must not have.
func TestWhatATemplateFailedWithIsNotLogged(t *testing.T) {
	page := template.Must(template.New("people").Parse("{{range .}}{{end}}"))
	err := page.Execute(&bytes.Buffer{}, struct{ Name string }{"Ada"})
	require.ErrorContains(t, err, "Ada")
	require.Equal(t, "template: people:1:8", undrawn(err))
	require.Equal(t, "*errors.errorString", undrawn(errors.New("Ada")))
}

// An erasure leaves NULL where nothing stands in the place of a value: that is not empty.
func TestNullOfAnErasedPersonIsErased(t *testing.T) {
	rows := [][]fieldcrypt.NamedValue{{
		{Name: "phone", Personal: true, State: fieldcrypt.StatusOpen}, {Name: "region", State: fieldcrypt.StatusOpen},
	}}
	for state, want := range map[keystore.State]fieldcrypt.Status{
		keystore.StateErased: fieldcrypt.StatusErased, keystore.StateActive: fieldcrypt.StatusOpen,
	} {
		doc := &anonymize.Document{State: state, Tables: []anonymize.TableData{{Table: "clients", Rows: rows}}}
		fields := opened(doc)[0].Rows[0]
		require.Equal(t, want, fields[0].State)
		require.Empty(t, fields[1].State)
		require.True(t, fields[1].Null)
	}
}
