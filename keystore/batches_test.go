package keystore_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

func aBatch(at time.Time, people ...*person) keystore.Batch {
	return keystore.Batch{ID: keystore.NewBatchID(at), Action: "anonymize", Actor: "officer-7", Subjects: subjects(people)}
}

func TestBatchIDs(t *testing.T) {
	at := time.Date(2026, 5, 17, 12, 0, 0, 123_000_000, time.UTC)
	older, newer := keystore.NewBatchID(at.Add(-time.Millisecond)), keystore.NewBatchID(at)
	require.Equal(t, at, newer.Time())
	require.Less(t, newer.String(), older.String(), "newer ones sort first")
	require.NotEqual(t, newer, keystore.NewBatchID(at))
	again, err := keystore.ParseBatchID(newer.String())
	require.NoError(t, err)
	require.Equal(t, newer, again)
	text, err := json.Marshal(newer)
	require.NoError(t, err)
	require.Equal(t, `"`+newer.String()+`"`, string(text))
	for _, bad := range []string{"", "0", newer.String()[1:], newer.String() + "00", strings.Repeat("x", 32), newer.String()[:31] + "é"} {
		id, err := keystore.ParseBatchID(bad)
		require.ErrorIs(t, err, keystore.ErrInvalid, bad)
		require.Zero(t, id)
	}
}

func TestBatches(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, w *world) {
		s, ctx := w.store, w.ctx
		w.add(3)
		full := keystore.Batch{ID: keystore.NewBatchID(w.now), Action: "erase-personal-data", Actor: "officer-7", Keep: []string{"tax", ""},
			Subjects: subjects(w.people), Refused: []keystore.Refusal{
				{Subject: w.people[1].sub, Why: "subject is under a hold: case 7"}, {Subject: w.people[0].sub}}}
		require.NoError(t, s.SaveBatch(ctx, full))
		got, err := s.Batch(ctx, full.ID)
		require.NoError(t, err)
		require.Equal(t, full, got)

		replaced := aBatch(w.now, w.people[0])
		replaced.ID = full.ID
		require.NoError(t, s.SaveBatch(ctx, replaced))
		got, err = s.Batch(ctx, full.ID)
		require.NoError(t, err)
		require.Equal(t, replaced, got)

		_, err = s.Batch(ctx, keystore.NewBatchID(w.now))
		require.ErrorIs(t, err, keystore.ErrNotFound)

		want := []keystore.BatchID{full.ID}
		for range 8 {
			w.now = w.now.Add(time.Second)
			b := aBatch(w.now, w.people...)
			require.NoError(t, s.SaveBatch(ctx, b))
			want = slices.Insert(want, 0, b.ID)
		}
		for _, limit := range []int{1, 2, 9, 1000} {
			var ids []keystore.BatchID
			var after keystore.BatchID
			for {
				list, err := s.Batches(ctx, after, limit)
				require.NoError(t, err)
				for _, b := range list {
					ids = append(ids, b.ID)
				}
				if len(list) < limit {
					break
				}
				after = list[len(list)-1].ID
			}
			require.Equal(t, want, ids, "the newest first")
		}
		for _, limit := range []int{0, -1, keystore.MaxList + 1} {
			_, err := s.Batches(ctx, keystore.BatchID{}, limit)
			require.ErrorIs(t, err, keystore.ErrInvalid)
		}
		report, err := s.Verify(ctx)
		require.NoError(t, err)
		require.Empty(t, report.Problems)
		w.reopen()
		list, err := w.store.Batches(ctx, keystore.BatchID{}, 1)
		require.NoError(t, err)
		require.Equal(t, want[0], list[0].ID)

		reader, err := keystore.Open(ctx, w.backend, w.roots, w.readOnly())
		require.NoError(t, err)
		require.ErrorIs(t, reader.SaveBatch(ctx, full), keystore.ErrReadOnly)
		_, err = reader.Batch(ctx, full.ID)
		require.NoError(t, err)
		require.NoError(t, w.store.Close())
		require.ErrorIs(t, w.store.SaveBatch(ctx, full), keystore.ErrClosed)
		_, err = w.store.Batch(ctx, full.ID)
		require.ErrorIs(t, err, keystore.ErrClosed)
		_, err = w.store.Batches(ctx, keystore.BatchID{}, 1)
		require.ErrorIs(t, err, keystore.ErrClosed)
	})
}

func TestBatchesAreForgotten(t *testing.T) {
	w := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), 0, 1)
	w.add(1)
	const life, some = 90 * 24 * time.Hour, 40
	first := w.now
	for range some {
		require.NoError(t, w.store.SaveBatch(w.ctx, aBatch(first, w.people...)))
	}
	kept := aBatch(first.Add(time.Millisecond), w.people...)
	require.NoError(t, w.store.SaveBatch(w.ctx, kept))
	left := func() int {
		list, err := w.store.Batches(w.ctx, keystore.BatchID{}, 1000)
		require.NoError(t, err)
		return len(list)
	}
	w.now = first.Add(life)
	require.NoError(t, w.store.SaveBatch(w.ctx, aBatch(w.now, w.people...)))
	require.Equal(t, some+2, left(), "none is older yet")
	w.now = first.Add(life + time.Millisecond)
	for n := range 5 {
		before, groups := left(), w.backend.Groups()
		require.NoError(t, w.store.SaveBatch(w.ctx, aBatch(w.now, w.people...)))
		require.LessOrEqual(t, before-left(), 16, "bounded work")
		require.Equal(t, 1, w.backend.Groups()-groups, "in the same commit")
		if n == 4 {
			require.Equal(t, 1+1+5, left())
		}
	}
	got, err := w.store.Batch(w.ctx, kept.ID)
	require.NoError(t, err)
	require.Equal(t, kept, got)
	w.now = w.now.Add(time.Millisecond)
	require.ErrorIs(t, w.store.SaveBatch(w.ctx, kept), keystore.ErrInvalid, "it would be forgotten at once")
	_, err = w.store.Batch(w.ctx, kept.ID)
	require.NoError(t, err)
}

func TestBatchesHaveBounds(t *testing.T) {
	w := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), 0, 1)
	w.add(keystore.MaxBatch + 1)
	long := strings.Repeat("x", 1000)
	for what, spoil := range map[string]func(b *keystore.Batch){
		"no id":                 func(b *keystore.Batch) { b.ID = keystore.BatchID{} },
		"an id of long ago":     func(b *keystore.Batch) { b.ID = keystore.NewBatchID(w.now.Add(-91 * 24 * time.Hour)) },
		"an id of next week":    func(b *keystore.Batch) { b.ID = keystore.NewBatchID(w.now.Add(7 * 24 * time.Hour)) },
		"an id of the far past": func(b *keystore.Batch) { binary.BigEndian.PutUint64(b.ID[:], 1<<63) },
		"no action":             func(b *keystore.Batch) { b.Action = "" },
		"a long action":         func(b *keystore.Batch) { b.Action = strings.Repeat("a", 33) },
		"an action in words":    func(b *keystore.Batch) { b.Action = "erase it" },
		"a long actor":          func(b *keystore.Batch) { b.Actor = long },
		"an actor of bytes":     func(b *keystore.Batch) { b.Actor = "\xff" },
		"a long purpose":        func(b *keystore.Batch) { b.Keep = []string{long} },
		"many purposes":         func(b *keystore.Batch) { b.Keep = make([]string, 101) },
		"nobody":                func(b *keystore.Batch) { b.Subjects = nil },
		"too many":              func(b *keystore.Batch) { b.Subjects = subjects(w.people) },
		"the zero subject":      func(b *keystore.Batch) { b.Subjects = []keystore.Subject{{}} },
		"a refusal of another":  func(b *keystore.Batch) { b.Refused = []keystore.Refusal{{Subject: w.people[1].sub}} },
		"more refusals":         func(b *keystore.Batch) { b.Refused = make([]keystore.Refusal, 2) },
	} {
		b := aBatch(w.now, w.people[0])
		spoil(&b)
		require.ErrorIs(t, w.store.SaveBatch(w.ctx, b), keystore.ErrInvalid, what)
	}
	list, err := w.store.Batches(w.ctx, keystore.BatchID{}, 10)
	require.NoError(t, err)
	require.Empty(t, list)

	b := aBatch(w.now.Add(time.Hour), w.people[:keystore.MaxBatch]...) // of a host whose clock is ahead
	b.Action, b.Actor = strings.Repeat("a", 32), long[:keystore.MaxActor]
	for _, sub := range b.Subjects {
		b.Refused = append(b.Refused, keystore.Refusal{Subject: sub, Why: long[:499] + "é"})
	}
	require.NoError(t, w.store.SaveBatch(w.ctx, b))
	got, err := w.store.Batch(w.ctx, b.ID)
	require.NoError(t, err)
	require.Len(t, got.Refused, keystore.MaxBatch)
	require.Equal(t, long[:499], got.Refused[0].Why)
	require.Equal(t, long[:499]+"é", b.Refused[0].Why, "what the caller passed is not changed")
}

// Many save at once, the same batch and others, while old ones are to be forgotten.
func TestBatchesSavedAtOnce(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, w *world) {
		w.add(4)
		for range 40 {
			require.NoError(t, w.store.SaveBatch(w.ctx, aBatch(w.now, w.people...)))
		}
		w.now = w.now.Add(100 * 24 * time.Hour)
		same := aBatch(w.now, w.people...)
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() {
				for n := range 10 {
					b := same
					b.Actor = fmt.Sprint(i)
					if n%2 == 0 {
						b.ID = keystore.NewBatchID(w.now)
					}
					if err := w.store.SaveBatch(w.ctx, b); err != nil {
						errs[i] = err
					}
					if _, err := w.store.Batches(w.ctx, keystore.BatchID{}, 100); err != nil {
						errs[i] = err
					}
				}
			})
		}
		wg.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		list, err := w.store.Batches(w.ctx, keystore.BatchID{}, 1000)
		require.NoError(t, err)
		require.Len(t, list, 8*5+1)
	})
}

// Of those who add the same batch at once, one does.
func TestBatchIsAddedOnce(t *testing.T) {
	everywhere(t, 0, func(t *testing.T, w *world) {
		w.add(1)
		same := aBatch(w.now, w.people...)
		errs := make([]error, 8)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = w.store.AddBatch(w.ctx, same) })
		}
		wg.Wait()
		added := 0
		for _, err := range errs {
			if err == nil {
				added++
				continue
			}
			require.ErrorIs(t, err, keystore.ErrExists)
		}
		require.Equal(t, 1, added)
		same.Actor = "another"
		require.ErrorIs(t, w.store.AddBatch(w.ctx, same), keystore.ErrExists)
		b, err := w.store.Batch(w.ctx, same.ID)
		require.NoError(t, err)
		require.NotEqual(t, "another", b.Actor)
	})
}

// Whatever becomes of the write, a batch stands as saved or not at all, and saving it again
// is right.
func TestBatchesWhenTheAnswerIsLost(t *testing.T) {
	for _, mode := range fault.Modes {
		for _, replaces := range []bool{false, true} {
			w := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), 0, 1)
			w.add(2)
			b := aBatch(w.now, w.people...)
			if replaces {
				old := b
				old.Subjects = b.Subjects[:1]
				require.NoError(t, w.store.SaveBatch(w.ctx, old))
			}
			w.backend.FailAt(1, mode)
			require.ErrorIs(t, w.store.SaveBatch(w.ctx, b), keystore.ErrUnavailable)
			require.True(t, w.backend.Died())
			w.backend.Revive()
			got, err := w.store.Batch(w.ctx, b.ID)
			switch {
			case mode == fault.Unanswered:
				require.NoError(t, err)
				require.Equal(t, b, got)
			case replaces:
				require.NoError(t, err)
				require.Len(t, got.Subjects, 1)
			default:
				require.ErrorIs(t, err, keystore.ErrNotFound)
			}
			require.NoError(t, w.store.SaveBatch(w.ctx, b))
			got, err = w.store.Batch(w.ctx, b.ID)
			require.NoError(t, err)
			require.Equal(t, b, got)
		}
	}
}

// The bytes are those of docs/format.md.
func TestBatchesHaveTheirFormat(t *testing.T) {
	w := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), 0, 1)
	w.add(2)
	b := aBatch(w.now, w.people...)
	b.Keep, b.Refused = []string{"tax"}, []keystore.Refusal{{Subject: w.people[1].sub, Why: "held"}}
	require.NoError(t, w.store.SaveBatch(w.ctx, b))
	recs, err := w.backend.Scan(w.ctx, []byte{0xff, 'b'}, []byte{0xff, 'c'}, 10)
	require.NoError(t, err)
	require.Len(t, recs, 1)
	require.Equal(t, append([]byte{0xff, 'b'}, b.ID[:]...), recs[0].Key)
	require.Equal(t, ^uint64(w.now.UnixMilli()), binary.BigEndian.Uint64(recs[0].Key[2:]))
	good := []byte("\x01\x09anonymize\x09officer-7\x01\x03tax\x02\x0acustomer/1\x0acustomer/2\x01\x01\x04held")
	require.Equal(t, good, recs[0].Value)

	rev := recs[0].Rev
	store := func(value []byte) error {
		rev++
		_, err := w.backend.Commit(w.ctx, []keystore.Group{{{Op: keystore.Put, Key: recs[0].Key, If: rev - 1, Rev: rev, Value: value}}})
		require.NoError(t, err)
		_, err = w.store.Batch(w.ctx, b.ID)
		return err
	}
	require.NoError(t, store(good))
	for n := range good {
		require.ErrorIs(t, store(good[:n]), keystore.ErrTampered, "cut at %d", n)
	}
	require.ErrorIs(t, store(append(slices.Clone(good), 0)), keystore.ErrTampered)
	for what, bad := range map[string]string{
		"another version":        "\x02" + string(good[1:]),
		"a place beyond the end": strings.Replace(string(good), "\x01\x01\x04held", "\x01\x02\x04held", 1),
		"no subject":             strings.Replace(string(good), "customer/2", "customer42", 1),
	} {
		require.ErrorIs(t, store([]byte(bad)), keystore.ErrTampered, what)
	}
	other := aBatch(w.now.Add(-time.Second), w.people...)
	require.NoError(t, w.store.SaveBatch(w.ctx, other))
	list, err := w.store.Batches(w.ctx, keystore.BatchID{}, 10)
	require.ErrorIs(t, err, keystore.ErrTampered)
	require.ErrorContains(t, err, b.ID.String())
	require.Equal(t, []keystore.Batch{{ID: b.ID}, other}, list, "it hides no other")
}
