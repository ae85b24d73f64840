package admin_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"slices"
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
			require.NoError(t, w.keys.Advance(context.Background())) // which the end of Run may have interrupted
			keystoretest.Check(t, w.keys)
		}
	})
	return w
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
