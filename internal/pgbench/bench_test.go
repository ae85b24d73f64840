package pgbench

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/fieldcrypt/pgrows"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

var subjects = flag.Int("subjects", 60_000, "how many subjects the keystore holds")

const (
	tableRows   = 20_000 // of the application's tables, the first subjects'
	batch       = 1_000  // rows that are read at a time
	createBatch = 10_000
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// plain is a row with its 4 personal fields in the clear, and sealed the same through oubli.
type plain struct {
	ID      int64  `db:"id"`
	Name    string `db:"name"`
	Email   string `db:"email"`
	Phone   string `db:"phone"`
	Street  string `db:"street"`
	Country string `db:"country"`
}

type sealed struct {
	ID      int64             `db:"id" oubli:",subject=customer"`
	Name    string            `db:"name" oubli:"name"`
	Email   string            `db:"email" oubli:"email"`
	Phone   string            `db:"phone" oubli:"phone"`
	Street  string            `db:"street" oubli:"street"`
	Country string            `db:"country"`
	Privacy fieldcrypt.Status `db:"-"`
}

const columns = "id, name, email, phone, street, country"

type world struct {
	dsn   string
	pool  *pgxpool.Pool
	roots keystore.RootStore
	n     int // subjects from the first that have keys
	new   int // those after them that do
	gone  int // those before n that are erased
}

func BenchmarkPostgreSQL(b *testing.B) {
	w := load(b)
	b.Run("read/warm", w.readWarm)
	b.Run("read/cold", w.readCold)
	b.Run("write/known", func(b *testing.B) { w.write(b, true) })
	b.Run("write/new", func(b *testing.B) { w.write(b, false) })
	b.Run("erase/1", func(b *testing.B) { w.erase(b, 1) })
	b.Run("erase/1000", func(b *testing.B) { w.erase(b, 1000) })
}

func load(b *testing.B) *world {
	ctx := context.Background()
	w := &world{dsn: pgtest.Shared(b).Database(b)}
	var err error
	w.pool, err = pgxpool.New(ctx, w.dsn)
	require.NoError(b, err)
	dir, err := os.MkdirTemp("", "oubli-bench")
	require.NoError(b, err)
	w.roots, err = rootfile.New([]string{filepath.Join(dir, "oubli.root")}, nil)
	require.NoError(b, err)
	db, err := pgstore.Create(ctx, w.dsn, nil)
	require.NoError(b, err)
	require.NoError(b, keystore.Create(ctx, db, w.roots, &keystore.CreateOptions{Lease: 100 * time.Millisecond}))
	require.NoError(b, db.Close())
	keys := w.open(b, 0)
	start := time.Now()
	for w.n < *subjects {
		n := min(createBatch, *subjects-w.n)
		_, err := keys.Ensure(ctx, nil, []string{""}, people(b, w.n, n)...)
		require.NoError(b, err)
		w.n += n
	}
	took := time.Since(start)
	var size int64
	require.NoError(b, w.pool.QueryRow(ctx, "select pg_total_relation_size('oubli.records')").Scan(&size))
	b.Logf("created %d subjects in batches of %d: %.1f us and %.0f bytes each, with the index",
		w.n, createBatch, float64(took.Microseconds())/float64(w.n), float64(size)/float64(w.n))
	for _, name := range []string{"plain", "sealed"} {
		w.exec(b, fmt.Sprintf("create table %s (id bigint primary key, name text, email text, phone text, street text, country text)", name))
	}
	codec, err := fieldcrypt.NewCodec[sealed](keys, "customers", nil)
	require.NoError(b, err)
	var stored, clear [][]any
	for from := 0; from < tableRows; from += batch {
		rows := make([]sealed, batch)
		for i := range rows {
			p := person(int64(from + i + 1))
			rows[i] = sealed{p.ID, p.Name, p.Email, p.Phone, p.Street, p.Country, ""}
			clear = append(clear, []any{p.ID, p.Name, p.Email, p.Phone, p.Street, p.Country})
		}
		rows, err := codec.SealAll(ctx, rows...)
		require.NoError(b, err)
		for _, r := range rows {
			stored = append(stored, []any{r.ID, r.Name, r.Email, r.Phone, r.Street, r.Country})
		}
	}
	names := []string{"id", "name", "email", "phone", "street", "country"}
	_, err = w.pool.CopyFrom(ctx, pgx.Identifier{"plain"}, names, pgx.CopyFromRows(clear))
	require.NoError(b, err)
	_, err = w.pool.CopyFrom(ctx, pgx.Identifier{"sealed"}, names, pgx.CopyFromRows(stored))
	require.NoError(b, err)
	w.exec(b, "vacuum analyze")
	w.exec(b, "checkpoint")
	require.NoError(b, keys.Close())
	return w
}

func (w *world) exec(b *testing.B, sql string) {
	_, err := w.pool.Exec(context.Background(), sql)
	require.NoError(b, err)
}

// open opens the keystore with a cache of some size; 0 is the default.
func (w *world) open(b *testing.B, cache int) *keystore.Store {
	ctx := context.Background()
	db, err := pgstore.Open(ctx, w.dsn, nil)
	require.NoError(b, err)
	keys, err := keystore.Open(ctx, db, w.roots, &keystore.Options{CacheSize: cache})
	require.NoError(b, err)
	return keys
}

func people(b *testing.B, from, n int) []keystore.Subject {
	l := make([]keystore.Subject, n)
	for i := range l {
		s, err := keystore.NewSubject("customer", from+i+1)
		require.NoError(b, err)
		l[i] = s
	}
	return l
}

// person has four fields of 32 bytes.
func person(id int64) plain {
	field := func(name string) string { return fmt.Sprintf("%-12s%020d", name, id) }
	return plain{id, field("name"), field("email"), field("phone"), field("street"), "FR"}
}

// ids are those of rows that stand apart: nobody reads them in the order of the table.
func ids() []int64 {
	l := make([]int64, tableRows)
	for i, n := range rand.Perm(tableRows) {
		l[i] = int64(n + 1)
	}
	return l
}

func us(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / 1000 / float64(n) }

// paired runs both in turns and reports the medians of their times, for each of n, and
// their ratio.
func paired(b *testing.B, n int, prepare, floor, ours func()) {
	var f, o []time.Duration
	timed := func(run func()) time.Duration {
		start := time.Now()
		run()
		return time.Since(start)
	}
	for i := 0; b.Loop(); i++ {
		prepare()
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
	b.ReportMetric(us(fm, n), "floor-us")
	b.ReportMetric(us(om, n), "oubli-us")
	b.ReportMetric(float64(om)/float64(fm), "ratio")
}

const byKeys = "select " + columns + " from %s where id = any($1)"

func (w *world) readPlain(b *testing.B, ids []int64) { w.readPlainFrom(b, "plain", ids) }

func (w *world) readPlainFrom(b *testing.B, table string, ids []int64) {
	rows, err := w.pool.Query(context.Background(), fmt.Sprintf(byKeys, table), ids)
	require.NoError(b, err)
	got, err := pgx.CollectRows(rows, pgx.RowToStructByName[plain])
	require.NoError(b, err)
	require.Len(b, got, len(ids))
}

func (w *world) readSealed(b *testing.B, codec *fieldcrypt.Codec[sealed], ids []int64) {
	ctx := context.Background()
	rows, err := w.pool.Query(ctx, fmt.Sprintf(byKeys, "sealed"), ids)
	require.NoError(b, err)
	got, err := pgrows.CollectRows(ctx, rows, codec)
	require.NoError(b, err)
	require.Len(b, got, len(ids))
	require.Equal(b, person(got[0].ID).Email, got[0].Email)
}

// readWarm reads 1,000 rows by key whose people's keys are at hand.
func (w *world) readWarm(b *testing.B) {
	keys := w.open(b, 0)
	defer keys.Close()
	codec, err := fieldcrypt.NewCodec[sealed](keys, "customers", nil)
	require.NoError(b, err)
	all := ids()
	for at := 0; at < len(all); at += batch {
		w.readSealed(b, codec, all[at:at+batch])
		w.readPlain(b, all[at:at+batch])
	}
	var l []int64
	var stored []time.Duration // the same rows, read as they are stored: what is larger takes longer
	paired(b, batch, func() {
		at := rand.N(len(all) - batch)
		l = all[at : at+batch]
		start := time.Now()
		w.readPlainFrom(b, "sealed", l)
		stored = append(stored, time.Since(start))
	}, func() { w.readPlain(b, l) }, func() { w.readSealed(b, codec, l) })
	slices.Sort(stored)
	b.ReportMetric(us(stored[len(stored)/2], batch), "stored-us")
}

// readCold reads 1,000 rows by key whose people's keys are not at hand. The floor
// reads the rows, and then the same people's records of the keystore with = ANY on the
// keys, without opening them.
func (w *world) readCold(b *testing.B) {
	ctx := context.Background()
	var keys *keystore.Store
	var codec *fieldcrypt.Codec[sealed]
	defer func() { keys.Close() }()
	// The floor's keystore: the same records under one key each.
	w.exec(b, "create table if not exists records (key bytea primary key, rev bigint, value bytea)")
	w.exec(b, "insert into records select substr(key, 4), rev, value from oubli.records where page < 32 and substr(key, 1, 1) = 'r' on conflict do nothing")
	w.exec(b, "vacuum analyze records")
	all := ids()
	at := 0
	var l []int64
	var names [][]byte
	paired(b, batch, func() {
		if at == 0 { // once around: forget them, but not the shards
			if keys != nil {
				require.NoError(b, keys.Close())
			}
			keys = w.open(b, 0)
			_, err := keys.Lookup(ctx, nil, people(b, tableRows, min(w.n-tableRows, 50_000))...)
			require.NoError(b, err)
			codec, err = fieldcrypt.NewCodec[sealed](keys, "customers", nil)
			require.NoError(b, err)
		}
		l = all[at : at+batch]
		at = (at + batch) % len(all)
		names = names[:0]
		for _, id := range l {
			names = append(names, fmt.Appendf(nil, "customer/%d", id))
		}
	}, func() {
		w.readPlain(b, l)
		rows, err := w.pool.Query(ctx, "select key, rev, value from records where key = any($1)", names)
		require.NoError(b, err)
		n := 0
		var key, value []byte
		var rev int64
		_, err = pgx.ForEachRow(rows, []any{&key, &rev, &value}, func() error { n++; return nil })
		require.NoError(b, err)
		require.Equal(b, batch, n)
	}, func() { w.readSealed(b, codec, l) })
}

// write inserts rows of people whose keys are at hand, or of people who have none yet.
func (w *world) write(b *testing.B, known bool) {
	ctx := context.Background()
	keys := w.open(b, 0)
	defer keys.Close()
	w.exec(b, "drop table if exists plain_orders, sealed_orders")
	for _, name := range []string{"plain_orders", "sealed_orders"} {
		w.exec(b, fmt.Sprintf("create table %s (id bigint primary key, customer bigint, name text, email text, phone text, street text, country text)", name))
	}
	type order struct {
		ID       int64             `db:"id"`
		Customer int64             `db:"customer" oubli:",subject=customer"`
		Name     string            `db:"name" oubli:"name"`
		Email    string            `db:"email" oubli:"email"`
		Phone    string            `db:"phone" oubli:"phone"`
		Street   string            `db:"street" oubli:"street"`
		Country  string            `db:"country"`
		Privacy  fieldcrypt.Status `db:"-"`
	}
	codec, err := fieldcrypt.NewCodec[order](keys, "orders", nil)
	require.NoError(b, err)
	table, err := pgrows.New[order, int64](w.pool, codec, &pgrows.Options{Name: pgx.Identifier{"sealed_orders"}})
	require.NoError(b, err)
	const insert = `insert into plain_orders (id, customer, name, email, phone, street, country)
		values ($1, $2, $3, $4, $5, $6, $7) returning id, customer, name, email, phone, street, country`
	next := int64(0)
	row := func() order {
		customer := int64(1 + rand.N(100))
		if !known {
			w.new++
			customer = int64(w.n + w.new)
		}
		p := person(customer)
		return order{next, customer, p.Name, p.Email, p.Phone, p.Street, p.Country, ""}
	}
	if known {
		_, err := keys.Ensure(ctx, nil, []string{""}, people(b, 0, 101)...)
		require.NoError(b, err)
	}
	var o order
	paired(b, 1, func() { next++; o = row() }, func() {
		var back order
		err := w.pool.QueryRow(ctx, insert, o.ID, o.Customer, o.Name, o.Email, o.Phone, o.Street, o.Country).
			Scan(&back.ID, &back.Customer, &back.Name, &back.Email, &back.Phone, &back.Street, &back.Country)
		require.NoError(b, err)
	}, func() {
		back, err := table.Create(ctx, o)
		require.NoError(b, err)
		require.Equal(b, o.Email, back.Email)
	})
}

// erase erases subjects at grace 0, durable and final. What is left out is the
// wait for the lease: it is over before the keys are destroyed.
func (w *world) erase(b *testing.B, n int) {
	ctx := context.Background()
	keys := w.open(b, 0)
	defer keys.Close()
	var took []time.Duration
	for range 7 {
		w.gone += n
		all := people(b, w.n-w.gone, n)
		rand.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
		requests := make([]keystore.Request, n)
		for i := range requests {
			requests[i].Subject = all[i]
		}
		start := time.Now()
		errs, err := keys.RequestErasure(ctx, requests...)
		spent := time.Since(start)
		require.NoError(b, err)
		for _, err := range errs {
			require.NoError(b, err)
		}
		require.NoError(b, keys.AwaitErasing(ctx, all...))
		start = time.Now()
		done, err := keys.Erase(ctx, requests...)
		took = append(took, spent+time.Since(start))
		require.NoError(b, err)
		for i := range done {
			require.NoError(b, done[i].Err)
			require.True(b, done[i].Final)
		}
	}
	for b.Loop() { // those seven are what is measured, whatever -benchtime says
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms")
}
