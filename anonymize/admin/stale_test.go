package admin_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

func TestStaleConfirmation(t *testing.T) {
	ctx := context.Background()
	for name, happens := range map[string]func(w *office){
		"a hold": func(w *office) {
			_, err := w.keys.Restrict(ctx, &keystore.RestrictOptions{Hold: "a lawsuit"}, subj(w.t, "client/2"))
			require.NoError(w.t, err)
		},
		"a restriction that was released": func(w *office) {
			_, err := w.keys.Restrict(ctx, nil, subj(w.t, "client/2"))
			require.NoError(w.t, err)
			_, err = w.keys.Release(ctx, subj(w.t, "client/2"))
			require.NoError(w.t, err)
		},
		"a receiver": func(w *office) {
			w.eraser.PreAnonymize("client", "crm", func(context.Context, anonymize.Erasure) error { return nil })
		},
		"a receiver elsewhere": func(w *office) {
			require.NoError(w.t, w.keys.RecordReceivers(ctx, "client", "crm"))
		},
		"somebody else's request": func(w *office) { require.NoError(w.t, w.eraser.Request(ctx, subj(w.t, "client/2"))) },
		"somebody else's erasure": func(w *office) {
			_, err := w.eraser.Anonymize(ctx, subj(w.t, "client/2"))
			require.NoError(w.t, err)
		},
		"a withdrawn purpose": func(w *office) {
			_, err := w.keys.Withdraw(ctx, subj(w.t, "client/2"), "tax")
			require.NoError(w.t, err)
		},
		"a clock that was ahead": func(w *office) { w.wait(-10 * time.Minute) },
		"an hour":                func(w *office) { w.wait(time.Hour + time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, "1", "2", "3")
			old := w.confirmed("erase", "client/1", "client/2")
			happens(w)
			rec := w.refuses(http.StatusConflict, func() *httptest.ResponseRecorder { return w.post("act", old) })
			require.Contains(t, rec.Body.String(), "«confirm.stale»")
			require.Equal(t, keystore.StateActive, w.status("client/1").State)
			require.Contains(t, w.log.String(), "a stale confirmation")

			// The page shows what is so now, and can be confirmed.
			fresh := url.Values{"action": {"erase"}, "s": {"client/1", "client/2"}, "typed": {"2"}}
			for _, m := range hidden.FindAllStringSubmatch(rec.Body.String(), -1) {
				fresh.Set(m[1], m[2])
			}
			require.NotEqual(t, old.Get("batch"), fresh.Get("batch"))
			if w.status("client/2").State != keystore.StateActive {
				fresh.Set("typed", "1") // it is done to one of them only
			}
			rec = w.post("act", fresh)
			require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
			require.Equal(t, keystore.StateErasing, w.status("client/1").State)
		})
	}
}

func TestExportsAndNewRowsStaleNothing(t *testing.T) {
	w := open(t, "1", "2")
	old := w.confirmed("erase", "client/1")
	require.Equal(t, http.StatusOK, w.post("export", form("s", "client/1", "format", "json")).Code)
	w.add("1", "3")
	rec := w.post("act", old)
	require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
}

// A hold that comes between the last look and the request is the keystore's to refuse.
func TestHoldInTheLastMoment(t *testing.T) {
	w := open(t, "1", "2")
	real := w.confirmed("erase", "client/1", "client/2")
	w.backend.Before(func([]keystore.Group) { // before the batch is saved
		w.backend.Before(nil)
		_, err := w.keys.Restrict(context.Background(), &keystore.RestrictOptions{Hold: "a lawsuit"}, subj(t, "client/2"))
		require.NoError(t, err)
	})
	rec := w.post("act", real)
	require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
	batch := rec.Header().Get("Location")
	require.Equal(t, map[string]string{"client/1": "waiting", "client/2": "refused"}, w.steps(batch))
	require.Contains(t, w.get(batch).Body.String(), "a lawsuit")
	require.Equal(t, keystore.StateRestricted, w.status("client/2").State)
}
