package admin_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

func TestCancelWhileAReceiverIsCalled(t *testing.T) {
	w := open(t, "1", "2")
	arrived, release := blocked(w, "crm")
	w.run()
	batch := w.erase("client/1")
	<-arrived
	require.Equal(t, map[string]string{"client/1": "working"}, w.steps(batch))
	rec := w.post("batch", form("id", batch[len("batch?id="):], "action", "cancel"))
	require.Equal(t, batch+"&note=cancelled", rec.Header().Get("Location"), w.said(rec))
	require.Equal(t, keystore.StateActive, w.status("client/1").State)
	require.Contains(t, w.get("person?s=client/1").Body.String(), "Ada of 1")
	close(release)
	require.Equal(t, map[string]string{"client/1": "cancelled"}, w.steps(batch))
}

// Once the first row may be blank there is no way back: nothing is cancelled, and the
// others of the batch are.
func TestCancelAfterBlankingBegan(t *testing.T) {
	w := open(t, "1", "2")
	batch := w.erase("client/1", "client/2")
	require.NoError(t, w.keys.BeginBlanking(context.Background(), subj(t, "client/1")))
	rec := w.post("batch", form("id", batch[len("batch?id="):], "action", "cancel", "s", "client/1"))
	require.Equal(t, batch+"&note=toolate", rec.Header().Get("Location"), w.said(rec))
	require.Equal(t, keystore.StateErasing, w.status("client/1").State)
	require.Equal(t, "requested ", kinds(w.status("client/1")))
	body := w.get(batch).Body.String()
	require.Contains(t, body, "client/1")

	rec = w.post("batch", form("id", batch[len("batch?id="):], "action", "cancel", "s", "client/1", "s", "client/2"))
	require.Equal(t, batch+"&note=toolate", rec.Header().Get("Location"), w.said(rec))
	require.Contains(t, w.get(rec.Header().Get("Location")).Body.String(), "«notice.toolate»")
	require.Equal(t, keystore.StateErasing, w.status("client/1").State)
	require.Equal(t, keystore.StateActive, w.status("client/2").State)
	w.run()
	w.until(keystore.StateErased, "client/1")
	require.Equal(t, map[string]string{"client/1": "done", "client/2": "cancelled"}, w.steps(batch))
	rec = w.post("batch", form("id", batch[len("batch?id="):], "action", "cancel"))
	require.Equal(t, batch+"&note=nothing", rec.Header().Get("Location"), w.said(rec))
	require.Equal(t, keystore.StateErased, w.status("client/1").State)
}

// What a receiver fails with may name personal values: who may not see those learns where
// it failed, and nobody's log more than that.
func TestTroubleIsForThoseWhoMaySeeIt(t *testing.T) {
	w := open(t, "1", "2")
	w.eraser.PreAnonymize("client", "billing", func(context.Context, anonymize.Erasure) error { return nil })
	w.eraser.PreAnonymize("client", "crm", func(_ context.Context, e anonymize.Erasure) error {
		if e.Subject.ID() == "2" {
			return nil
		}
		return errors.New("no contact for ada@example.com")
	})
	w.run()
	batch := w.erase("client/1", "client/2")
	w.until(keystore.StateErased, "client/2")
	require.Eventually(t, func() bool { return w.eraser.Attempt(subj(t, "client/1")).Err != nil }, 5*time.Second, time.Millisecond)
	require.Equal(t, map[string]string{"client/1": "failed", "client/2": "done"}, w.steps(batch))
	for _, to := range []string{batch, "person?s=client/1"} {
		body := w.get(to).Body.String()
		require.Contains(t, body, "no contact for ada@example.com", to)
		require.Contains(t, body, "crm", to)
	}
	w.officer.lacks("reveal", "client/1")
	for _, to := range []string{batch, "person?s=client/1"} {
		body := w.get(to).Body.String()
		require.NotContains(t, body, "ada@example.com", to)
		require.Contains(t, body, "crm", to)
		require.Contains(t, body, "errors.errorString", to)
	}
	require.NotContains(t, w.log.String(), "ada@example.com")

	// Another process knows what the keystore does: which receivers are done.
	other := w.start(t)
	require.Equal(t, map[string]string{"client/1": "waiting", "client/2": "done"}, other.steps(batch))
	body := other.get(batch).Body.String()
	require.Contains(t, body, "billing")
	require.NotContains(t, body, "ada@example.com")
}

// An erasure that waits for a receiver of another process says so.
func TestMissingReceiver(t *testing.T) {
	w := open(t, "1")
	require.NoError(t, w.keys.RecordReceivers(context.Background(), "client", "mailing list"))
	page := w.get("confirm?action=erase&s=client/1").Body.String()
	require.Contains(t, page, "mailing list")
	w.run()
	batch := w.erase("client/1")
	require.Eventually(t, func() bool { return w.eraser.Attempt(subj(t, "client/1")).Err != nil }, 5*time.Second, time.Millisecond)
	require.Equal(t, map[string]string{"client/1": "failed"}, w.steps(batch))
	require.Regexp(t, "(?s)mailing list.{0,60}«call.missing»", w.get(batch).Body.String())
	require.Equal(t, keystore.StateErasing, w.status("client/1").State)
}

// Somebody whom another worker is at is not waiting.
func TestClaimedElsewhere(t *testing.T) {
	w := open(t, "1")
	batch := w.erase("client/1")
	require.NoError(t, w.keys.Claim(context.Background(), subj(t, "client/1"), "worker-of-another-host", time.Minute))
	require.Equal(t, map[string]string{"client/1": "working"}, w.steps(batch))
	require.Contains(t, w.get(batch).Body.String(), "worker-of-another-host")
	w.wait(2 * time.Minute)
	require.Equal(t, map[string]string{"client/1": "waiting"}, w.steps(batch))
}

func TestRetryEntersTheActor(t *testing.T) {
	w := open(t, "1", "2")
	fail := true
	w.eraser.PreAnonymize("client", "crm", func(context.Context, anonymize.Erasure) error {
		if fail {
			return errors.New("not now")
		}
		return nil
	})
	w.run()
	w.erase("client/1")
	require.Eventually(t, func() bool { return w.eraser.Attempt(subj(t, "client/1")).Err != nil }, 5*time.Second, time.Millisecond)
	w.stop() // so that nobody reads fail
	fail = false
	w.run()
	w.officer = &officer{actor: "officer-8"}
	rec := w.post("batch", form("action", "retry", "s", "client/1"))
	require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
	require.Equal(t, "person?note=retried&s=client%2F1", rec.Header().Get("Location"))
	w.until(keystore.StateErased, "client/1")
	var retried []keystore.Change
	for _, c := range w.status("client/1").History {
		if c.Kind == keystore.ChangeRetried {
			retried = append(retried, c)
		}
	}
	require.Len(t, retried, 1)
	require.Equal(t, "officer-8", retried[0].Actor)
	require.Equal(t, "officer-7", w.status("client/1").Journal.Actor)
}
