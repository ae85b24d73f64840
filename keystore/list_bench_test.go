package keystore_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// BenchmarkList reads pages of 50 from a file of many people, beside the backend's bare
// scan of as many records.
func BenchmarkList(b *testing.B) {
	const page, some = 50, 2000
	for _, people := range []int{10_000, 1_000_000} {
		ctx, dir := b.Context(), b.TempDir()
		roots, err := rootfile.New([]string{filepath.Join(dir, "root")}, nil)
		require.NoError(b, err)
		db, err := boltstore.Create(filepath.Join(dir, "keys"), nil)
		require.NoError(b, err)
		require.NoError(b, keystore.Create(ctx, db, roots, &keystore.CreateOptions{Grace: time.Hour}))
		s, err := keystore.Open(ctx, db, roots, nil)
		require.NoError(b, err)
		subs := make([]keystore.Subject, people)
		for i := range subs {
			subs[i] = subject(b, i+1)
		}
		for i := 0; i < people; i += 10_000 {
			_, err := s.Ensure(ctx, nil, []string{""}, subs[i:i+10_000]...)
			require.NoError(b, err)
		}
		measure := func(name string, f func() (int, error)) {
			b.Run(fmt.Sprintf("people=%d/%s", people, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					n, err := f()
					require.NoError(b, err)
					require.GreaterOrEqual(b, n, page)
				}
			})
		}
		list := func(q keystore.ListQuery) func() (int, error) {
			q.Limit = page
			return func() (int, error) {
				list, _, err := s.List(ctx, q)
				return len(list), err
			}
		}
		measure("scan", func() (int, error) {
			recs, err := db.Scan(ctx, []byte{0, 'r'}, []byte{0, 's'}, page+1)
			return len(recs), err
		})
		measure("everybody", list(keystore.ListQuery{}))
		_, last, err := s.List(ctx, keystore.ListQuery{Limit: 1000})
		require.NoError(b, err)
		measure("further-on", list(keystore.ListQuery{After: last}))

		require.NoError(b, joined(s.Restrict(ctx, nil, subs[:some]...)))
		rs := make([]keystore.Request, some)
		for i := range rs {
			rs[i].Subject = subs[some+i]
		}
		require.NoError(b, joined(s.RequestErasure(ctx, rs...)))
		for i := range rs {
			rs[i].Subject = subs[2*some+i]
		}
		_, err = s.Erase(ctx, rs...)
		require.NoError(b, err)
		measure("everybody-some-erased", list(keystore.ListQuery{}))
		measure("restricted", list(keystore.ListQuery{State: keystore.StateRestricted}))
		measure("erasing", list(keystore.ListQuery{State: keystore.StateErasing}))
		measure("not-final", list(keystore.ListQuery{State: keystore.StateErased}))
		measure("status-of-50", func() (int, error) {
			list, err := s.Status(ctx, subs[len(subs)-page:]...)
			return len(list), err
		})
		require.NoError(b, s.Close())
	}
}
