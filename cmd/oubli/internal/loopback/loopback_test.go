package loopback

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

func TestListensOnLoopbackAlone(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "localhost:0", "127.3.2.1:0"} {
		l, err := Listen(address)
		require.NoError(t, err, address)
		require.True(t, l.Addr().(*net.TCPAddr).IP.IsLoopback())
		require.NoError(t, l.Close())
	}
	for _, address := range []string{
		"", ":8470", "0.0.0.0:8470", "[::]:8470", "192.168.1.2:8470", "example.org:8470", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000", "127.0.0.1.:0", "169.254.1.1:0",
	} {
		_, err := Listen(address)
		require.ErrorIs(t, err, keystore.ErrInvalid, address)
	}
	l, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, err = Listen(l.Addr().String())
	require.ErrorContains(t, err, "address already in use")
	require.NotErrorIs(t, err, keystore.ErrInvalid)
}

// words is what a logger has written.
type words struct {
	mu sync.Mutex
	b  strings.Builder
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// house is a page behind a door.
type house struct {
	*Door
	words words
}

func newHouse(t *testing.T, at string) *house {
	h := &house{}
	addr, err := net.ResolveTCPAddr("tcp", at)
	require.NoError(t, err)
	inside := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "inside "+r.URL.Path) })
	h.Door, err = NewDoor(addr, inside, slog.New(slog.NewTextHandler(&h.words, nil)))
	require.NoError(t, err)
	return h
}

// ask sends a request, and returns the answer and its body.
func (h *house) ask(method, target string, cookies ...*http.Cookie) (*http.Response, string) {
	r := httptest.NewRequest(method, target, nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), w.Body.String()
}

func TestTheLinkWorksOnce(t *testing.T) {
	h := newHouse(t, "127.0.0.1:8470")
	require.Regexp(t, `^http://127\.0\.0\.1:8470/[A-Za-z0-9_-]{43}/enter\?key=[A-Za-z0-9_-]{43}$`, h.Link())
	room := "http://127.0.0.1:8470" + h.room

	for _, at := range []string{room, room + "person", room + "static/x.css", room + "enterprise", "http://127.0.0.1:8470/", "http://127.0.0.1:8470/enter"} {
		answer, body := h.ask("GET", at)
		require.Equal(t, http.StatusForbidden, answer.StatusCode)
		require.Contains(t, body, "link that the terminal shows")
		require.NotContains(t, body, "inside")
		require.Empty(t, answer.Cookies())
		require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
		require.Contains(t, answer.Header.Get("Content-Security-Policy"), "default-src 'none'")
	}
	wrong := h.Link()[:len(h.Link())-1]
	for _, link := range []string{wrong, h.Link() + "A", room + "enter", room + "enter?key="} {
		answer, body := h.ask("GET", link)
		require.Equal(t, http.StatusForbidden, answer.StatusCode)
		require.Contains(t, body, "not the one")
		require.Empty(t, answer.Cookies())
	}
	for _, method := range []string{"HEAD", "POST"} { // what looks ahead does not burn it
		answer, _ := h.ask(method, h.Link())
		require.Equal(t, http.StatusMethodNotAllowed, answer.StatusCode)
	}

	answer, _ := h.ask("GET", h.Link())
	require.Equal(t, http.StatusSeeOther, answer.StatusCode)
	require.Equal(t, h.room, answer.Header.Get("Location"))
	require.Len(t, answer.Cookies(), 1)
	c := answer.Cookies()[0]
	require.True(t, c.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, c.SameSite)
	require.Equal(t, h.room, c.Path, "another server on this host would be sent it")
	require.Empty(t, c.Domain)
	require.NotContains(t, h.Link(), c.Value, "the link's key is not the session's")

	answer, body := h.ask("GET", "http://localhost:8470"+h.room+"person?s=a", c)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, "inside /person", body)
	answer, _ = h.ask("GET", "http://localhost:8470/person?s=a", c)
	require.Equal(t, http.StatusForbidden, answer.StatusCode)

	// Somebody else with the link stays outside. The same browser, going back, does not.
	answer, body = h.ask("GET", h.Link())
	require.Equal(t, http.StatusForbidden, answer.StatusCode)
	require.Contains(t, body, "has been used")
	require.Empty(t, answer.Cookies())
	answer, _ = h.ask("GET", h.Link(), c)
	require.Equal(t, http.StatusSeeOther, answer.StatusCode)

	require.Contains(t, h.words.String(), "with a wrong link")
	require.Contains(t, h.words.String(), "used before")
	key, err := url.Parse(h.Link())
	require.NoError(t, err)
	require.NotContains(t, h.words.String(), key.Query().Get("key"))
	require.NotContains(t, h.words.String(), wrong)
	require.NotContains(t, h.words.String(), c.Value)
}

// Of many who have the link at once, one gets in.
func TestTheLinkWorksOnceForMany(t *testing.T) {
	h := newHouse(t, "127.0.0.1:8470")
	in := make(chan int, 20)
	for range cap(in) {
		go func() {
			answer, _ := h.ask("GET", h.Link())
			in <- len(answer.Cookies())
		}()
	}
	n := 0
	for range cap(in) {
		n += <-in
	}
	require.Equal(t, 1, n)
}

func TestAnotherCookieOpensNothing(t *testing.T) {
	h, other := newHouse(t, "127.0.0.1:8470"), newHouse(t, "127.0.0.1:8471")
	answer, _ := other.ask("GET", other.Link())
	theirs := answer.Cookies()[0]
	require.NotEqual(t, h.name, theirs.Name, "cookies do not know ports")
	answer, _ = h.ask("GET", "http://127.0.0.1:8470"+h.room, theirs, &http.Cookie{Name: h.name, Value: theirs.Value}, &http.Cookie{Name: h.name})
	require.Equal(t, http.StatusForbidden, answer.StatusCode)
}

// A name of somebody else's may lead here (DNS rebinding), cookie or not.
func TestItAnswersUnderItsOwnNames(t *testing.T) {
	h := newHouse(t, "127.0.0.1:8470")
	answer, _ := h.ask("GET", h.Link())
	c := answer.Cookies()[0]
	for _, host := range []string{"127.0.0.1:8470", "localhost:8470", "[::1]:8470"} {
		answer, _ := h.ask("GET", "http://"+host+h.room, c)
		require.Equal(t, http.StatusOK, answer.StatusCode, host)
	}
	for _, host := range []string{"evil.example:8470", "127.0.0.1", "127.0.0.1:80", "localhost", "localhost:8471", "localhost.evil.example:8470", "127.0.0.2:8470", "localhost.:8470", "LOCALHOST:8470"} {
		answer, body := h.ask("GET", "http://"+host+h.room, c)
		require.Equal(t, http.StatusMisdirectedRequest, answer.StatusCode, host)
		require.NotContains(t, body, "inside")
		answer, _ = h.ask("GET", "http://"+host+h.room+"enter?"+strings.SplitN(h.Link(), "?", 2)[1])
		require.Equal(t, http.StatusMisdirectedRequest, answer.StatusCode, host)
		require.Empty(t, answer.Cookies())
	}
	h = newHouse(t, "127.0.0.1:80")
	for _, host := range []string{"127.0.0.1", "localhost:80", "[::1]"} {
		answer, _ := h.ask("GET", "http://"+host+"/")
		require.Equal(t, http.StatusForbidden, answer.StatusCode, host)
	}
	h = newHouse(t, "[::1]:8470")
	require.Contains(t, h.Link(), "http://[::1]:8470"+h.room+"enter?")
}

// The whole of it, with a browser's jar: it ends soon, whatever hangs on it.
func TestServeEndsSoon(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	l, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	logger := slog.New(slog.DiscardHandler)
	slow, cut := make(chan struct{}), make(chan struct{})
	door, err := NewDoor(l.Addr(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/slow" {
			io.WriteString(w, "inside")
			return
		}
		close(slow)
		<-r.Context().Done()
		close(cut)
	}), logger)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, door, logger) }()

	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := &http.Client{Jar: jar, Timeout: time.Minute}
	answer, err := browser.Get(door.Link())
	require.NoError(t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, "inside", string(body))
	go func() { // an answer that does not come
		answer, err := browser.Get("http://" + l.Addr().String() + door.room + "slow")
		if err == nil {
			answer.Body.Close()
		}
	}()
	<-slow
	silent, err := net.Dial("tcp", l.Addr().String()) // a connection without a request
	require.NoError(t, err)
	defer silent.Close()

	began := time.Now()
	stop()
	require.NoError(t, <-ended)
	require.Less(t, time.Since(began), patience+2*time.Second)
	<-cut
	_, err = net.Dial("tcp", l.Addr().String())
	require.Error(t, err)
}
