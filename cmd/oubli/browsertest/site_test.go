package browsertest

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/keystore"
)

// where is the path under which the applications of these tests mount the page.
const where = "/privacy/"

// Who can sign in, and what they may do.
var roles = map[string][]admin.Permission{
	"officer": {admin.View, admin.Reveal, admin.Anonymize, admin.Restrict, admin.Export},
	"clerk":   {admin.View},
	"nobody":  {},
}

// staff is somebody who is also a customer.
type staff struct {
	admin.Viewer
	self keystore.Subject
}

func (s staff) Self() keystore.Subject { return s.self }

// site is an application that has mounted the page.
type site struct {
	t      *testing.T
	origin string
	self   keystore.Subject // whoever is signed in
	log    lines
	page   atomic.Pointer[admin.Handler]
	asked  atomic.Int64 // requests for pages
}

// newSite starts an application, which has no page yet.
func newSite(t *testing.T) *site {
	s := &site{t: t}
	t.Cleanup(s.complain)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: r.FormValue("as"), Path: "/", HttpOnly: true})
		http.Redirect(w, r, where, http.StatusSeeOther)
	})
	mux.HandleFunc(where, func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		s.page.Load().ServeHTTP(w, r)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.origin = server.URL
	return s
}

// mount puts a page over an eraser into the application.
func (s *site) mount(e *anonymize.Eraser, columns admin.Columns) {
	page, err := admin.New(e, &admin.Options{
		Viewer:    s.viewer,
		Columns:   columns,
		Protected: []string{"employee"},
		Path:      where,
		PageSize:  12,
		Logger:    slog.New(slog.NewTextHandler(&s.log, nil)),
	})
	require.NoError(s.t, err)
	s.page.Store(page)
}

func (s *site) viewer(r *http.Request) (admin.Viewer, error) {
	c, err := r.Cookie("session")
	if err != nil {
		return nil, admin.ErrNobody
	}
	may, ok := roles[c.Value]
	if !ok {
		return nil, admin.ErrNobody
	}
	return staff{admin.ViewerFor(c.Value, may...), s.self}, nil
}

// signIn opens the page in a new tab.
func (s *site) signIn(as string) *tab {
	s.t.Helper()
	b := newTab(s.t, s.origin)
	require.Equal(s.t, http.StatusOK, b.open("/login?as="+as))
	return b
}

// lines is what was logged. It is safe for concurrent use.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) has(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), part)
}

// work lets an eraser work until the test ends, or until what is returned is called.
func work(t *testing.T, e *anonymize.Eraser) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	t.Cleanup(stop)
	for end := time.Now().Add(patience); !e.Working(); time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(end), "the eraser does not begin to work")
	}
	return stop
}

// complain tells what the page logged, if the test has failed.
func (s *site) complain() {
	if s.t.Failed() {
		s.log.mu.Lock()
		defer s.log.mu.Unlock()
		s.t.Logf("the page logged:\n%s", s.log.text.String())
	}
}
