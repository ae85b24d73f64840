package bench

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
	"github.com/oubli/oubli/keystore/rootfile"
	"github.com/stretchr/testify/require"
)

var subjects = flag.Int("subjects", 20_000, "how many subjects the keystore holds")

const createBatch = 10_000

// world is a loaded keystore and its floor, made once for all benchmarks.
type world struct {
	*floor
	path  string
	store *keystore.Store
	n     int // subjects made so far
}

var shared *world

func TestMain(m *testing.M) {
	code := m.Run()
	if shared != nil {
		shared.store.Close()
		shared.db.Close()
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

func subject(b testing.TB, i int) keystore.Subject {
	s, err := keystore.NewSubject("customer", i+1)
	require.NoError(b, err)
	return s
}

func list(b testing.TB, from, n int) []keystore.Subject {
	l := make([]keystore.Subject, n)
	for i := range l {
		l[i] = subject(b, from+i)
	}
	return l
}

func openStore(b testing.TB, dir string, cache int) (*keystore.Store, string) {
	ctx := context.Background()
	path := filepath.Join(dir, "oubli.keys")
	roots, err := rootfile.New([]string{filepath.Join(dir, "oubli.root")}, nil)
	require.NoError(b, err)
	if _, err := os.Stat(path); err != nil {
		db, err := boltstore.Create(path, nil)
		require.NoError(b, err)
		require.NoError(b, keystore.Create(ctx, db, roots, nil))
		require.NoError(b, db.Close())
	}
	db, err := boltstore.Open(path, nil)
	require.NoError(b, err)
	s, err := keystore.Open(ctx, db, roots, &keystore.Options{CacheSize: cache})
	require.NoError(b, err)
	return s, path
}

// load makes the world; creating is measured on the way.
func load(b testing.TB) *world {
	if shared != nil {
		return shared
	}
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "oubli-bench")
	require.NoError(b, err)
	w := &world{floor: newFloor(b, dir)}
	w.store, w.path = openStore(b, dir, 100_000)
	var ours, theirs time.Duration
	var largest float64
	for w.n < *subjects {
		n := min(createBatch, *subjects-w.n)
		ps, l := w.pairs(b, w.n, n), list(b, w.n, n)
		runtime.GC()
		start := time.Now()
		require.NoError(b, w.put(ps))
		theirs += time.Since(start)
		runtime.GC()
		start = time.Now()
		_, err := w.store.Ensure(ctx, nil, []string{""}, l...)
		require.NoError(b, err)
		ours += time.Since(start)
		w.n += n
		st, err := os.Stat(w.path)
		require.NoError(b, err)
		if w.n >= 10*createBatch {
			largest = max(largest, float64(st.Size())/float64(w.n))
		}
	}
	compact := filepath.Join(dir, "compact.keys")
	require.NoError(b, w.store.Close())
	require.NoError(b, boltstore.Compact(compact, w.path))
	st, err := os.Stat(compact)
	require.NoError(b, err)
	b.Logf("created %d subjects in batches of %d: oubli %.2f us each, raw puts in the same commits %.2f us each, ratio %.2f; largest file %.0f bytes a subject, compacted %.0f",
		w.n, createBatch, us(ours, w.n), us(theirs, w.n), float64(ours)/float64(theirs), largest, float64(st.Size())/float64(w.n))
	require.NoError(b, os.Remove(compact))
	before := heap()
	start := time.Now()
	w.store, _ = openStore(b, dir, 100_000)
	b.Logf("opened in %.0f ms, %.1f MB of heap", float64(time.Since(start).Microseconds())/1000, float64(heap()-before)/1e6)
	shared = w
	return w
}

func us(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / 1000 / float64(n) }

// paired runs both in turns and reports their times and the ratio. prepare is not timed;
// bare, if not nil, is a second floor.
func paired(b *testing.B, prepare, floor, bare, ours func()) {
	var f, n, o time.Duration
	timed := func(total *time.Duration, run func()) {
		start := time.Now()
		run()
		*total += time.Since(start)
	}
	for b.Loop() {
		prepare()
		timed(&f, floor)
		if bare != nil {
			timed(&n, bare)
		}
		timed(&o, ours)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(f.Nanoseconds())/float64(b.N), "floor-ns")
	b.ReportMetric(float64(o.Nanoseconds())/float64(b.N), "oubli-ns")
	b.ReportMetric(float64(o)/float64(f), "ratio")
	if bare != nil {
		b.ReportMetric(float64(o)/float64(n), "ratio-without-cache")
	}
}

// BenchmarkColdRead reads subjects whose keys are not in the cache, one at a time and
// 1,000 at a time.
func BenchmarkColdRead(b *testing.B) {
	ctx := context.Background()
	w := load(b)
	for _, n := range []int{1, 1000} {
		b.Run(map[int]string{1: "1", 1000: "1000"}[n], func(b *testing.B) {
			// A small cache, so that nearly nothing that is asked for is in it.
			require.NoError(b, w.store.Close())
			w.store, _ = openStore(b, w.dir, max(16, w.n/100))
			defer func() {
				require.NoError(b, w.store.Close())
				w.store, _ = openStore(b, w.dir, 100_000)
			}()
			w.cache.SetMaximum(uint64(max(16, w.n/100)))
			rounds := max(1, 1000/n)
			var dst []keystore.Keys
			for i := range w.n / 50 { // the shards' keys are warm on both sides
				dst, _ = w.store.Lookup(ctx, dst[:0], subject(b, i*50))
			}
			picks := make([][]keystore.Subject, rounds)
			keys := make([][][]byte, rounds)
			bareKeys := make([][][]byte, rounds)
			prepare := func() {
				for r := range rounds {
					picks[r], keys[r], bareKeys[r] = picks[r][:0], keys[r][:0], bareKeys[r][:0]
					for range n {
						picks[r] = append(picks[r], subject(b, rand.IntN(w.n)))
						keys[r] = append(keys[r], w.key(rand.IntN(w.n)))
						bareKeys[r] = append(bareKeys[r], w.key(rand.IntN(w.n)))
					}
				}
			}
			byHand := func(cached bool, keys [][][]byte) func() {
				return func() {
					for r := range rounds {
						require.NoError(b, w.read(cached, keys[r]...))
					}
				}
			}
			paired(b, prepare, byHand(true, keys), byHand(false, bareKeys), func() {
				for r := range rounds {
					var err error
					dst, err = w.store.Lookup(ctx, dst[:0], picks[r]...)
					require.NoError(b, err)
					for i := range dst { // makes the cipher
						if _, _, err := dst[i].Primary(""); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		})
	}
}

// BenchmarkErase erases one subject and 1,000 at once, durable and final.
func BenchmarkErase(b *testing.B) {
	ctx := context.Background()
	w := load(b)
	next := 0
	for _, n := range []int{1, 1000} {
		b.Run(map[int]string{1: "1", 1000: "1000"}[n], func(b *testing.B) {
			var is []int
			var rs []keystore.Request
			prepare := func() {
				is, rs = is[:0], rs[:0]
				for range n {
					is = append(is, next%w.n)
					rs = append(rs, keystore.Request{Subject: subject(b, next%w.n), Unknown: true})
					next += 7
				}
			}
			paired(b, prepare, func() {
				require.NoError(b, w.erase(b, is...))
			}, nil, func() {
				es, err := w.store.Erase(ctx, rs...)
				require.NoError(b, err)
				for _, e := range es {
					if e.Err != nil || !e.Final {
						b.Fatalf("%v: final %v, %v", e.Subject, e.Final, e.Err)
					}
				}
			})
		})
	}
	st, err := os.Stat(w.path)
	require.NoError(b, err)
	b.Logf("after all erasures the file has %.0f bytes a subject", float64(st.Size())/float64(w.n))
}

// TestMemoryOfACachedKey measures what the cache holds for one subject.
func TestMemoryOfACachedKey(t *testing.T) {
	ctx := context.Background()
	const n = 20_000
	dir := t.TempDir()
	s, _ := openStore(t, dir, 2*n)
	defer s.Close()
	l := list(t, 0, n)
	for i := 0; i < n; i += 1000 {
		_, err := s.Ensure(ctx, nil, []string{""}, l[i:i+1000]...)
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	s, _ = openStore(t, dir, 2*n)
	defer s.Close()
	// Warm the shards' keys, which do not grow with the number of subjects.
	_, err := s.Status(ctx, l...)
	require.NoError(t, err)
	before := heap()
	for _, sub := range l {
		k, err := s.Lookup(ctx, nil, sub)
		require.NoError(t, err)
		_, _, err = k[0].Primary("")
		require.NoError(t, err)
	}
	each := (heap() - before) / n
	t.Logf("%d bytes for a cached key", each)
	require.Less(t, each, 1024+1)
	runtime.KeepAlive(l)
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
