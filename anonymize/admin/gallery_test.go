package admin

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var galleryDir = flag.String("gallery", "", "folder to write the gallery into, to look at")

// draw renders a view.
func draw(t testing.TB, r *renderer, v any) string {
	t.Helper()
	w := httptest.NewRecorder()
	require.NoError(t, r.page(w, 200, v))
	require.Equal(t, 200, w.Code, "the page was not drawn")
	return w.Body.String()
}

func newTestRenderer(t testing.TB, texts *Texts) *renderer {
	t.Helper()
	r, err := newRenderer(texts, func() time.Time { return now })
	require.NoError(t, err)
	return r
}

// element is what a page holds, for the checks.
type element struct {
	name  string
	attrs map[string]string
	text  string // of it and of what is in it, if it is worded
	path  []string
}

// Elements whose words are looked at.
var worded = strings.Fields("button a th caption legend summary title label script")

var voids = strings.Fields("area base br col embed hr img input link meta source track wbr")

// parsePage reads a page, and fails where an element is not closed, or closed in the wrong
// order: encoding/xml's raw tokens, with the void elements of HTML.
func parsePage(page string) (list []*element, texts []string, err error) {
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.Entity = false, xml.HTMLEntity
	var open []*element
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := &element{name: token.Name.Local, attrs: map[string]string{}}
			for _, o := range open {
				e.path = append(e.path, o.name)
			}
			for _, a := range token.Attr {
				name := a.Name.Local
				if a.Name.Space != "" {
					name = a.Name.Space + ":" + name
				}
				if _, twice := e.attrs[name]; twice {
					return nil, nil, fmt.Errorf("<%s> has %s twice", e.name, name)
				}
				e.attrs[name] = a.Value
			}
			list = append(list, e)
			if !slices.Contains(voids, e.name) {
				open = append(open, e)
			}
		case xml.EndElement:
			if slices.Contains(voids, token.Name.Local) { // of a self-closed one
				continue
			}
			if len(open) == 0 || open[len(open)-1].name != token.Name.Local {
				return nil, nil, fmt.Errorf("</%s> closes nothing, at byte %d", token.Name.Local, d.InputOffset())
			}
			open = open[:len(open)-1]
		case xml.CharData:
			texts = append(texts, string(token))
			for _, o := range open {
				if slices.Contains(worded, o.name) {
					o.text += string(token)
				}
			}
		}
	}
	if len(open) > 0 {
		return nil, nil, fmt.Errorf("<%s> is never closed", open[len(open)-1].name)
	}
	return list, texts, nil
}

// faults returns what is wrong with a page, whatever it shows.
func faults(page string) (list []string) {
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	elements, _, err := parsePage(page)
	if err != nil {
		return []string{err.Error()}
	}
	ids, count, labelled := map[string]bool{}, map[string]int{}, map[string]bool{}
	for _, e := range elements {
		count[e.name]++
		if id, ok := e.attrs["id"]; ok {
			if ids[id] {
				add("id %q stands twice", id)
			}
			ids[id] = true
		}
		if e.name == "label" {
			labelled[e.attrs["for"]] = strings.TrimSpace(e.text) != ""
		}
	}
	heading := 0
	for _, e := range elements {
		for name, value := range e.attrs {
			switch {
			case name == "style" || strings.HasPrefix(name, "on"):
				add("<%s> has an attribute %s", e.name, name)
			case slices.Contains([]string{"for", "aria-labelledby", "aria-describedby"}, name):
				for _, id := range strings.Fields(value) {
					if !ids[id] {
						add("%s=%q points at nothing", name, id)
					}
				}
			case slices.Contains([]string{"href", "src", "action", "formaction", "hx-get"}, name):
				switch {
				case regexp.MustCompile(`(?i)^([a-z]+:|//)`).MatchString(value):
					add("<%s> leads away, to %s", e.name, value)
				case strings.HasPrefix(value, "#") && !ids[value[1:]]:
					add("%s points at nothing", value)
				case strings.HasPrefix(value, "/"):
					add("%s is not relative", value)
				case value == "" && e.name != "use":
					add("<%s> has an empty %s", e.name, name)
				}
			}
		}
		switch e.name {
		case "style":
			add("there is a <style>")
		case "script":
			if e.attrs["src"] == "" || e.text != "" {
				add("there is a script in the page")
			}
		case "input":
			inLabel := slices.Contains(e.path, "label")
			if e.attrs["type"] != "hidden" && !inLabel && !labelled[e.attrs["id"]] && e.attrs["aria-label"] == "" {
				add("the input %q has no label", e.attrs["name"])
			}
		case "button", "a", "th", "caption", "legend", "summary", "title":
			if strings.TrimSpace(e.text) == "" {
				add("<%s> has no words", e.name)
			}
			if e.name == "title" && strings.Contains(e.text, "</bdi") {
				add("the title %s shows a tag", e.text)
			}
			if e.name == "th" && e.attrs["scope"] == "" {
				add("<th>%s has no scope", e.text)
			}
		case "form":
			if m := e.attrs["method"]; m != "get" && m != "post" {
				add("a form has the method %q", m)
			}
		case "h1", "h2", "h3", "h4":
			level := int(e.name[1] - '0')
			if level > heading+1 {
				add("<%s> follows <h%d>", e.name, heading)
			}
			heading = level
		case "svg":
			if e.attrs["aria-hidden"] != "true" {
				add("an image is neither hidden nor named")
			}
		}
	}
	for _, name := range []string{"h1", "main", "header", "footer", "title"} {
		if count[name] != 1 {
			add("there are %d <%s>", count[name], name)
		}
	}
	if count["table"] != count["caption"] {
		add("%d tables have %d captions", count["table"], count["caption"])
	}
	return list
}

func TestGallery(t *testing.T) {
	r := newTestRenderer(t, nil)
	for name, v := range gallery() {
		t.Run(name, func(t *testing.T) {
			page := draw(t, r, v)
			require.Empty(t, faults(page))
			for _, never := range []string{"ZgotmplZ", "anonym", "<script>alert", "<b>"} { // the first is how html/template refuses a value
				require.False(t, strings.Contains(strings.ToLower(page), strings.ToLower(never)), "the page says %s", never)
			}
		})
	}
	if *galleryDir != "" {
		writeGallery(t, r, "")
		writeGallery(t, newTestRenderer(t, &Texts{"html.lang": "ar", "html.dir": "rtl"}), "rtl-")
	}
}

// writeGallery writes the gallery with what belongs to it, for a browser.
func writeGallery(t *testing.T, r *renderer, prefix string) {
	t.Helper()
	dir := *galleryDir
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "static"), 0o755))
	for name, f := range r.files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "static", name), f.body, 0o644))
	}
	views := gallery()
	for _, name := range slices.Sorted(maps.Keys(views)) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, prefix+name+".html"), []byte(draw(t, r, views[name])), 0o644))
	}
}

func TestFaultsAreFound(t *testing.T) {
	whole := draw(t, newTestRenderer(t, nil), manyPeople(3, false))
	require.Empty(t, faults(whole))
	for name, change := range map[string][2]string{
		"unclosed":         {"</main>", ""},
		"crossed":          {"</h1>", "</h1></p>"},
		"a second h1":      {"</h1>", "</h1><h1>again</h1>"},
		"an id twice":      {`id="q-hint"`, `id="q"`},
		"a style":          {"<h1", `<h1 style="color:red"`},
		"a handler":        {"<h1", `<h1 onclick="x()"`},
		"a script":         {"</main>", "<script>x()</script></main>"},
		"another origin":   {"</main>", `<a href="https://example.org">x</a></main>`},
		"no label":         {`for="q"`, `for="main"`},
		"no scope":         {`<th scope="col">`, `<th>`},
		"a skipped level":  {"</main>", "<h3>x</h3></main>"},
		"a dead reference": {`aria-describedby="q-hint"`, `aria-describedby="nowhere"`},
		"a wordless link":  {"</main>", `<a href="./"></a></main>`},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, whole, change[0])
			require.NotEmpty(t, faults(strings.Replace(whole, change[0], change[1], 1)))
		})
	}
}
