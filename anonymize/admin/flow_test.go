package admin_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

func TestOfficerErasesThree(t *testing.T) {
	w := open(t, "1", "2", "3", "4")
	var fails atomic.Bool
	fails.Store(true)
	w.eraser.PreAnonymize("client", "crm", func(_ context.Context, e anonymize.Erasure) error {
		if e.Subject.ID() == "2" && fails.Load() {
			return errors.New("the crm does not answer")
		}
		return nil
	})
	w.run()

	list := w.get("./")
	require.Equal(t, http.StatusOK, list.Code, w.said(list))
	require.Contains(t, list.Body.String(), "Ada of 1")

	to := w.erase("client/1", "client/2", "client/3")
	w.until(keystore.StateErased, "client/1", "client/3")
	require.Eventually(t, func() bool { return w.eraser.Attempt(subj(t, "client/2")).Err != nil }, 10*time.Second, 5*time.Millisecond)
	batch := w.get(to)
	require.Equal(t, http.StatusOK, batch.Code, w.said(batch))
	require.Contains(t, batch.Body.String(), "the crm does not answer")
	require.Equal(t, keystore.StateErasing, w.status("client/2").State)
	require.Equal(t, "officer-7", w.status("client/2").Journal.Actor)

	fails.Store(false)
	id := to[len("batch?id="):]
	again := w.post("batch", form("id", id, "action", "retry"))
	require.Equal(t, http.StatusSeeOther, again.Code, w.said(again))
	w.until(keystore.StateErased, "client/2")
	require.Equal(t, keystore.StateActive, w.status("client/4").State)
	require.Contains(t, w.get("./").Body.String(), "client/2")
	require.NotContains(t, w.get("./").Body.String(), "Ada of 2")
}

// The confirmation has an address of its own, so that it is there again for who comes back
// to it, unless that would be too long, or tell a hold's reason.
func TestConfirmationHasAnAddress(t *testing.T) {
	w := open(t, "1", "2")
	rec := w.post("confirm", form("action", "erase", "s", "client/1", "s", "client/2", "keep", "tax", "q", "a&b", "typed", "2"))
	require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
	require.Equal(t, "confirm?action=erase&keep=tax&q=a%26b&s=client%2F1&s=client%2F2", rec.Header().Get("Location"))
	require.Equal(t, http.StatusOK, w.get(rec.Header().Get("Location")).Code)
	rec = w.post("confirm", form("action", "restrict", "s", "client/1", "hold", "a lawsuit"))
	require.Equal(t, http.StatusOK, rec.Code, w.said(rec))
	require.Contains(t, rec.Body.String(), `value="a lawsuit"`)
}
