package admin_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
	"github.com/oubli/oubli/keystore/pgstore"
)

var subjects = flag.Int("subjects", 20_000, "how many subjects the benchmarks' keystores hold")

func TestMain(m *testing.M) { pgtest.Main(m) }

// BenchmarkPeople measures the first page of the list and exact searches, without and with
// columns, as a browser gets them. Beside it stand the keystore's own reads of the same
// people, and the table's of the same rows, which no page can do without. A ratio is of
// medians of times that were taken in turns.
func BenchmarkPeople(b *testing.B) {
	for _, backend := range []struct {
		name string
		make func(*testing.B) keystore.Backend
	}{{"bbolt", boltBackend}, {"PostgreSQL", postgresBackend}} {
		b.Run(backend.name, func(b *testing.B) {
			s := newScale(b, backend.make(b), *subjects, 100_000)
			pages, took, grown := s.all(s.plain)
			b.Logf("%d pages of everybody took %.0f us each; the heap is %.2f MB larger after them than after the first", pages,
				float64(took.Microseconds())/float64(pages), float64(grown)/1e6)
			list := func() { s.list() }
			b.Run("list", func(b *testing.B) { paired(b, list, func() { s.get(s.plain, "") }) })
			b.Run("list-masked", func(b *testing.B) {
				paired(b, func() { s.rows(s.clients.Stored) }, func() { s.get(s.masked, "") })
			})
			b.Run("list-revealed", func(b *testing.B) {
				paired(b, func() { s.rows(s.clients.Export) }, func() { s.get(s.revealed, "") })
			})
			search := func() { s.get(s.plain, "?q=client/"+s.someone()) }
			b.Run("search", func(b *testing.B) { paired(b, func() { s.status(s.someone()) }, search) })
			b.Run("search-id", func(b *testing.B) {
				paired(b, func() { s.status(s.someone()) }, func() { s.get(s.plain, "?q="+s.someone()) })
			})
			b.Run("search-list", func(b *testing.B) { paired(b, list, search) })
		})
	}
}

func boltBackend(b *testing.B) keystore.Backend {
	db, err := boltstore.Create(filepath.Join(b.TempDir(), "oubli.keys"), nil)
	require.NoError(b, err)
	return db
}

func postgresBackend(b *testing.B) keystore.Backend {
	db, err := pgstore.Create(context.Background(), pgtest.Shared(b).Database(b), nil)
	require.NoError(b, err)
	return db
}

func (s *scale) someone() string { return strconv.Itoa(rand.IntN(s.n) + 1) }

// list is what the keystore does for the first page.
func (s *scale) list() []keystore.Status {
	list, _, err := s.keys.List(context.Background(), keystore.ListQuery{Limit: perPage})
	require.NoError(s.t, err)
	require.Len(s.t, list, perPage)
	return list
}

// rows is what keystore and table do for it.
func (s *scale) rows(read func(context.Context, ...keystore.Subject) ([][][]fieldcrypt.NamedValue, error)) {
	var subjects []keystore.Subject
	for _, st := range s.list() {
		subjects = append(subjects, st.Subject)
	}
	rows, err := read(context.Background(), subjects...)
	require.NoError(s.t, err)
	require.Len(s.t, rows[perPage-1], 1)
}

// status is what the keystore does for a search.
func (s *scale) status(id string) {
	sts, err := s.keys.Status(context.Background(), subj(s.t, "client/"+id))
	require.NoError(s.t, err)
	require.Equal(s.t, keystore.StateActive, sts[0].State)
}

// paired times both in turns and reports the medians and their ratio; and that of the
// fastest, which other work on the machine disturbs least.
func paired(b *testing.B, floor, ours func()) {
	const calls = 20
	var f, o []time.Duration
	timed := func(run func()) time.Duration {
		start := time.Now()
		for range calls {
			run()
		}
		return time.Since(start) / calls
	}
	for i := 0; b.Loop(); i++ {
		if i%2 == 0 {
			f = append(f, timed(floor))
			o = append(o, timed(ours))
		} else {
			o = append(o, timed(ours))
			f = append(f, timed(floor))
		}
	}
	slices.Sort(f)
	slices.Sort(o)
	fm, om := f[len(f)/2], o[len(o)/2]
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(fm.Nanoseconds())/1000, "floor-us")
	b.ReportMetric(float64(om.Nanoseconds())/1000, "page-us")
	b.ReportMetric(float64(om)/float64(fm), "ratio")
	b.ReportMetric(float64(o[0])/float64(f[0]), "ratio-of-fastest")
}
