package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/cmd/oubli/internal/demo"
	"github.com/oubli/oubli/cmd/oubli/internal/loopback"
	"github.com/oubli/oubli/keystore"
)

// written is what is written by several at once.
type written struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// The page ends within seconds, without an error, though a receiver hangs that does not
// look at its context. What it held up goes on in the next run.
func TestServeEndsWithAStuckReceiver(t *testing.T) {
	dir := t.TempDir()
	o := &anonymize.Options{Worker: "test"}
	shop, err := demo.Open(t.Context(), dir, o)
	require.NoError(t, err)
	stuck, free := make(chan struct{}), make(chan struct{})
	shop.Customers.PreAnonymize("stuck", func(context.Context, anonymize.Erasure, demo.Customer) error {
		close(stuck)
		<-free
		return nil
	})
	var link, words written
	u := &ui{out: &link, err: &words}
	l, err := loopback.Listen("127.0.0.1:0")
	require.NoError(t, err)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	ended := make(chan error, 1)
	go func() {
		ended <- newApp(u).servePage(ctx, l, shop.Eraser, &serveOptions{actor: "test", permit: texts(permissions)}, &admin.Options{})
	}()
	require.Eventually(t, func() bool { return strings.HasSuffix(link.String(), "\n") }, 10*time.Second, time.Millisecond)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := &http.Client{Jar: jar}
	answer, err := browser.Get(strings.TrimSpace(link.String()))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.NoError(t, answer.Body.Close())

	who, err := keystore.NewSubject("customer", 1)
	require.NoError(t, err)
	require.NoError(t, shop.Eraser.Request(t.Context(), who))
	<-stuck
	began := time.Now()
	interrupt()
	require.NoError(t, <-ended)
	require.Less(t, time.Since(began), farewell+3*time.Second)
	require.Contains(t, words.String(), "goes on when this runs again")
	close(free)
	require.NoError(t, shop.Close())

	shop, err = demo.Open(t.Context(), dir, o)
	require.NoError(t, err)
	shop.Customers.PreAnonymize("stuck", func(context.Context, anonymize.Erasure, demo.Customer) error { return nil })
	results, err := shop.Eraser.Anonymize(t.Context(), who)
	require.NoError(t, err)
	require.Equal(t, "erased", results[0].State)
	require.NoError(t, shop.Close())
}

// A worker that cannot work ends the page, which would show erasures that nobody does.
func TestServeEndsWithItsWorker(t *testing.T) {
	shop, err := demo.Open(t.Context(), t.TempDir(), nil)
	require.NoError(t, err)
	l, err := loopback.Listen("127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, shop.Close())
	u := &ui{out: &written{}, err: &written{}}
	err = newApp(u).servePage(t.Context(), l, shop.Eraser, &serveOptions{actor: "test", permit: texts(permissions)}, &admin.Options{})
	require.ErrorIs(t, err, keystore.ErrClosed)
}
