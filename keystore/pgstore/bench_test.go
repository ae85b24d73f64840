package pgstore_test

import (
	crand "crypto/rand"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
)

var subjects = flag.Int("subjects", 1_000_000, "how many subjects the benchmarks load")

// As a keystore of the default size places its subjects.
const pages, shards = 32, 8192

// ringOf is a write of a ring of a usual size, as a subject's first key makes it.
func ringOf(n int) keystore.Write {
	shard := uint16(n * 2654435761 % shards)
	key := binary.BigEndian.AppendUint16([]byte{byte(int(shard) / (shards / pages)), 'r'}, shard)
	value := make([]byte, 71)
	crand.Read(value)
	return keystore.Write{Op: keystore.Put, Key: fmt.Appendf(key, "customer/%d", n), Rev: keystore.Rev(rand.Uint64() | 1), Value: value}
}

func pageKey(page byte) []byte { return []byte{page, 'k'} }

// load writes the pages and n rings, the latter in commits of 16,000, and returns the keys
// of the rings.
func load(t testing.TB, s keystore.Backend, n int) (keys [][]byte) {
	t.Helper()
	groups := make([]keystore.Group, pages)
	for p := range groups {
		groups[p] = keystore.Group{{Op: keystore.Put, Key: pageKey(byte(p)), Rev: 1, Value: make([]byte, 36*shards/pages)}}
	}
	_, err := s.Commit(t.Context(), groups)
	require.NoError(t, err)
	for at := 0; at < n; {
		groups := make([]keystore.Group, pages)
		for range min(16000, n-at) {
			w := ringOf(at)
			groups[w.Key[0]] = append(groups[w.Key[0]], w)
			keys = append(keys, w.Key)
			at++
		}
		_, err := s.Commit(t.Context(), groups)
		require.NoError(t, err)
	}
	return keys
}

// sizeOf is what the rings take with their index, but not the pages.
func sizeOf(t testing.TB, dsn string) (size int64) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer c.Close(t.Context())
	require.NoError(t, c.QueryRow(t.Context(), "select pg_relation_size('oubli.records') + pg_relation_size('oubli.records_pkey')").Scan(&size))
	return size
}

func TestASubjectTakesFewBytes(t *testing.T) {
	const n = 50_000
	dsn := pgtest.Shared(t).Database(t)
	load(t, create(t, dsn, nil), n)
	require.Less(t, sizeOf(t, dsn)/n, int64(220))
}

func BenchmarkStore(b *testing.B) {
	server := pgtest.Start(b, nil)
	direct := server.DSN()
	s, err := pgstore.Create(b.Context(), direct, nil)
	require.NoError(b, err)
	defer s.Close()
	var keys [][]byte
	b.Run("load", func(b *testing.B) {
		for range b.N { // once: more would load the same again
			if keys == nil {
				keys = load(b, s, *subjects)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(*subjects), "ns/subject")
		b.ReportMetric(float64(sizeOf(b, direct))/float64(*subjects), "B/subject")
	})
	rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	next := *subjects
	for name, dsn := range map[string]string{"direct": direct, "pgbouncer": server.Bouncer(b, "transaction")} {
		b.Run(name, func(b *testing.B) { benchmark(b, dsn, keys, &next) })
	}
}

// benchmark measures each operation beside what plain pgx needs for the like of it.
func benchmark(b *testing.B, dsn string, keys [][]byte, next *int) {
	ctx := b.Context()
	s, err := pgstore.Open(ctx, dsn, nil)
	require.NoError(b, err)
	defer s.Close()
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(b, err)
	if b.Name() != "BenchmarkStore/direct" { // where plain pgx fails in its default mode
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(b, err)
	defer pool.Close()
	for _, sql := range []string{
		"create table if not exists plain (id bigint primary key, a text, b text)",
		"create table if not exists by_key as select int2send(page) || key as key, rev, value from oubli.records",
		"create unique index if not exists by_key_key on by_key (key)",
		"vacuum analyze by_key", "vacuum analyze oubli.records",
	} {
		_, err := pool.Exec(ctx, sql)
		require.NoError(b, err)
	}

	b.Run("insert of a row, plain", func(b *testing.B) {
		for b.Loop() {
			*next++
			_, err := pool.Exec(ctx, "insert into plain values ($1, $2, $3)", *next, "a text of usual length", "and another one beside it")
			require.NoError(b, err)
		}
	})
	b.Run("new subject, commit", func(b *testing.B) {
		for b.Loop() {
			*next++
			w := ringOf(*next)
			_, err := s.Commit(ctx, []keystore.Group{{w, {Op: keystore.Guard, Key: pageKey(w.Key[0]), If: 1}}})
			require.NoError(b, err)
		}
	})
	b.Run("new subject, get", func(b *testing.B) {
		for b.Loop() {
			w := ringOf(*next + 1)
			_, err := s.Get(ctx, [][]byte{pageKey(w.Key[0]), {w.Key[0], 'c'}, w.Key})
			require.NoError(b, err)
		}
	})
	for _, n := range []int{1, 1000} {
		some := func() [][]byte { at := rand.N(len(keys) - n); return keys[at : at+n] }
		b.Run(fmt.Sprintf("read %d, plain = any", n), func(b *testing.B) {
			for b.Loop() {
				var wanted [][]byte
				for _, k := range some() {
					wanted = append(wanted, append([]byte{0}, k...))
				}
				rows, err := pool.Query(ctx, "select key, rev, value from by_key where key = any($1)", wanted)
				require.NoError(b, err)
				var key, value []byte
				var rev int64
				tag, err := pgx.ForEachRow(rows, []any{&key, &rev, &value}, func() error { return nil })
				require.NoError(b, err)
				require.EqualValues(b, n, tag.RowsAffected())
			}
		})
		b.Run(fmt.Sprintf("read %d", n), func(b *testing.B) {
			for b.Loop() {
				recs, err := s.Get(ctx, some())
				require.NoError(b, err)
				require.NotZero(b, recs[n-1].Rev)
			}
		})
	}
	b.Run("commit 16000 updates", func(b *testing.B) {
		recs, err := s.Get(ctx, keys[:16000])
		require.NoError(b, err)
		for b.Loop() {
			var g keystore.Group
			for i := range recs {
				w := keystore.Write{Op: keystore.Put, Key: recs[i].Key, If: recs[i].Rev, Rev: recs[i].Rev + 1, Value: recs[i].Value}
				recs[i].Rev++
				g = append(g, w)
			}
			_, err = s.Commit(ctx, []keystore.Group{g})
			require.NoError(b, err)
		}
	})
}
