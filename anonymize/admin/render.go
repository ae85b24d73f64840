package admin

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"html/template"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	texttemplate "text/template" // whose errors html/template gives
	"time"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static/*.css static/*.js static/*.svg
var staticFiles embed.FS

// renderer draws views. It is safe for concurrent use.
type renderer struct {
	words  words
	clock  func() time.Time
	pages  map[string]*template.Template // by the name of their file, without its ending
	files  map[string]file
	badges map[literal]template.HTML // of the states, by their icon
	lists  *skeletons
	pool   sync.Pool // of *bytes.Buffer
}

// file is one static file.
type file struct {
	body []byte
	hash string // of body; in the URLs, so that a browser may keep the file for good
}

// newRenderer makes one. Texts may be nil: English. The error says what is wrong with them.
func newRenderer(texts *Texts, clock func() time.Time) (*renderer, error) {
	w, err := newWords(texts)
	if err != nil {
		return nil, err
	}
	t := &renderer{words: w, clock: clock, pages: map[string]*template.Template{}, files: map[string]file{}, lists: newSkeletons()}
	t.pool.New = func() any { return new(bytes.Buffer) }
	t.newBadges()
	if err := t.loadStatic(); err != nil {
		return nil, err
	}
	for _, name := range []string{"people", "person", "confirm", "batch", "batches", "health", "error"} {
		if t.pages[name], err = t.parse("layout", "parts", name); err != nil {
			return nil, fmt.Errorf("admin: template %s: %w", name, err)
		}
	}
	return t, nil
}

func (t *renderer) loadStatic() error {
	list, err := staticFiles.ReadDir("static")
	if err != nil {
		return err
	}
	for _, e := range list {
		body, err := staticFiles.ReadFile("static/" + e.Name())
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		t.files[e.Name()] = file{body, hex.EncodeToString(sum[:6])}
	}
	return nil
}

// What is the same on each page is put into a template when it is parsed: texts without
// arguments, and the URLs of static files, which are relative like all URLs of a page.
var fixed = regexp.MustCompile(`\{\{(t|asset) "([^"]+)"\}\}`)

func (t *renderer) parse(names ...string) (*template.Template, error) {
	set := template.New(names[0]).Option("missingkey=error").Funcs(t.funcs())
	for _, name := range names {
		src, err := templateFiles.ReadFile("templates/" + name + ".html")
		if err != nil {
			return nil, err
		}
		body := fixed.ReplaceAllStringFunc(string(src), func(m string) string {
			parts := fixed.FindStringSubmatch(m)
			s := t.words.get(parts[2])
			if parts[1] == "asset" {
				s = "static/" + parts[2] + "?v=" + t.files[parts[2]].hash
			}
			return strings.ReplaceAll(html.EscapeString(s), "{{", "&#123;&#123;")
		})
		if set, err = set.Parse(dropIndents(body)); err != nil {
			return nil, err
		}
	}
	return set, nil
}

var indents = regexp.MustCompile(`\n[\n\t]*`)

// dropIndents leaves out what only makes a template readable.
func dropIndents(s string) string { return indents.ReplaceAllString(s, "\n") }

// page answers with a view. It sets no header but Content-Type and Content-Length. What a
// template failed with, a mistake in here, is returned for the log: it may hold values that
// only the viewer may see, in the words of html/template, so log its type alone. The viewer
// gets an error page.
func (t *renderer) page(w http.ResponseWriter, status int, v any) error {
	buf := t.pool.Get().(*bytes.Buffer)
	defer t.pool.Put(buf)
	buf.Reset()
	failed := t.draw(buf, v)
	if failed != nil {
		status = http.StatusInternalServerError
		buf.Reset()
		if t.draw(buf, errorPage{Code: status, Text: "broken"}) != nil {
			buf.Reset()
		}
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(buf.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // the client may be gone
	return failed
}

// undrawn says of what a template failed with where it was, and not what: that may quote a
// value, as of what cannot be ranged over.
func undrawn(err error) string {
	where := fmt.Sprintf("%T", err)
	if errors.As(err, new(texttemplate.ExecError)) {
		where, _, _ = strings.Cut(err.Error(), ": executing")
	}
	return where
}

func (t *renderer) draw(buf *bytes.Buffer, v any) error {
	name := ""
	switch v := v.(type) {
	case peoplePage:
		return t.list(buf, &v)
	case *peoplePage:
		return t.list(buf, v)
	case personPage, *personPage:
		name = "person"
	case confirmPage, *confirmPage:
		name = "confirm"
	case batchPage, *batchPage:
		name = "batch"
	case batchesPage, *batchesPage:
		name = "batches"
	case healthPage, *healthPage:
		name = "health"
	case errorPage, *errorPage:
		name = "error"
	default:
		return fmt.Errorf("admin: there is no template for a %T", v)
	}
	return t.pages[name].Execute(buf, v)
}

// asset answers with a static file, or returns false where there is none of that name. A
// browser keeps for good what it asked for by its hash.
func (t *renderer) asset(w http.ResponseWriter, r *http.Request, name string) bool {
	f, ok := t.files[name]
	if !ok {
		return false
	}
	h := w.Header()
	switch path.Ext(name) { // not by the machine's own table, which may say otherwise
	case ".css":
		h.Set("Content-Type", "text/css; charset=utf-8")
	case ".js":
		h.Set("Content-Type", "text/javascript; charset=utf-8")
	case ".svg":
		h.Set("Content-Type", "image/svg+xml")
	default:
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
	h.Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == f.hash {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	h.Set("Etag", `"`+f.hash+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
	return true
}
