package pgstore_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
)

// Lists, histories and batches of a keystore that two processes share.
func TestListsAndBatches(t *testing.T) {
	t.Parallel()
	ctx := keystore.WithActor(t.Context(), "officer-7")
	dsn := pgtest.Shared(t).Database(t)
	roots := memstore.NewRoots()
	b := create(t, dsn, nil)
	require.NoError(t, keystore.Create(ctx, b, roots, &keystore.CreateOptions{Shards: 64, Lease: 500 * time.Millisecond, Grace: time.Hour}))
	require.NoError(t, b.Close())
	one, two := openKeystore(t, dsn, roots), openKeystore(t, dsn, roots)

	var everybody []keystore.Subject
	for n := range 300 {
		everybody = append(everybody, customer(t, n+1))
	}
	_, err := one.Ensure(ctx, nil, []string{""}, everybody...)
	require.NoError(t, err)
	restricted, erasing, erased := everybody[:100], everybody[100:200], everybody[200:250]
	start := time.Now()
	errs, err := one.Restrict(ctx, nil, restricted...)
	require.NoError(t, err)
	require.Equal(t, make([]error, len(restricted)), errs)
	require.Less(t, time.Since(start), 20*time.Second, "one lease, not a hundred")
	var rs []keystore.Request
	for _, sub := range erasing {
		rs = append(rs, keystore.Request{Subject: sub})
	}
	_, err = one.RequestErasure(ctx, rs...)
	require.NoError(t, err)
	rs = rs[:0]
	for _, sub := range erased {
		rs = append(rs, keystore.Request{Subject: sub})
	}
	_, err = one.Erase(ctx, rs...)
	require.NoError(t, err)

	for state, want := range map[keystore.State][]keystore.Subject{
		keystore.StateUnknown: everybody, keystore.StateRestricted: restricted, keystore.StateErasing: erasing, keystore.StateErased: erased,
	} {
		for _, limit := range []int{7, 100, keystore.MaxList} {
			var got []keystore.Subject
			q := keystore.ListQuery{State: state, Limit: limit}
			for {
				list, next, err := two.List(ctx, q)
				require.NoError(t, err)
				for _, st := range list {
					got = append(got, st.Subject)
					if state != keystore.StateUnknown {
						require.Equal(t, state, st.State)
						require.Equal(t, "officer-7", st.History[0].Actor)
					}
				}
				if q.After = next; next == "" {
					break
				}
			}
			byName := func(a, b keystore.Subject) int { return slices.Compare([]byte(a.String()), []byte(b.String())) }
			slices.SortFunc(got, byName)
			require.Equal(t, slices.SortedFunc(slices.Values(want), byName), got, "%s, by %d", state, limit)
		}
	}

	// Both save at once: the same batch, and others.
	same := keystore.Batch{ID: keystore.NewBatchID(time.Now()), Action: "anonymize", Actor: "officer-7", Subjects: everybody}
	var wg sync.WaitGroup
	saved := make([]error, 2)
	for i, s := range []*keystore.Store{one, two} {
		wg.Go(func() {
			for n := range 10 {
				b := same
				if n%2 == 0 {
					b.ID = keystore.NewBatchID(time.Now())
				}
				if err := s.SaveBatch(ctx, b); err != nil {
					saved[i] = err
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, make([]error, 2), saved)
	for _, s := range []*keystore.Store{one, two} {
		got, err := s.Batch(ctx, same.ID)
		require.NoError(t, err)
		require.Equal(t, same, got)
		list, err := s.Batches(ctx, keystore.BatchID{}, 100)
		require.NoError(t, err)
		require.Len(t, list, 11)
		require.True(t, slices.IsSortedFunc(list, func(a, b keystore.Batch) int { return b.ID.Time().Compare(a.ID.Time()) }), "the newest first")
	}
	keystoretest.Check(t, two)
}
