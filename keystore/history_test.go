package keystore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
)

// told is somebody's history, as "kind by actor".
func told(t testing.TB, s *keystore.Store, sub keystore.Subject) (lines []string) {
	t.Helper()
	list, err := s.Status(t.Context(), sub)
	require.NoError(t, err)
	for _, c := range list[0].History {
		lines = append(lines, fmt.Sprintf("%s by %s", c.Kind, c.Actor))
	}
	return lines
}

func as(actor string) context.Context {
	return keystore.WithActor(context.Background(), actor)
}

func TestHistoryTellsWhatWasDoneAndWhoAsked(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, w *world) {
		s := w.store
		w.add(1)
		ann := w.people[0].sub
		w.write([]string{"", "tax", "ads"}, w.people...)
		require.Empty(t, told(t, s, ann))
		for _, step := range []struct {
			do   func() error
			want []string
		}{
			{func() error {
				return joined(s.RequestErasure(as("ctx"), keystore.Request{Subject: ann, Keep: []string{"tax"}, Actor: "asked"}))
			}, []string{"requested by asked"}},
			{func() error {
				return joined(s.RequestErasure(as("ctx"), keystore.Request{Subject: ann, Keep: []string{"tax"}}))
			}, nil},
			{func() error { return joined(s.RequestErasure(as("wide"), keystore.Request{Subject: ann})) }, []string{"requested by wide"}},
			{func() error { return s.Cancel(as("c"), ann) }, []string{"cancelled by c"}},
			{func() error { return joined(s.Restrict(as("r"), nil, ann)) }, []string{"restricted by r"}},
			{func() error { return joined(s.Release(as("l"), ann)) }, []string{"released by l"}},
			{func() error { return joined(s.Release(as("l"), ann)) }, nil},
			{func() error { _, err := s.Withdraw(as("w"), ann, "ads"); return err }, []string{"withdrawn by w"}},
			{func() error { _, err := s.Withdraw(as("w"), ann, "ads"); return err }, nil},
			{func() error { return joined(s.Note(as("x"), keystore.ChangeExported, ann)) }, []string{"exported by x"}},
			{func() error {
				_, err := s.Erase(as("e"), keystore.Request{Subject: ann, Keep: []string{"tax"}})
				return err
			}, []string{"requested by e", "reduced by e"}},
			{func() error { return joined(s.Restrict(as("h"), &keystore.RestrictOptions{Hold: "case"}, ann)) }, []string{"restricted by h"}},
			{func() error { return joined(s.Release(as("l"), ann)) }, []string{"released by l"}},
			{func() error { return joined(s.RequestErasure(as("q"), keystore.Request{Subject: ann})) }, []string{"requested by q"}},
			{func() error { return joined(s.Note(context.Background(), keystore.ChangeRetried, ann)) }, []string{"retried by "}},
			{func() error { _, err := s.Erase(context.Background(), keystore.Request{Subject: ann}); return err }, []string{"erased by q"}},
			{func() error { _, err := s.Erase(as("e"), keystore.Request{Subject: ann}); return err }, nil},
			{func() error { return joined(s.Note(as("x"), keystore.ChangeExported, ann)) }, []string{"exported by x"}},
			{func() error { return s.Readmit(as("a"), ann) }, []string{"readmitted by a"}},
			{func() error { _, err := s.Rotate(as("a"), ann); return err }, nil},
		} {
			before := told(t, s, ann)
			w.now = w.now.Add(time.Second)
			require.NoError(t, step.do())
			require.Equal(t, append(before, step.want...), told(t, s, ann))
			if st := w.statuses()[0]; len(step.want) > 0 {
				require.Equal(t, w.now.UTC(), st.History[len(st.History)-1].At)
			}
		}
		before := told(t, s, ann)
		w.reopen()
		require.Equal(t, before, told(t, w.store, ann))
		require.NoError(t, w.store.Advance(w.ctx))
		require.Equal(t, before, told(t, w.store, ann), "a re-key takes it along")
	})
}

// The actor of the journal is that of the request, or else of its context.
func TestJournalsNameTheActorOfTheContext(t *testing.T) {
	s := keystoretest.New(t)
	ann, bob := subject(t, 1), subject(t, 2)
	seal(t, s, ann, "", "Ann")
	seal(t, s, bob, "", "Bob")
	rs := []keystore.Request{{Subject: ann}, {Subject: bob, Actor: "asked"}}
	require.NoError(t, joined(s.RequestErasure(as("officer-7"), rs...)))
	require.Empty(t, rs[0].Actor, "what the caller passed is not changed")
	list, err := s.Status(t.Context(), ann, bob)
	require.NoError(t, err)
	require.Equal(t, "officer-7", list[0].Journal.Actor)
	require.Equal(t, "asked", list[1].Journal.Actor)
	long := keystore.Request{Subject: subject(t, 3), Actor: strings.Repeat("x", keystore.MaxActor) + "y", Unknown: true}
	require.NoError(t, joined(s.RequestErasure(t.Context(), long)))
	list, err = s.Status(t.Context(), long.Subject)
	require.NoError(t, err)
	require.Equal(t, long.Actor[:keystore.MaxActor], list[0].Journal.Actor)
	require.Equal(t, list[0].Journal.Actor, list[0].History[0].Actor)
	require.Empty(t, keystore.ActorOf(t.Context()))
	require.Equal(t, "officer-7", keystore.ActorOf(as("officer-7")))
}

func TestHistoriesAreBounded(t *testing.T) {
	s := keystoretest.New(t)
	ann := subject(t, 1)
	seal(t, s, ann, "", "Ann")
	var want []string
	for i := range 40 {
		actor := fmt.Sprintf("officer-%d", i)
		require.NoError(t, joined(s.Note(as(actor), keystore.ChangeExported, ann)))
		want = append(want, "exported by "+actor)
		require.Equal(t, want[max(0, i-31):], told(t, s, ann))
	}
	_, err := s.Erase(as("last"), keystore.Request{Subject: ann})
	require.NoError(t, err)
	require.Equal(t, append(want[10:], "requested by last", "erased by last"), told(t, s, ann))

	for actor, want := range map[string]string{
		strings.Repeat("x", 300):                       strings.Repeat("x", keystore.MaxActor),
		strings.Repeat("x", keystore.MaxActor-1) + "é": strings.Repeat("x", keystore.MaxActor-1),
		strings.Repeat("x", keystore.MaxActor-2) + "é": strings.Repeat("x", keystore.MaxActor-2) + "é",
		"off\xffice": "office",
	} {
		require.NoError(t, joined(s.Note(as(actor), keystore.ChangeExported, ann)))
		lines := told(t, s, ann)
		require.Equal(t, "exported by "+want, lines[len(lines)-1])
	}
}

// What a restore replays is in the history with the time at which it was done; what the
// copy knew stays.
func TestRestoreKeepsHistories(t *testing.T) {
	w := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), time.Hour, 1)
	w.add(3)
	w.write([]string{"", "tax", "ads"}, w.people...)
	ann, bob, carl := w.people[0].sub, w.people[1].sub, w.people[2].sub
	require.NoError(t, joined(w.store.Restrict(as("r"), nil, ann)))
	require.NoError(t, joined(w.store.Release(as("r"), ann)))
	copied, err := w.medium.copy()
	require.NoError(t, err)
	w.now = w.now.Add(time.Minute)
	at := w.now
	_, err = w.store.Erase(as("e"), keystore.Request{Subject: ann}, keystore.Request{Subject: bob, Keep: []string{"tax"}})
	require.NoError(t, err)
	_, err = w.store.Withdraw(as("e"), carl, "ads")
	require.NoError(t, err)
	require.NoError(t, w.store.Close())
	w.now = w.now.Add(time.Minute)
	w.medium = copied
	w.attach()
	_, err = keystore.Restore(as("restorer"), w.backend, w.roots, w.options())
	require.NoError(t, err)
	w.open()
	require.Equal(t, []string{"restricted by r", "released by r", "erased by "}, told(t, w.store, ann))
	require.Equal(t, []string{"reduced by "}, told(t, w.store, bob))
	require.Equal(t, []string{"withdrawn by "}, told(t, w.store, carl))
	st, err := w.store.Status(w.ctx, ann)
	require.NoError(t, err)
	require.Equal(t, at.UTC(), st[0].History[2].At)
}

func TestNoteRefuses(t *testing.T) {
	s := keystoretest.New(t)
	ann, nobody := subject(t, 1), subject(t, 2)
	seal(t, s, ann, "", "Ann")
	errs, err := s.Note(as("x"), keystore.ChangeExported, nobody, ann, keystore.Subject{})
	require.NoError(t, err)
	require.ErrorIs(t, errs[0], keystore.ErrUnknownSubject)
	require.ErrorContains(t, errs[0], nobody.String())
	require.NoError(t, errs[1])
	require.ErrorIs(t, errs[2], keystore.ErrInvalid)
	require.Equal(t, []string{"exported by x"}, told(t, s, ann))
	st, err := s.Status(t.Context(), nobody)
	require.NoError(t, err)
	require.Equal(t, keystore.StateUnknown, st[0].State, "nobody is made known")
	for kind := range keystore.ChangeKind(20) {
		if kind == keystore.ChangeExported || kind == keystore.ChangeRetried {
			continue
		}
		_, err := s.Note(as("x"), kind, ann)
		require.ErrorIs(t, err, keystore.ErrInvalid, kind)
	}
	require.Equal(t, []string{"exported by x"}, told(t, s, ann))
}

// A note changes nobody's state: no counter is raised, nobody is told, and other processes
// go on serving from memory.
func TestNotesWakeNobody(t *testing.T) {
	c := newCluster(t, leaseOf(long))
	a, b := c.process(), c.process()
	ann := subject(t, 1)
	seal(t, a.store, ann, "", "Ann")
	require.NoError(t, b.keys(ann).Err())
	counters := func() (list []keystore.Record) {
		for page := range 32 {
			recs, err := c.current().Get(c.ctx, [][]byte{{byte(page), 'c'}})
			require.NoError(t, err)
			list = append(list, recs...)
		}
		return list
	}
	before, gets := counters(), b.gets.Load()
	notified := false
	a.through(func(ctx context.Context, name string, do func() error) error {
		notified = notified || name == "Notify"
		return do()
	})
	took := took(func() { require.NoError(t, joined(a.store.Note(as("x"), keystore.ChangeExported, ann))) })
	require.Less(t, took, long/4, "no lease is waited for")
	require.Equal(t, before, counters())
	require.False(t, notified)
	require.NoError(t, b.store.Poll(c.ctx))
	require.NoError(t, b.keys(ann).Err())
	require.Equal(t, gets, b.gets.Load(), "served from memory")
	require.Equal(t, []string{"exported by x"}, told(t, b.store, ann))
}

// Who can write the keystore's records, and has none of its keys, cannot put another's
// name into a history.
func TestHistoriesAreAuthenticated(t *testing.T) {
	w := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), 0, 1)
	w.add(1)
	w.write([]string{""}, w.people...)
	ann := w.people[0].sub
	require.NoError(t, joined(w.store.Note(as("officer-7"), keystore.ChangeExported, ann)))
	recs, err := w.backend.Scan(w.ctx, []byte{0, 'r'}, []byte{0, 's'}, 1)
	require.NoError(t, err)
	forged := bytes.Replace(recs[0].Value, []byte("officer-7"), []byte("officer-8"), 1)
	require.NotEqual(t, recs[0].Value, forged)
	_, err = w.backend.Commit(w.ctx, []keystore.Group{{{Op: keystore.Put, Key: recs[0].Key, If: recs[0].Rev, Rev: 1, Value: forged}}})
	require.NoError(t, err)
	_, err = w.store.Status(w.ctx, ann)
	require.ErrorIs(t, err, keystore.ErrTampered)
	require.ErrorIs(t, joined(w.store.Note(w.ctx, keystore.ChangeExported, ann)), keystore.ErrTampered)
	report, err := w.store.Verify(w.ctx)
	require.NoError(t, err)
	require.Len(t, report.Problems, 1)
}

func TestHistoriesInJSON(t *testing.T) {
	at := time.Date(2026, 5, 17, 12, 0, 0, 0, time.UTC)
	b, err := json.Marshal([]keystore.Change{{At: at, Kind: keystore.ChangeErased, Actor: "officer-7"}, {At: at, Kind: 77}})
	require.NoError(t, err)
	require.JSONEq(t, `[{"at":"2026-05-17T12:00:00Z","kind":"erased","actor":"officer-7"},{"at":"2026-05-17T12:00:00Z","kind":"change-77"}]`, string(b))
}
