package pgrows_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/fieldcrypt/pgrows"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var _ anonymize.Source[customer] = (*pgrows.Table[customer, int64])(nil)

// customer has the subject as the table's key, and a field of each kind.
type customer struct {
	ID        int64                         `oubli:",subject=customer"`
	FirstName string                        `oubli:"first_name,replace=Erased"`
	Mail      *string                       `oubli:"email" db:"E-Mail"`
	Photo     []byte                        `oubli:"photo"`
	BirthDate fieldcrypt.Private[time.Time] `oubli:"birth_date,blank=year"`
	Phone     fieldcrypt.Private[string]    `oubli:"phone"` // in a bytea
	Address                                 // embedded
	Privacy   fieldcrypt.Status
	CreatedAt time.Time
	Plan      string
	Active    bool
	Visits    int
}

type Address struct {
	Street  string `oubli:"street,purpose=tax"` // in a bytea
	Country string
}

const customers = `CREATE TABLE customers (
	id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	first_name text NOT NULL,
	"E-Mail"   text,
	photo      bytea,
	birth_date text,
	phone      bytea,
	street     bytea NOT NULL,
	country    text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	plan       text NOT NULL DEFAULT 'basic',
	active     boolean NOT NULL DEFAULT true,
	visits     integer NOT NULL DEFAULT 7,
	internal   text DEFAULT 'not in the struct'
)`

// invoice is bound to its own key; its person stands in another column.
type invoice struct {
	No       int32   `oubli:"no,key" db:"invoice_no"`
	Customer int64   `oubli:",subject=customer" db:"customer_id"`
	Text     string  `oubli:"text,replace=gone" db:"Billing Text"`
	Note     *string `oubli:"note"`
	Privacy  fieldcrypt.Status
	Total    int64
	Gross    int64
}

const invoices = `CREATE TABLE "%s billing"."Invoices" (
	invoice_no     serial PRIMARY KEY,
	customer_id    bigint NOT NULL,
	"Billing Text" varchar NOT NULL,
	note           text,
	total          bigint NOT NULL,
	gross          bigint GENERATED ALWAYS AS (total * 2) STORED
)`

// world is a database with these tables, and a keystore.
type world struct {
	t         testing.TB
	dsn       string
	schema    string
	pool      *pgxpool.Pool
	keys      *keystore.Store
	codec     *fieldcrypt.Codec[customer]
	customers *pgrows.Table[customer, int64]
	invoiceC  *fieldcrypt.Codec[invoice]
	invoices  *pgrows.Table[invoice, int32]
}

var worlds atomic.Int32

// newWorld makes a world on a keystore in memory, in schemas of its own, which is
// quicker than a database. settings change the pool's.
func newWorld(t testing.TB, settings ...func(*pgxpool.Config)) *world {
	return newWorldOn(t, sharedDSN(t), keystoretest.New(t), settings...)
}

func sharedDSN(t testing.TB) string { return pgtest.Shared(t).DSN() }

func newWorldOn(t testing.TB, dsn string, keys *keystore.Store, settings ...func(*pgxpool.Config)) *world {
	t.Helper()
	schema := fmt.Sprintf("world%d", worlds.Add(1))
	dsn += "&synchronous_commit=off&search_path=" + schema
	w := &world{t: t, dsn: dsn, schema: schema, keys: keys, pool: connect(t, dsn, settings...)}
	w.exec("CREATE SCHEMA "+schema, fmt.Sprintf(`CREATE SCHEMA "%s billing"`, schema), customers, fmt.Sprintf(invoices, schema))
	var err error
	w.codec, err = fieldcrypt.NewCodec[customer](keys, "customers", nil)
	require.NoError(t, err)
	w.invoiceC, err = fieldcrypt.NewCodec[invoice](keys, "invoices", nil)
	require.NoError(t, err)
	w.customers, err = pgrows.New[customer, int64](w.pool, w.codec, nil)
	require.NoError(t, err)
	w.invoices, err = pgrows.New[invoice, int32](w.pool, w.invoiceC, &pgrows.Options{Name: w.invoiceTable()})
	require.NoError(t, err)
	return w
}

func (w *world) invoiceTable() pgx.Identifier {
	return pgx.Identifier{w.schema + " billing", "Invoices"}
}

func connect(t testing.TB, dsn string, settings ...func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	for _, s := range settings {
		s(cfg)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func mode(m pgx.QueryExecMode) func(*pgxpool.Config) {
	return func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = m }
}

func maxConns(n int32) func(*pgxpool.Config) { return func(c *pgxpool.Config) { c.MaxConns = n } }

func (w *world) exec(statements ...string) {
	w.t.Helper()
	for _, s := range statements {
		_, err := w.pool.Exec(context.Background(), s)
		require.NoError(w.t, err, s)
	}
}

// value reads one value.
func value[T any](w *world, sql string, args ...any) (v T) {
	w.t.Helper()
	require.NoError(w.t, w.pool.QueryRow(context.Background(), sql, args...).Scan(&v), sql)
	return v
}

func ada() customer {
	mail := "ada@example.org"
	return customer{
		FirstName: "Ada", Mail: &mail, Photo: []byte{0, 255, 7},
		BirthDate: fieldcrypt.NewPrivate(time.Date(1990, 5, 17, 0, 0, 0, 0, time.UTC)),
		Phone:     fieldcrypt.NewPrivate(`+31 \x 7`),
		Address:   Address{Street: "1 Analytical Row", Country: "GB"},
		Active:    true, Visits: 1,
	}
}

func (w *world) create(c customer) customer {
	w.t.Helper()
	c, err := w.customers.Create(within(w.t), c)
	require.NoError(w.t, err)
	return c
}

// requireAda checks that the personal fields are Ada's.
func requireAda(t testing.TB, c customer) {
	t.Helper()
	want := ada()
	require.Equal(t, want.FirstName, c.FirstName)
	require.Equal(t, want.Mail, c.Mail)
	require.Equal(t, want.Photo, c.Photo)
	require.Equal(t, want.Address, c.Address)
	require.Equal(t, fieldcrypt.StatusOpen, c.Privacy)
	born, ok := c.BirthDate.Get()
	require.True(t, ok)
	require.Equal(t, 1990, born.Year())
	phone, ok := c.Phone.Get()
	require.True(t, ok)
	require.Equal(t, `+31 \x 7`, phone)
}

// within is a context that ends with the test, which may not hang.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func subj(t testing.TB, text string) keystore.Subject {
	t.Helper()
	s, err := keystore.ParseSubject(text)
	require.NoError(t, err)
	return s
}

func all[T any](t testing.TB, seq func(func(T, error) bool)) (rows []T) {
	t.Helper()
	for row, err := range seq {
		require.NoError(t, err)
		rows = append(rows, row)
	}
	return rows
}
