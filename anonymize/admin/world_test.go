package admin_test

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
)

// client is a row of the application, with a text for an id, so that ids may be unusual.
type client struct {
	ID      string `oubli:",subject=client"`
	Name    string `oubli:"name,replace=Erased"`
	Email   string `oubli:"email"`
	Address string `oubli:"address,purpose=tax"`
	Privacy fieldcrypt.Status
	Country string `db:"country"`
}

// staff is who works there. They are protected.
type staff struct {
	ID      int64  `oubli:",subject=staff"`
	Name    string `oubli:"name"`
	Privacy fieldcrypt.Status
}

// table is a table of the application, of one row for each person.
type table[T any] struct {
	mu    sync.Mutex
	rows  map[string]T
	reads int
	fail  error // what reading fails with
}

func (t *table[T]) RowsOf(_ context.Context, s keystore.Subject) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.reads++
		if row, ok := t.rows[s.ID()]; ok || t.fail != nil {
			yield(row, t.fail)
		}
	}
}

func (t *table[T]) SaveFields(_ context.Context, row T, _ []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows[fmt.Sprint(any(row).(interface{ id() string }).id())] = row
	return nil
}

func (c client) id() string { return c.ID }
func (s staff) id() string  { return fmt.Sprint(s.ID) }

// officer is who looks at the page.
type officer struct {
	mu     sync.Mutex
	actor  string
	self   keystore.Subject
	none   map[admin.Permission][]string // permissions that are missing, with subjects; "*": on all
	asked  []admin.Permission
	broken error
	short  bool // answers for fewer than it is asked about
}

func (o *officer) Actor() string          { return o.actor }
func (o *officer) Self() keystore.Subject { return o.self }

func (o *officer) May(_ context.Context, p admin.Permission, subjects ...keystore.Subject) ([]bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, p)
	if o.broken != nil {
		return nil, o.broken
	}
	yes := make([]bool, len(subjects))
	for i, s := range subjects {
		yes[i] = !slices.Contains(o.none[p], s.String()) && !slices.Contains(o.none[p], "*")
	}
	if o.short {
		return yes[:0], nil
	}
	return yes, nil
}

// lacks takes permissions away.
func (o *officer) lacks(p admin.Permission, subjects ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.none == nil {
		o.none = map[admin.Permission][]string{}
	}
	o.none[p] = subjects
}

// data is what outlives processes.
type data struct {
	backend *fault.Backend
	roots   keystore.RootStore
	clients *table[client]
	staff   *table[staff]
}

// office is one process of the application, with its page.
type office struct {
	*data
	t       testing.TB
	keys    *keystore.Store
	eraser  *anonymize.Eraser
	clientT *anonymize.Table[client]
	clientC *fieldcrypt.Codec[client]
	staffC  *fieldcrypt.Codec[staff]
	page    *admin.Handler
	officer *officer
	log     *logbook
	o       admin.Options

	mu   sync.Mutex
	now  time.Duration // that the page's clock is ahead
	who  func(*http.Request) (admin.Viewer, error)
	stop func() // ends Run
}

// logbook is a log that can be read while it is written.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newData(t testing.TB) *data {
	d := &data{backend: fault.Wrap(memstore.New()), roots: memstore.NewRoots(),
		clients: &table[client]{rows: map[string]client{}}, staff: &table[staff]{rows: map[string]staff{}}}
	require.NoError(t, keystore.Create(context.Background(), d.backend, d.roots, &keystore.CreateOptions{Shards: 64, Grace: time.Hour}))
	return d
}

// start starts a process on the data.
func (d *data) start(t testing.TB, configure ...func(*admin.Options)) *office {
	t.Helper()
	w := &office{data: d, t: t, officer: &officer{actor: "officer-7"}, log: &logbook{}}
	var err error
	w.keys, err = keystore.Open(context.Background(), d.backend, d.roots, nil)
	require.NoError(t, err)
	w.eraser, err = anonymize.New(w.keys, &anonymize.Options{Interval: 20 * time.Millisecond, Backoff: time.Hour, Lease: 200 * time.Millisecond})
	require.NoError(t, err)
	w.clientC, err = fieldcrypt.NewCodec[client](w.keys, "clients", &fieldcrypt.Options{AllowAt: true})
	require.NoError(t, err)
	w.staffC, err = fieldcrypt.NewCodec[staff](w.keys, "staff", nil)
	require.NoError(t, err)
	w.clientT = anonymize.Register(w.eraser, w.clientC, d.clients)
	anonymize.Register(w.eraser, w.staffC, d.staff)
	columns, err := admin.TableColumns(w.clientT, "name", "country")
	require.NoError(t, err)
	w.o = admin.Options{
		Viewer:    func(r *http.Request) (admin.Viewer, error) { return w.viewer(r) },
		Columns:   columns,
		Texts:     keyed(),
		Protected: []string{"staff"},
		Path:      "/privacy/",
		Logger:    slog.New(slog.NewTextHandler(w.log, nil)),
		Clock:     func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return time.Now().Add(w.now) },
	}
	for _, f := range configure {
		f(&w.o)
	}
	w.page, err = admin.New(w.eraser, &w.o)
	require.NoError(t, err)
	t.Cleanup(func() {
		if w.stop != nil {
			w.stop()
		}
		if !d.backend.Died() {
			keystoretest.Check(t, w.keys)
		}
	})
	return w
}

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

func (w *office) viewer(r *http.Request) (admin.Viewer, error) {
	w.mu.Lock()
	who := w.who
	w.mu.Unlock()
	if who != nil {
		return who(r)
	}
	return w.officer, nil
}

// wait lets the page's clock go on.
func (w *office) wait(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now += d
}

// open starts a process with some clients.
func open(t testing.TB, clients ...string) *office {
	t.Helper()
	w := newData(t).start(t)
	w.add(clients...)
	return w
}

func (w *office) add(clients ...string) {
	w.t.Helper()
	for _, id := range clients {
		c, err := w.clientC.Seal(context.Background(), client{ID: id, Name: "Ada of " + id, Email: "ada@example.com", Address: "1 Main Street", Country: "NL"})
		require.NoError(w.t, err)
		w.clients.rows[id] = c
	}
}

func (w *office) addStaff(id int64) {
	w.t.Helper()
	s, err := w.staffC.Seal(context.Background(), staff{ID: id, Name: "Grace"})
	require.NoError(w.t, err)
	w.staff.rows[fmt.Sprint(id)] = s
}

// run starts the worker.
func (w *office) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.eraser.Run(ctx)
	}()
	w.stop = func() { cancel(); <-done }
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
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin"} {
		require.Equal(w.t, want, rec.Header().Get(name), "%s %s: %s", method, to, name)
	}
	require.Contains(w.t, rec.Header().Get("Content-Security-Policy"), "default-src 'none'")
	return rec
}

var hidden = regexp.MustCompile(`name="(batch|digest)"[^>]*value="([^"]*)"`)

// confirmed asks for the confirmation of an action and fills it in as the officer does.
func (w *office) confirmed(action string, subjects ...string) url.Values {
	w.t.Helper()
	form := url.Values{"action": {action}, "s": subjects}
	rec := w.post("confirm", form)
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
