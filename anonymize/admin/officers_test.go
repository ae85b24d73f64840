package admin_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/keystore"
)

// as makes requests of several officers, told apart by a header.
func (w *office) as(actor string, fields url.Values) *httptest.ResponseRecorder {
	return w.do(http.MethodPost, "act", fields, func(r *http.Request) {
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Actor", actor)
	})
}

// kinds are what happened to somebody.
func kinds(st keystore.Status) string {
	text := ""
	for _, c := range st.History {
		text += c.Kind.String() + " "
	}
	return text
}

// Two officers confirm the erasure of the same person at the same time: it is erased once,
// and both see what became of it.
func TestTwoOfficersAtOnce(t *testing.T) {
	for range 5 {
		w := open(t, "1", "2")
		w.who = func(r *http.Request) (admin.Viewer, error) {
			actor := r.Header.Get("Actor")
			if actor == "" {
				actor = "officer-0"
			}
			return &officer{actor: actor}, nil
		}
		actors := []string{"officer-1", "officer-2"}
		forms := map[string]url.Values{}
		for _, a := range actors {
			w.officer.actor = a
			f := form("action", "erase", "s", "client/1")
			rec := w.do(http.MethodGet, "confirm?"+f.Encode(), nil, func(r *http.Request) { r.Header.Set("Actor", a) })
			for _, m := range hidden.FindAllStringSubmatch(rec.Body.String(), -1) {
				f.Set(m[1], m[2])
			}
			f.Set("typed", "1")
			forms[a] = f
		}
		w.run()
		var wg sync.WaitGroup
		recs := make([]*httptest.ResponseRecorder, len(actors))
		for i, a := range actors {
			wg.Go(func() { recs[i] = w.as(a, forms[a]) })
		}
		wg.Wait()
		w.until(keystore.StateErased, "client/1")
		st := w.status("client/1")
		require.Equal(t, "requested erased ", kinds(st), "one erasure")
		winners := 0
		for _, rec := range recs {
			switch rec.Code {
			case http.StatusSeeOther:
				winners++
				require.Equal(t, map[string]string{"client/1": "done"}, w.steps(rec.Header().Get("Location")))
			case http.StatusConflict: // who was later by a moment is told
				require.Contains(t, rec.Body.String(), "«confirm.stale»")
				require.Regexp(t, "«refused.(erasing|erased)»", rec.Body.String())
			default:
				require.Fail(t, "neither done nor stale", w.said(rec))
			}
		}
		require.Positive(t, winners)
		require.Contains(t, actors, st.Journal.Actor)
		require.Empty(t, w.status("client/2").History)
	}
}

// A double click is one batch, and one request.
func TestDoubleClick(t *testing.T) {
	w := open(t, "1", "2")
	real := w.confirmed("erase", "client/1", "client/2")
	var wg sync.WaitGroup
	locations := make([]string, 8)
	for i := range locations {
		wg.Go(func() {
			rec := w.as("", real)
			locations[i] = fmt.Sprint(rec.Code, rec.Header().Get("Location"))
		})
	}
	wg.Wait()
	for _, l := range locations {
		require.Equal(t, locations[0], l)
	}
	require.Contains(t, locations[0], "303batch?id=")
	batches, err := w.keys.Batches(context.Background(), keystore.BatchID{}, 10)
	require.NoError(t, err)
	require.Len(t, batches, 1)
	require.Equal(t, "requested ", kinds(w.status("client/1")))
}

// The same form reaches two processes, and the erasure is taken back while the second is
// about to ask for it: nobody is erased who was taken back.
func TestDoubleClickOnTwoProcesses(t *testing.T) {
	w := open(t, "1")
	first := w.page
	real := w.confirmed("erase", "client/1")
	var batch string
	var meanwhile sync.Once
	w.o.Clock = func() time.Time { // it has looked for the batch, and what is shown is still so
		meanwhile.Do(func() {
			second := w.page
			w.page = first
			batch = w.post("act", real).Header().Get("Location")
			require.Contains(t, w.post("batch", form("id", batch[len("batch?id="):], "action", "cancel")).Header().Get("Location"), "cancelled")
			w.page = second
		})
		return time.Now()
	}
	var err error
	w.page, err = admin.New(w.eraser, &w.o)
	require.NoError(t, err)
	rec := w.post("act", real)
	require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
	require.NotEmpty(t, batch)
	require.Equal(t, batch, rec.Header().Get("Location"))
	require.Equal(t, keystore.StateActive, w.status("client/1").State)
	require.Equal(t, "requested cancelled ", kinds(w.status("client/1")))
}

func TestOneCancelsWhileAnotherRetries(t *testing.T) {
	w := open(t, "1")
	batch := w.erase("client/1")
	id := batch[len("batch?id="):]
	w.officer = &officer{actor: "officer-8"}
	rec := w.post("batch", form("id", id, "action", "cancel"))
	require.Equal(t, batch+"&note=cancelled", rec.Header().Get("Location"))
	rec = w.post("batch", form("id", id, "action", "retry", "s", "client/1"))
	require.Equal(t, batch+"&note=nothing", rec.Header().Get("Location"))
	require.Contains(t, w.get(rec.Header().Get("Location")).Body.String(), "«notice.nothing»")
	st := w.status("client/1")
	require.Equal(t, keystore.StateActive, st.State)
	require.Equal(t, "requested cancelled ", kinds(st))
	require.Equal(t, "officer-7", st.History[0].Actor)
	require.Equal(t, "officer-8", st.History[1].Actor)
	require.Equal(t, map[string]string{"client/1": "cancelled"}, w.steps(batch))
}

func TestOneselfAndProtectedKinds(t *testing.T) {
	w := open(t, "1", "2")
	w.addStaff(5)
	w.officer.self = subj(t, "client/1")
	for _, c := range []struct {
		action  string
		subject string
		why     string
	}{
		{"erase", "client/1", "own"}, {"erase", "staff/5", "protected"}, {"restrict", "staff/5", "protected"},
		{"release", "staff/5", "protected"}, {"erase", "client/404", "unknown"}, {"restrict", "client/404", "unknown"}, {"release", "client/2", "active"},
	} {
		real := form("action", c.action, "s", c.subject, "typed", "1")
		rec := w.confirm(real)
		require.Equal(t, http.StatusOK, rec.Code, w.said(rec))
		require.Contains(t, rec.Body.String(), "«refused."+c.why+"»")
		require.NotContains(t, rec.Body.String(), `name="digest"`, "nothing can be confirmed")
		real.Set("batch", keystore.NewBatchID(time.Now()).String())
		real.Set("digest", "0")
		w.refuses(http.StatusConflict, func() *httptest.ResponseRecorder { return w.post("act", real) })
	}

	// Among others they are left out, and the batch says so.
	real := w.confirmed("erase", "client/1", "client/2", "staff/5")
	real.Set("typed", "1")
	rec := w.post("act", real)
	require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
	batch := rec.Header().Get("Location")
	require.Equal(t, map[string]string{"client/1": "refused", "client/2": "waiting", "staff/5": "refused"}, w.steps(batch))
	require.Equal(t, keystore.StateActive, w.status("client/1").State)
	require.Equal(t, keystore.StateActive, w.status("staff/5").State)
	body := w.get(batch).Body.String()
	require.Contains(t, body, "«refused.own»")
	require.Contains(t, body, "«refused.protected»")

	// A colleague's erasure that another tool asked for is not for this page either.
	require.NoError(t, w.eraser.Request(t.Context(), subj(t, "staff/5")))
	for _, action := range []string{"retry", "cancel"} {
		w.refuses(http.StatusForbidden, func() *httptest.ResponseRecorder { return w.post("batch", form("action", action, "s", "staff/5")) })
	}
	// One may restrict oneself.
	require.Equal(t, http.StatusSeeOther, w.post("act", w.confirmed("restrict", "client/1")).Code)
	require.Equal(t, keystore.StateRestricted, w.status("client/1").State)
}
