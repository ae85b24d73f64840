//go:build linux

package pgchaos

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

var minutes = flag.Float64("minutes", 0.25, "how long the processes run")

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
		require.NoError(t, mkdir(filepath.Dir(path)))
	}
	run(t, own, strings.Split(createNotes, ";")...)
	backend, err := pgstore.Create(t.Context(), s.dsn, nil)
	require.NoError(t, err)
	roots, err := rootfile.New(s.roots, nil)
	require.NoError(t, err)
	require.NoError(t, keystore.Create(t.Context(), backend, roots, o))
	require.NoError(t, backend.Close())
	return s
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

func TestProcessesOnOneKeystore(t *testing.T) {
	s := setting(t, true, &keystore.CreateOptions{Shards: 64, Lease: lease})
	proxy := s.primary.Proxy(t)
	c := &crew{dir: t.TempDir(), begin: now(), base: config{DSN: s.dsn, Roots: s.roots}}
	steady := c.hire(t, "steady", nil)
	c.hire(t, "behind the proxy", func(o *config) { o.DSN = s.leads(t, proxy.DSN()) })
	stopped := c.hire(t, "stopped", nil)
	c.hire(t, "killed", func(o *config) { o.Chance = 10 })

	length := time.Duration(*minutes * float64(time.Minute))
	stops := &stops{steady: steady, victim: stopped}
	var director sync.WaitGroup
	director.Go(func() {
		for id := int64(1); now()-c.begin < length; id++ {
			stops.stop(id)
			time.Sleep(length / 40)
		}
	})
	restarts, held := 0, 0
	restart := func(mode string) func(*pgtest.Server) {
		return func(server *pgtest.Server) {
			server.Stop(t, mode)
			time.Sleep(lease / 2)
			server.Up(t)
			restarts++
		}
	}
	hold := func(*pgtest.Server) {
		proxy.Hold()
		time.Sleep(3 * lease)
		proxy.Restore(t)
		held++
	}
	serving := s.primary
	fail := func(*pgtest.Server) {
		serving = s.standby
		s.failover(t)
	}
	for _, event := range []struct {
		at    float64 // of the length
		cause func(*pgtest.Server)
	}{{0.15, restart("fast")}, {0.35, hold}, {0.45, restart("immediate")}, {0.65, fail}, {0.85, restart("fast")}, {1, nil}} {
		for due := time.Duration(event.at * float64(length)); now()-c.begin < due; time.Sleep(10 * time.Millisecond) {
			c.keepAlive(t)
		}
		if event.cause != nil {
			event.cause(serving)
		}
	}
	director.Wait()

	c.over = true // whoever is started again lives on
	for _, p := range c.all() {
		if p.Chance == 0 {
			p.end(t)
		}
	}
	endTheKilled(t, c)
	v := judge(func(f func(entry)) { c.entries(t, f) })
	var erased []int64
	for id := range v.gone {
		erased = append(erased, id)
	}
	for _, p := range c.all() {
		require.Equal(t, "refused", p.ask(2*time.Minute, "sweep", erased...), "%s:\n%s", p.Name, p.said())
		p.quit(t)
	}
	v = judge(func(f func(entry)) { c.entries(t, f) })
	t.Logf("%v of %d processes, %d kills, %d restarts, a failover, %d times cut off", (now() - c.begin).Round(time.Second), len(c.all()), c.kills.Load(), restarts, held)
	t.Logf("%v", v)
	t.Logf("stopped past the lease while it held plaintext: %d times of %d", stops.missed.Load(), stops.tried.Load())
	require.Empty(t, v.faults, "%s", strings.Join(v.faults, "\n"))
	require.Empty(t, stops.faults)
	atRest(t, s, v)

	// It did happen.
	require.GreaterOrEqual(t, stops.missed.Load(), int64(2))
	require.GreaterOrEqual(t, c.kills.Load(), int64(3))
	require.GreaterOrEqual(t, v.cutOff, 2)
	require.Equal(t, 3, restarts)
	require.Equal(t, 1, held)
	require.GreaterOrEqual(t, len(v.gone), 30)
	for _, w := range []what{opened, sealed, dark, refused, away, stale, rotated, wrote} {
		require.GreaterOrEqual(t, v.count[w], 10, w)
	}
	require.Less(t, v.silence, 20*time.Second)
}

// endTheKilled starts a worker that still kills itself once more, so that it does not, and
// ends its loops.
func endTheKilled(t *testing.T, c *crew) {
	t.Helper()
	for _, p := range c.all() {
		if p.Chance > 0 {
			p.signal(unix.SIGKILL)
			<-p.exited
		}
	}
	c.keepAlive(t)
	for _, p := range c.all() {
		p.end(t)
	}
}

// stops is what becomes of a process that is stopped past its lease.
type stops struct {
	steady, victim *process
	tried, missed  atomic.Int64
	faults         []string
}

// stop stops a process with SIGSTOP while it is in the middle of opening a subject, has
// another erase that subject, and lets the process go on.
func (s *stops) stop(id int64) {
	s.tried.Add(1)
	if s.victim.ask(callTime, "hold", id) != "held" {
		return // the database is away
	}
	s.victim.signal(unix.SIGSTOP)
	erased := s.steady.ask(8*lease, "erase", id) == "erased" // it takes a lease, or more
	check := s.victim.send("check")
	opens := s.victim.send("open", id)
	s.victim.signal(unix.SIGCONT)
	if !erased {
		return // the database is away, or the stopped process holds a lock on the root
	}
	fresh, plain := s.victim.await(callTime, check), s.victim.await(2*callTime, opens)
	if fresh != "stale" || strings.HasPrefix(plain, "plain") {
		s.faults = append(s.faults, fmt.Sprintf("subject %d was erased while a process that held it was stopped; its final check says %s, and opening it again gives %s", id, fresh, plain))
	}
	s.missed.Add(1)
}
