package pgadopt

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

var benchRows = flag.Int("rows", 20_000, "how many rows BenchmarkRun seals, of a person each")

// BenchmarkRun seals a table of rows with three texts of 32 bytes, of a person each who has
// no keys yet (or has some, but not in memory), and beside it updates a copy of the table to texts of the same length as
// the envelopes, in as many transactions; in both an application updates rows meanwhile.
//
//	go test ./cmd/oubli/internal/pgadopt -run '^$' -bench Run -benchtime 1x -timeout 60m -args -rows 1000000
func BenchmarkRun(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(200)) // as the command does
	bolt := func(b *testing.B, _ *pgtest.Server) keystore.Backend {
		db, err := boltstore.Create(filepath.Join(b.TempDir(), "oubli.keys"), nil)
		require.NoError(b, err)
		return db
	}
	for _, c := range []struct {
		name  string
		known bool // everybody has keys already, as in the second table of a database
		store func(b *testing.B, server *pgtest.Server) keystore.Backend
	}{
		{"bbolt", false, bolt},
		{"bbolt-known", true, bolt},
		{"postgres", false, func(b *testing.B, server *pgtest.Server) keystore.Backend {
			db, err := pgstore.Create(b.Context(), server.Database(b), nil)
			require.NoError(b, err)
			return db
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var ours, floor, ratio, per, memory []float64
			var waits, floorWaits []time.Duration
			for b.Loop() {
				b.StopTimer()
				w := newBench(b, c.store)
				if c.known {
					w.meet(b)
				}
				b.StartTimer()
				var report RunReport
				took, waited, most := w.beside(b, "customers", func() {
					var err error
					report, err = Run(b.Context(), Config{DB: w.db, Keys: w.keys, Tables: w.tables})
					require.NoError(b, err)
				})
				b.StopTimer()
				r := report.Tables[0]
				require.EqualValues(b, 3**benchRows, r.Sealed)
				batch := max(1, *benchRows/int(r.Writes))
				plain, floorWaited, _ := w.beside(b, "plain", func() { w.update(b, batch) })
				ours, floor = append(ours, us(took)), append(floor, us(plain))
				ratio = append(ratio, float64(took)/float64(plain))
				per, memory = append(per, float64(batch)), append(memory, most)
				waits, floorWaits = append(waits, waited...), append(floorWaits, floorWaited...)
				b.StartTimer()
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(ours), "us/row")
			b.ReportMetric(median(floor), "floor-us/row")
			b.ReportMetric(median(ratio), "ratio")
			b.ReportMetric(median(per), "rows/tx")
			b.ReportMetric(median(memory), "heap-MB")
			b.ReportMetric(percentile(waits, 99), "p99-wait-ms")
			b.ReportMetric(percentile(waits, 100), "max-wait-ms")
			b.ReportMetric(percentile(floorWaits, 99), "floor-p99-wait-ms")
		})
	}
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(*benchRows) }

func median(l []float64) float64 {
	l = slices.Sorted(slices.Values(l))
	return l[len(l)/2]
}

// percentile is in milliseconds.
func percentile(l []time.Duration, p int) float64 {
	l = slices.Sorted(slices.Values(l))
	return float64(l[(len(l)-1)*p/100].Microseconds()) / 1000
}

type benchWorld struct {
	db     *pgxpool.Pool
	keys   *keystore.Store
	tables []*pgmap.Table
}

func newBench(b *testing.B, store func(*testing.B, *pgtest.Server) keystore.Backend) *benchWorld {
	ctx := b.Context()
	server := pgtest.Start(b, &pgtest.Options{Settings: map[string]string{"shared_buffers": "128MB"}})
	db, err := pgmap.Connect(ctx, server.Database(b))
	require.NoError(b, err)
	b.Cleanup(db.Close)
	w := &benchWorld{db: db}
	backend := store(b, server)
	root, err := rootfile.New([]string{filepath.Join(b.TempDir(), "oubli.root")}, nil)
	require.NoError(b, err)
	require.NoError(b, keystore.Create(ctx, backend, root, nil))
	w.keys, err = keystore.Open(ctx, backend, root, &keystore.Options{CacheSize: 10_000}) // as the command does
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, w.keys.Close()) })
	for _, name := range []string{"customers", "plain"} {
		for _, sql := range []string{
			`create table ` + name + ` (id bigint primary key, name text, email text, street text, country text, logins int not null default 0)`,
			`insert into ` + name + ` select i, rpad('name ' || i, 32, 'n'), rpad('email ' || i, 32, 'e'), rpad('street ' || i, 32, 's'), 'FR' from generate_series(1, ` + fmt.Sprint(*benchRows) + `) i`,
			`vacuum (analyze, freeze) ` + name,
		} {
			_, err := db.Exec(ctx, sql)
			require.NoError(b, err)
		}
	}
	m, err := datamap.Parse("map", []byte(`{tables: {customers: {subject: customer=id, personal: [name, email, street]}}}`))
	require.NoError(b, err)
	w.tables, err = pgmap.Load(ctx, db, m)
	require.NoError(b, err)
	require.NoError(b, Widen(ctx, db, w.tables[0], nil))
	return w
}

// meet makes keys for everybody.
func (w *benchWorld) meet(b *testing.B) {
	var some []keystore.Subject
	for id := 1; id <= *benchRows; id++ {
		s, err := keystore.NewSubject("customer", id)
		require.NoError(b, err)
		if some = append(some, s); len(some) == 10_000 || id == *benchRows {
			_, err := w.keys.Ensure(b.Context(), nil, []string{""}, some...)
			require.NoError(b, err)
			some = some[:0]
		}
	}
}

// beside runs f while an application updates rows of a table, and tells how long those
// updates took, and the most heap in MB.
func (w *benchWorld) beside(b *testing.B, table string, f func()) (took time.Duration, waits []time.Duration, heap float64) {
	_, err := w.db.Exec(b.Context(), "checkpoint")
	require.NoError(b, err)
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	var both sync.WaitGroup
	both.Go(func() {
		for ctx.Err() == nil {
			start := time.Now()
			if _, err := w.db.Exec(ctx, "update "+table+" set logins = logins + 1 where id = $1", 1+rand.IntN(*benchRows)); err == nil {
				waits = append(waits, time.Since(start))
			}
			time.Sleep(time.Millisecond)
		}
	})
	both.Go(func() {
		var m runtime.MemStats
		for ctx.Err() == nil {
			runtime.ReadMemStats(&m)
			heap = max(heap, float64(m.HeapInuse)/(1<<20))
			time.Sleep(50 * time.Millisecond)
		}
	})
	start := time.Now()
	f()
	took = time.Since(start)
	stop()
	both.Wait()
	return took, waits, heap
}

// update is the floor: an UPDATE to texts of an envelope's length.
func (w *benchWorld) update(b *testing.B, batch int) {
	ctx := b.Context()
	for from := 0; from < *benchRows; from += batch {
		tx, err := w.db.Begin(ctx)
		require.NoError(b, err)
		_, err = tx.Exec(ctx, "set local synchronous_commit = off")
		require.NoError(b, err)
		_, err = tx.Exec(ctx, `update plain set name = rpad(name, 94, 'x'), email = rpad(email, 94, 'x'), street = rpad(street, 94, 'x') where id > $1 and id <= $2`, from, from+batch)
		require.NoError(b, err)
		require.NoError(b, tx.Commit(ctx))
	}
}
