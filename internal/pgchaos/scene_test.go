//go:build linux

package pgchaos

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/crew"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// lease is L: short, so that much happens in a run.
const lease = 500 * time.Millisecond

// scene is a keystore in a database that can fail over, with its root beside it.
type scene struct {
	primary, standby *pgtest.Server
	db               string // the name of the database
	dsn              string // leads to whichever is the primary
	roots            []string
}

// setting makes a scene. A synchronous standby has what the primary acknowledged.
func setting(t *testing.T, synchronous bool, o *keystore.CreateOptions) *scene {
	t.Helper()
	s := &scene{primary: pgtest.Start(t, &pgtest.Options{Settings: map[string]string{"wal_retrieve_retry_interval": "200ms"}})}
	own := s.primary.Database(t)
	s.db = strings.TrimPrefix(parse(t, own).Path, "/")
	s.standby = s.primary.Standby(t, "second")
	if synchronous {
		run(t, s.primary.DSN(), "alter system set synchronous_standby_names = 'second'", "select pg_reload_conf()")
	}
	s.dsn = s.leads(t, s.primary.DSN())
	dir := t.TempDir()
	s.roots = []string{filepath.Join(dir, "a", "root"), filepath.Join(dir, "b", "root")}
	for _, path := range s.roots {
		require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
	}
	run(t, own, strings.Split(crew.CreateTable, ";")...)
	backend, err := pgstore.Create(t.Context(), s.dsn, nil)
	require.NoError(t, err)
	roots, err := rootfile.New(s.roots, nil)
	require.NoError(t, err)
	require.NoError(t, keystore.Create(t.Context(), backend, roots, o))
	require.NoError(t, backend.Close())
	return s
}

func TestMain(m *testing.M) { crew.Main(m, openRoots) }

func openRoots(c crew.Config, _ *crew.Gate) (keystore.RootStore, error) {
	return rootfile.New(c.Roots, nil)
}

// open opens the keystore as the processes do.
func (s *scene) open(t *testing.T, standbys ...string) (*keystore.Store, error) {
	t.Helper()
	c := crew.Config{DSN: s.dsn, Roots: s.roots, Standbys: standbys}
	roots, err := openRoots(c, nil)
	require.NoError(t, err)
	return crew.Open(t.Context(), c, roots, nil)
}

// leads is the DSN of the database on whichever of first and the standby is the primary.
func (s *scene) leads(t *testing.T, first string) string {
	t.Helper()
	return fmt.Sprintf("postgres://postgres@%s,%s/%s?sslmode=disable&target_session_attrs=read-write&connect_timeout=2",
		parse(t, first).Host, parse(t, s.standby.DSN()).Host, s.db)
}

func parse(t *testing.T, dsn string) *url.URL {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	return u
}

func run(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	for _, sql := range statements {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
}

// failover ends the primary as a loss of power would, and makes the standby the primary.
func (s *scene) failover(t *testing.T) {
	t.Helper()
	s.primary.Kill()
	s.standby.Promote(t)
}

func count(t *testing.T, dsn, sql string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&n))
	return n
}
