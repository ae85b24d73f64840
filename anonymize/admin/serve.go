package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/internal/panics"
	"github.com/oubli/oubli/keystore"
)

const (
	maxBody   = 1 << 20 // bytes of a form: 1000 of the longest subjects fit
	maxFields = 200     // values of a form beside its subjects
)

// request is one request on its way through the Handler.
type request struct {
	*Handler
	w      http.ResponseWriter
	r      *http.Request
	ctx    context.Context // with the actor
	form   url.Values      // of the body of a POST, of the address of a GET
	viewer Viewer
	actor  string
}

// answer is an error page in place of the page that was asked for.
type answer struct {
	code   int
	text   string // as errorPage.Text
	detail string
	back   string
	err    error // for the log; nil: nothing is logged
}

func (a *answer) Error() string { return fmt.Sprintf("%d %s %s", a.code, a.text, a.detail) }

// bad is the answer to what no page of ours sends.
func bad(detail string) error {
	return &answer{code: http.StatusBadRequest, text: "badrequest", detail: detail}
}

// route is what answers under one name below the path.
type route struct {
	get, post func(*request) error
}

func routes() map[string]route {
	return map[string]route{
		"":        {get: (*request).people},
		"person":  {get: (*request).person},
		"confirm": {get: (*request).confirm, post: (*request).confirm},
		"act":     {post: (*request).act},
		"batch":   {get: (*request).batch, post: (*request).goOn},
		"batches": {get: (*request).batches},
		"health":  {get: (*request).health},
		"export":  {post: (*request).export},
	}
}

// ServeHTTP answers a request below Options.Path.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	q := &request{Handler: h, w: w, r: r, ctx: r.Context()}
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler {
			panic(v)
		}
		// Neither page nor log get the panic's value: it may hold personal data.
		h.o.Logger.Error("a page panicked", "path", r.URL.Path, "actor", q.actor, "type", fmt.Sprintf("%T", v), "at", panics.Origin())
		q.show(http.StatusInternalServerError, &errorPage{Code: http.StatusInternalServerError, Text: "broken"})
	}()
	if err := q.serve(); err != nil {
		q.fail(err)
	}
}

// protect sets what every answer has, the refused ones too.
func protect(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	// Subjects stand in addresses, which no other origin is told. With no-referrer a browser
	// would not tell us either where a form is from.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

func (q *request) serve() error {
	name, ok := strings.CutPrefix(q.r.URL.Path, q.o.Path)
	if !ok {
		return &answer{code: http.StatusNotFound, text: "notfound"}
	}
	if file, ok := strings.CutPrefix(name, "static/"); ok {
		return q.static(file)
	}
	route, ok := q.routes[name]
	if !ok {
		return &answer{code: http.StatusNotFound, text: "notfound"}
	}
	f := route.get
	if q.r.Method == http.MethodPost {
		f = route.post
	} else if q.r.Method != http.MethodGet && q.r.Method != http.MethodHead {
		f = nil
	}
	if f == nil {
		return q.notAllowed(route.get != nil, route.post != nil)
	}
	q.r.Body = http.MaxBytesReader(q.w, q.r.Body, maxBody) // for a Viewer that reads the form, too
	if err := q.identify(); err != nil {
		return err
	}
	if err := q.sameOrigin(); err != nil {
		return err
	}
	if err := q.parse(); err != nil {
		return err
	}
	return f(q)
}

func (q *request) notAllowed(get, post bool) error {
	var allow []string
	if get {
		allow = append(allow, http.MethodGet, http.MethodHead)
	}
	if post {
		allow = append(allow, http.MethodPost)
	}
	q.w.Header().Set("Allow", strings.Join(allow, ", "))
	return &answer{code: http.StatusMethodNotAllowed, text: "method"}
}

// static answers with a file that is the same for everybody, so nobody needs to be known.
func (q *request) static(name string) error {
	if q.r.Method != http.MethodGet && q.r.Method != http.MethodHead {
		return q.notAllowed(true, false)
	}
	if !q.renderer.asset(q.w, q.r, name) {
		return &answer{code: http.StatusNotFound, text: "notfound"}
	}
	return nil
}

// parse reads the form, within bounds.
func (q *request) parse() error {
	if q.r.Method == http.MethodPost {
		kind, _, _ := strings.Cut(q.r.Header.Get("Content-Type"), ";")
		if !strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded") {
			return bad("")
		}
	}
	if err := q.r.ParseForm(); err != nil {
		if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
			return &answer{code: http.StatusRequestEntityTooLarge, text: "toolarge"}
		}
		return bad("")
	}
	q.form = q.r.Form
	if q.r.Method == http.MethodPost {
		q.form = q.r.PostForm // what stands in the address of a POST counts for nothing
	}
	fields := 0
	for name, values := range q.form {
		if name != "s" {
			fields += len(values)
		}
	}
	if fields > maxFields {
		return bad("")
	}
	return nil
}

// sameOrigin refuses a POST of another origin, and one that does not say where it is from:
// every browser of today does.
func (q *request) sameOrigin() error {
	if q.r.Method != http.MethodPost {
		return nil
	}
	site, from := q.r.Header.Get("Sec-Fetch-Site"), q.r.Header.Get("Origin")
	err := q.origin.Check(q.r)
	if err == nil && (site != "" || from != "") {
		return nil
	}
	q.o.Logger.Warn("refused: a form of another origin", "actor", q.actor, "path", q.r.URL.Path, "site", site, "origin", from)
	return &answer{code: http.StatusForbidden, text: "crossorigin"}
}

// fail answers with an error page. What failed is never taken for an answer about a person.
func (q *request) fail(err error) {
	a := (*answer)(nil)
	if !errors.As(err, &a) {
		a = answerTo(err)
	}
	if a.err != nil {
		q.o.Logger.Error("a page failed", "actor", q.actor, "path", q.r.URL.Path, "status", a.code, "error", logged(a.err))
	}
	if strings.Contains(strings.TrimPrefix(q.r.URL.Path, q.o.Path), "/") {
		// Where the links of a page would lead nowhere.
		q.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		q.w.WriteHeader(a.code)
		fmt.Fprintln(q.w, a.code)
		return
	}
	q.show(a.code, &errorPage{Code: a.code, Text: a.text, Detail: a.detail, Back: a.back})
}

// answerTo tells what an error of the keystore, the tables or the application comes to.
func answerTo(err error) *answer {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
	}
	callback := (*anonymize.CallbackError)(nil)
	switch {
	case errors.As(err, &callback):
		return &answer{code: http.StatusInternalServerError, text: "tables", err: err}
	case is(keystore.ErrUnavailable, keystore.ErrClosed, keystore.ErrReadOnly, keystore.ErrBehind, keystore.ErrMismatch, keystore.ErrConflict,
		context.Canceled, context.DeadlineExceeded):
		return &answer{code: http.StatusServiceUnavailable, text: "unavailable", err: err}
	case is(keystore.ErrInvalid):
		return &answer{code: http.StatusBadRequest, text: "badrequest", err: err}
	case is(keystore.ErrNotFound, keystore.ErrUnknownSubject):
		return &answer{code: http.StatusNotFound, text: "notfound"}
	}
	return &answer{code: http.StatusInternalServerError, text: "broken", err: err}
}

// show draws a page.
func (q *request) show(code int, view any) {
	switch v := view.(type) {
	case *peoplePage:
		q.frame(&v.frame, "people")
	case *personPage:
		q.frame(&v.frame, "people")
	case *confirmPage:
		q.frame(&v.frame, "people")
	case *batchPage:
		q.frame(&v.frame, "batches")
	case *batchesPage:
		q.frame(&v.frame, "batches")
	case *healthPage:
		q.frame(&v.frame, "health")
	case *errorPage:
		q.frame(&v.frame, "")
	}
	if err := q.renderer.page(q.w, code, view); err != nil {
		q.o.Logger.Error("a page could not be drawn", "actor", q.actor, "path", q.r.URL.Path, "error", undrawn(err))
	}
}

// frame fills in what every page has.
func (q *request) frame(f *frame, here string) {
	f.Here, f.Actor, f.Idle = here, q.actor, !q.eraser.Working()
	if n := q.form.Get("note"); slices.Contains(notices, n) {
		f.Notice = n
	}
}

// redirect goes to another of our pages: to is one of the addresses made by link.
func (q *request) redirect(to string) {
	q.w.Header().Set("Location", to) // http.Redirect would put the path as we see it before it
	q.w.WriteHeader(http.StatusSeeOther)
}
