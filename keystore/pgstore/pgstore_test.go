package pgstore_test

import (
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/storetest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// schemas numbers the schemas of this process: each store has one of its own.
var schemas atomic.Int64

func freshSchema() string { return fmt.Sprintf("Über \"%d\"", schemas.Add(1)) }

// suite joins the conformance suite with stores in the database of dsn.
func suite(t *testing.T, dsn string) *storetest.Suite {
	return &storetest.Suite{
		New: func() (keystore.Backend, error) {
			return pgstore.Create(t.Context(), dsn, &pgstore.Options{Schema: freshSchema()})
		},
		Reopen: func(b keystore.Backend) (keystore.Backend, error) {
			u, err := url.Parse(b.Name())
			require.NoError(t, err)
			return pgstore.Open(t.Context(), dsn, &pgstore.Options{Schema: u.Query().Get("schema")})
		},
	}
}

func TestSuite(t *testing.T) {
	storetest.Run(t, suite(t, pgtest.Shared(t).Database(t)))
}

func TestSuiteBehindPgbouncer(t *testing.T) {
	for _, mode := range []string{"transaction", "session"} {
		t.Run(mode, func(t *testing.T) { storetest.Run(t, suite(t, pgtest.Shared(t).Bouncer(t, mode))) })
	}
}

func TestSuiteOnOtherVersions(t *testing.T) {
	for _, version := range pgtest.Versions()[min(1, len(pgtest.Versions())):] {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			storetest.Run(t, suite(t, pgtest.Start(t, &pgtest.Options{Version: version}).DSN()))
		})
	}
}

// open makes a store in a schema of its own, and closes it with the test.
func create(t *testing.T, dsn string, o *pgstore.Options) *pgstore.Store {
	t.Helper()
	s, err := pgstore.Create(t.Context(), dsn, o)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func connect(t *testing.T, dsn string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func exec(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	pool := connect(t, dsn)
	for _, sql := range statements {
		_, err := pool.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
}

func put(key string, old, rev keystore.Rev, value string) keystore.Write {
	return keystore.Write{Op: keystore.Put, Key: []byte(key), If: old, Rev: rev, Value: []byte(value)}
}
