package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// TestForgedForms has an officer, who is signed in, press a button on somebody else's page,
// which sends just the form that the officer could have sent.
func TestForgedForms(t *testing.T) {
	s := openShop(t)
	b := openTab(t, s.site.origin)
	b.open("/login?as=officer")
	b.open(where + "confirm?action=erase&s=customer/12")
	b.fill(toType([]string{"12"}))
	var fields [][2]string
	form := eval[string](b, `JSON.stringify([...new FormData(document.querySelector("form[action=act]"))])`)
	require.NoError(t, json.Unmarshal([]byte(form), &fields))
	require.Contains(t, form, "digest")

	forged := `<!doctype html><title>Win</title><form method="post" action="` + s.site.origin + where + `act">`
	for _, f := range fields {
		forged += fmt.Sprintf(`<input type="hidden" name="%s" value="%s">`, html.EscapeString(f[0]), html.EscapeString(f[1]))
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if policy := r.FormValue("policy"); policy != "" {
			w.Header().Set("Referrer-Policy", policy)
		}
		fmt.Fprint(w, forged+`<button>You have won</button></form>`)
	}))
	t.Cleanup(elsewhere.Close)
	for _, at := range []string{
		elsewhere.URL,                         // the same site, so that the session's cookie is sent
		elsewhere.URL + "?policy=no-referrer", // without an Origin
		strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1), // another site
	} {
		b.goes(func(ctx context.Context) error { return chromedp.Do(ctx, navigate(at)) })
		asked := s.site.asked.Load()
		status := b.follow("button", "You have won")
		require.Contains(t, []int{http.StatusForbidden, http.StatusUnauthorized}, status, at)
		require.Equal(t, asked+1, s.site.asked.Load(), "the forged form did not arrive")
		require.Equal(t, keystore.StateActive, s.state(12), at)
	}
	require.True(t, s.site.log.has("refused: a form of another origin"))
	require.True(t, s.site.log.has("actor=officer"), "the session's cookie was not sent")
	batches, err := s.Keys.Batches(context.Background(), keystore.BatchID{}, 10)
	require.NoError(t, err)
	require.Empty(t, batches)

	// It is the origin alone that was wrong with it.
	b.open(where + "confirm?action=erase&s=customer/12")
	b.erase("12")
	b.until("erasure", func() bool { return s.state(12) == keystore.StateErased })
}

// TestFrames sees to it that nobody's page can show ours as a part of its own, for an officer
// to click on unawares.
func TestFrames(t *testing.T) {
	s := openShop(t)
	b := openTab(t, s.site.origin)
	b.open("/login?as=officer")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `<!doctype html><title>Frame</title><iframe title="Privacy" src="%s"></iframe>`, s.site.origin+where)
	}))
	t.Cleanup(elsewhere.Close)
	b.goes(func(ctx context.Context) error { return chromedp.Do(ctx, navigate(elsewhere.URL)) })
	b.until("refusal to be framed", func() bool { return strings.Contains(strings.Join(b.found(), "\n"), "frame-ancestors") })
}

// TestPlainHost uses the page under a host's name without TLS, as behind a proxy that ends
// it: a browser then says less about where a form is from.
func TestPlainHost(t *testing.T) {
	s := openShop(t)
	at, err := url.Parse(s.site.origin)
	require.NoError(t, err)
	b := openTab(t, "http://"+plainHost+":"+at.Port())
	b.open("/login?as=officer")
	b.open(where + "confirm?action=restrict&s=customer/12")
	require.Equal(t, http.StatusOK, b.follow("button", words("confirm.do.one.restrict")))
	require.Equal(t, keystore.StateRestricted, s.state(12))
	for _, p := range b.found() {
		require.Contains(t, p, "The Cross-Origin-Opener-Policy header has been ignored") // as it is without TLS
	}
}
