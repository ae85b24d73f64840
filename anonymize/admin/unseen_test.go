package admin_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/keystore"
)

// Of a batch with people whom an officer may not see, no answer names them, and what is
// said to all of it is said to those whom its page shows.
func TestUnseenInABatch(t *testing.T) {
	for _, action := range []string{"cancel", "retry"} {
		w := open(t, "1", "2", "3")
		id := w.erase(three...)[len("batch?id="):]
		w.officer.lacks(admin.View, "client/2", "client/9")
		w.officer.lacks(admin.Anonymize, "*")
		rec := w.refuses(http.StatusForbidden, func() *httptest.ResponseRecorder { return w.post("batch", form("id", id, "action", action)) })
		require.Contains(t, rec.Body.String(), "client/1")
		require.NotContains(t, rec.Body.String(), "client/2")
		w.officer.lacks(admin.Anonymize)
		rec = w.post("batch", form("id", id, "action", action))
		require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
		require.Equal(t, "requested ", kinds(w.status("client/2")), action)
		require.NotEqual(t, "requested ", kinds(w.status("client/3")), action)

		// Whether somebody is in it is not to be told from the answer.
		in := w.refuses(http.StatusForbidden, func() *httptest.ResponseRecorder {
			return w.post("batch", form("id", id, "action", action, "s", "client/2"))
		})
		out := w.refuses(http.StatusForbidden, func() *httptest.ResponseRecorder {
			return w.post("batch", form("id", id, "action", action, "s", "client/9"))
		})
		require.Len(t, out.Body.String(), in.Body.Len())
	}
}

// A viewer is asked about whoever is searched for before anybody is looked up: how long an
// answer takes does not tell who is known.
func TestSearchAsksFirst(t *testing.T) {
	w := open(t, "1")
	w.officer.lacks(admin.View, "client/1", "client/9", "staff/1", "staff/9")
	asked := func(q string) int {
		w.officer.asked = nil
		require.Equal(t, http.StatusOK, w.get("./?q="+q).Code)
		return len(w.officer.asked)
	}
	require.Equal(t, asked("9"), asked("1"))
}

// Somebody who can write to the keystore puts a batch there that nobody confirmed. Its
// button erases nobody: an officer confirms whom it names, or does not.
func TestForgedBatch(t *testing.T) {
	w := open(t, "1", "2")
	b := keystore.Batch{ID: keystore.NewBatchID(time.Now()), Action: "erase", Actor: "officer-7", Keep: []string{"tax"},
		Subjects: []keystore.Subject{subj(t, "client/1"), subj(t, "client/2")}}
	require.NoError(t, w.keys.SaveBatch(t.Context(), b))
	before := w.everything()
	rec := w.post("batch", form("id", b.ID.String(), "action", "retry"))
	require.Equal(t, before, w.everything())
	require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
	f := w.filledIn(w.get(rec.Header().Get("Location")))
	require.NotEqual(t, b.ID.String(), f.Get("batch"))
	require.Equal(t, []string{"tax"}, f["keep"])
	w.refuses(http.StatusUnprocessableEntity, func() *httptest.ResponseRecorder { return w.post("act", changed(f, "typed", "")) })
	require.Equal(t, http.StatusSeeOther, w.post("act", f).Code)
	require.Equal(t, keystore.StateErasing, w.status("client/1").State)
}

// Who goes back and writes another reason for a hold is not told that it stands.
func TestHoldWrittenAnew(t *testing.T) {
	w := open(t, "1")
	f := w.confirmed("restrict", "client/1")
	f.Set("hold", "lawsuit 7")
	require.Equal(t, http.StatusSeeOther, w.post("act", f).Code)
	require.Equal(t, http.StatusSeeOther, w.post("act", f).Code, "a double click")
	for _, hold := range []string{"lawsuit 8", ""} {
		rec := w.refuses(http.StatusConflict, func() *httptest.ResponseRecorder { return w.post("act", changed(f, "hold", hold)) })
		require.Contains(t, rec.Body.String(), "lawsuit 7")
	}
}

// A restriction ends no hold: it takes a release to do so, which says so.
func TestRestrictionLeavesHoldsAlone(t *testing.T) {
	w := open(t, "1", "2")
	_, err := w.keys.Restrict(t.Context(), &keystore.RestrictOptions{Hold: "a lawsuit"}, subj(t, "client/1"))
	require.NoError(t, err)
	rec := w.post("act", w.confirmed("restrict", "client/1", "client/2"))
	require.Equal(t, http.StatusSeeOther, rec.Code, w.said(rec))
	require.Equal(t, "a lawsuit", w.status("client/1").Hold)
	require.Equal(t, map[string]string{"client/1": "refused", "client/2": "done"}, w.steps(rec.Header().Get("Location")))
}

// A record that is no batch hides none that is.
func TestDamagedBatch(t *testing.T) {
	w := open(t, "1")
	batch := w.erase("client/1")
	id := keystore.NewBatchID(time.Now())
	key := append([]byte{0xff, 'b'}, id[:]...)
	_, err := w.backend.Commit(t.Context(), []keystore.Group{{{Op: keystore.Put, Key: key, Rev: 1, Value: []byte("no batch")}}})
	require.NoError(t, err)
	rec := w.get("batches")
	require.Equal(t, http.StatusOK, rec.Code, w.said(rec))
	require.Contains(t, rec.Body.String(), batch)
	require.Contains(t, rec.Body.String(), "«people.problem.damaged»")
	require.Contains(t, w.log.String(), "a batch can't be read")
}

// Who is not signed in, and who is on a page of another origin, does not even have a form
// read; nor does a Viewer read one without end.
func TestFormsAreReadLast(t *testing.T) {
	w := open(t, "1")
	large := url.Values{"x": {string(make([]byte, 2<<20))}}
	w.refuses(http.StatusForbidden, func() *httptest.ResponseRecorder { return w.do(http.MethodPost, "act", large, nil) })
	w.who = func(r *http.Request) (admin.Viewer, error) { return nil, r.ParseForm() }
	w.refuses(http.StatusServiceUnavailable, func() *httptest.ResponseRecorder { return w.post("act", large) })
	w.who = func(*http.Request) (admin.Viewer, error) { return nil, admin.ErrNobody }
	w.refuses(http.StatusUnauthorized, func() *httptest.ResponseRecorder { return w.post("act", large) })
}

// One damaged record hides nobody else, and the health of the keystore least of all.
func TestDamagedPerson(t *testing.T) {
	w := open(t, "1", "2")
	w.erase("client/1", "client/2")
	recs, err := w.backend.Scan(t.Context(), []byte{0}, []byte{0xff}, 1000)
	require.NoError(t, err)
	at := slices.IndexFunc(recs, func(r keystore.Record) bool { return bytes.HasSuffix(r.Key, []byte("client/1")) })
	put := func(old, rev keystore.Rev, value []byte) {
		_, err := w.backend.Commit(t.Context(), []keystore.Group{{{Op: keystore.Put, Key: recs[at].Key, If: old, Rev: rev, Value: value}}})
		require.NoError(t, err)
	}
	bad := bytes.Clone(recs[at].Value)
	bad[len(bad)-1] ^= 1
	put(recs[at].Rev, 1, bad)
	for _, to := range []string{"./", "./?state=erasing", "health"} {
		rec := w.get(to)
		require.Equal(t, http.StatusOK, rec.Code, w.said(rec))
		require.Contains(t, rec.Body.String(), "client%2F2", to)
	}
	require.Contains(t, w.get("health").Body.String(), "«people.problem.damaged»")
	put(1, 2, recs[at].Value) // for what looks at everything when a test ends
}
