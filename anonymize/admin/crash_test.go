package admin_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/keystore"
)

var three = []string{"client/1", "client/2", "client/3"}

// crashed gives data on which a process died in the n-th write of carrying out an erasure
// of three people, and the id of the batch; over: there are fewer writes.
func crashed(t *testing.T, n int, mode fault.Mode) (d *data, id string, over bool) {
	d = newData(t)
	w := d.start(t)
	w.add("1", "2", "3")
	real := w.confirmed("erase", three...)
	d.backend.FailAt(n, mode)
	rec := w.post("act", real)
	if !d.backend.Died() {
		require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
		return d, "", true
	}
	require.Equal(t, http.StatusServiceUnavailable, rec.Code, w.said(rec))
	d.backend.Revive()
	return d, real.Get("batch"), false
}

// A process dies in every write of carrying out a batch. The next one shows who was asked
// for and who was not, asks for nobody by itself, and has those confirmed anew.
func TestRestartInMidBatch(t *testing.T) {
	seen := map[string]bool{}
	for _, mode := range fault.Modes {
		for n := 1; ; n++ {
			d, id, over := crashed(t, n, mode)
			if over {
				require.Greater(t, n, 2, "the batch and each request")
				break
			}
			w := d.start(t)
			batch := "batch?id=" + id
			rec := w.get(batch)
			if rec.Code == http.StatusNotFound { // it died before the batch was saved
				for _, s := range three {
					require.Equal(t, keystore.StateActive, w.status(s).State)
				}
				seen["nothing"] = true
				continue
			}
			steps := w.steps(batch)
			for _, s := range three {
				want := map[keystore.State]string{keystore.StateActive: "notasked", keystore.StateErasing: "waiting"}[w.status(s).State]
				require.Equal(t, want, steps[s], "%s at %d: %s", mode, n, s)
				seen[want] = true
			}
			// Neither the page, nor the worker, nor the form sent again asks for anybody.
			w.run()
			for _, s := range three {
				if steps[s] == "waiting" {
					w.until(keystore.StateErased, s)
				}
			}
			time.Sleep(30 * time.Millisecond) // more than the worker's interval
			require.Equal(t, http.StatusOK, w.get(batch).Code)
			for _, s := range three {
				if steps[s] == "notasked" {
					require.Equal(t, keystore.StateActive, w.status(s).State, "%s at %d: %s", mode, n, s)
				}
			}
			// The button leads to their confirmation, and nobody is asked for twice.
			rec = w.post("batch", form("id", id, "action", "retry"))
			require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
			if to := rec.Header().Get("Location"); slices.Contains(slices.Collect(maps.Values(steps)), "notasked") {
				rec = w.post("act", w.filledIn(w.get(to)))
				require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
			}
			w.until(keystore.StateErased, three...)
			for _, s := range three {
				require.Equal(t, "done", w.steps(batch)[s])
				require.Equal(t, "requested erased ", kinds(w.status(s)))
				require.Equal(t, "officer-7", w.status(s).History[0].Actor)
			}
		}
	}
	require.Equal(t, map[string]bool{"nothing": true, "notasked": true, "waiting": true}, seen)
}

// The form that a process died over finds the batch when it is sent again, and asks for
// nobody.
func TestFormSentAgainAfterACrash(t *testing.T) {
	d := newData(t)
	w := d.start(t)
	w.add("1", "2", "3")
	real := w.confirmed("erase", three...)
	d.backend.FailAt(2, fault.Lost) // behind the batch
	require.Equal(t, http.StatusServiceUnavailable, w.post("act", real).Code)
	d.backend.Revive()
	w = d.start(t)
	before := w.everything()
	rec := w.post("act", real)
	require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
	require.Equal(t, before, w.everything())
	require.Equal(t, map[string]string{"client/1": "notasked", "client/2": "notasked", "client/3": "notasked"}, w.steps(rec.Header().Get("Location")))
}

// Whoever closes the page while it is carried out stops nothing half way.
func TestOfficerLeavesInMidBatch(t *testing.T) {
	w := open(t, "1", "2", "3")
	real := w.confirmed("erase", three...)
	ctx, leave := context.WithCancel(t.Context())
	w.backend.Before(func([]keystore.Group) { leave() }) // with the first write
	w.do(http.MethodPost, "act", real, func(r *http.Request) {
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		*r = *r.WithContext(ctx)
	})
	w.backend.Before(nil)
	require.Equal(t, map[string]string{"client/1": "waiting", "client/2": "waiting", "client/3": "waiting"}, w.steps("batch?id="+real.Get("batch")))
}

// The worker dies in each of its first writes, of claims, receivers and rows, and in some
// of those of the advance. The next process shows how far everybody is and finishes it.
func TestRestartOfTheWorker(t *testing.T) {
	for n := 1; ; n += 1 + 7*(n/16) {
		d := newData(t)
		w := d.start(t)
		w.add("1", "2", "3")
		connect := func(w *office) {
			for _, name := range []string{"crm", "newsletter"} {
				w.eraser.PreAnonymize("client", name, func(context.Context, anonymize.Erasure) error { return nil })
			}
		}
		connect(w)
		batch := w.erase(three...)
		d.backend.FailAt(n, fault.Modes[n%len(fault.Modes)])
		w.run()
		require.Eventually(t, func() bool {
			if d.backend.Died() {
				return true
			}
			sts, err := w.keys.Status(context.Background(), subj(t, three[0]), subj(t, three[1]), subj(t, three[2]))
			return err == nil && !slices.ContainsFunc(sts, func(st keystore.Status) bool {
				return st.State != keystore.StateErased || st.FinalAt.IsZero()
			})
		}, 10*time.Second, time.Millisecond)
		w.stop()
		w.stop = nil
		died := d.backend.Died()
		d.backend.Revive()

		w = d.start(t)
		connect(w)
		w.wait(time.Minute) // the dead worker's claims are over
		for s, step := range w.steps(batch) {
			want := map[keystore.State]string{keystore.StateErasing: "waiting", keystore.StateErased: "done"}[w.status(s).State]
			require.Equal(t, want, step, "%d: %s", n, s)
		}
		if !died {
			require.Greater(t, n, 10)
			return
		}
		w.run()
		w.until(keystore.StateErased, three...)
		require.Equal(t, map[string]string{"client/1": "done", "client/2": "done", "client/3": "done"}, w.steps(batch))
		w.stop()
		w.stop = nil
	}
}

// A restriction that was never carried out is confirmed anew: why somebody is on hold is
// nothing that a batch keeps.
func TestRestartInMidRestriction(t *testing.T) {
	for n := 1; ; n++ {
		d := newData(t)
		w := d.start(t)
		w.add("1", "2", "3")
		real := w.confirmed("restrict", three...)
		real.Set("hold", "a lawsuit")
		real.Set("purpose", "court, tax")
		d.backend.FailAt(n, fault.Torn)
		rec := w.post("act", real)
		if !d.backend.Died() {
			require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
			for _, s := range three {
				st := w.status(s)
				require.Equal(t, "done", w.steps(rec.Header().Get("Location"))[s])
				require.Equal(t, []any{keystore.StateRestricted, "a lawsuit", []string{"court", "tax"}}, []any{st.State, st.Hold, st.Purposes})
			}
			return
		}
		d.backend.Revive()
		w = d.start(t)
		batch := "batch?id=" + real.Get("batch")
		if w.get(batch).Code == http.StatusNotFound {
			continue
		}
		left := 0
		for s, step := range w.steps(batch) {
			require.Equal(t, map[keystore.State]string{keystore.StateActive: "notasked", keystore.StateRestricted: "done"}[w.status(s).State], step)
			if step == "notasked" {
				left++
			}
		}
		if left == 0 {
			continue
		}
		before := w.everything()
		rec = w.post("batch", form("id", real.Get("batch"), "action", "retry"))
		require.Equal(t, http.StatusOK, rec.Code, w.said(rec))
		require.Equal(t, before, w.everything())
		require.Len(t, chosen.FindAllString(rec.Body.String(), -1), left, fmt.Sprint(n))
		require.Contains(t, rec.Body.String(), "court, tax")
	}
}
