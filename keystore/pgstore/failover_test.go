package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/storetest"
)

// both is a DSN that names two servers.
func both(t *testing.T, a, b *pgtest.Server) string {
	t.Helper()
	x, err := url.Parse(a.DSN())
	require.NoError(t, err)
	y, err := url.Parse(b.DSN())
	require.NoError(t, err)
	x.Host += "," + y.Host
	return x.String()
}

// ledger is a writer of one record, who remembers what was acknowledged.
type ledger struct {
	key      string
	rev      keystore.Rev
	count    int // acknowledged
	possible int // what may have been applied besides
}

// write raises the count until stop says so. After an error it reads what became of it.
func (l *ledger) write(s keystore.Backend, stop func() bool) error {
	ctx := context.Background()
	known := true
	for !stop() {
		if !known {
			recs, err := s.Get(ctx, [][]byte{[]byte(l.key)})
			if err != nil {
				if !errors.Is(err, keystore.ErrUnavailable) {
					return err
				}
				continue
			}
			n, _ := strconv.Atoi(string(recs[0].Value))
			if n != l.count && n != l.possible {
				return fmt.Errorf("%s stands at %q: %d was acknowledged, %d tried", l.key, recs[0].Value, l.count, l.possible)
			}
			l.rev, l.count, known = recs[0].Rev, n, true
		}
		next := keystore.Rev(time.Now().UnixNano())
		l.possible = l.count + 1
		done, err := s.Commit(ctx, []keystore.Group{{put(l.key, l.rev, next, strconv.Itoa(l.possible))}})
		switch {
		case err == nil && done == 1:
			l.rev, l.count = next, l.possible
		case errors.Is(err, keystore.ErrUnavailable) && done == 0:
			known = false
		default:
			return fmt.Errorf("%s: %d done: %w", l.key, done, err)
		}
	}
	return nil
}

// writers runs four ledgers on s until the returned function is called, which checks that
// nothing acknowledged was lost.
func writers(t *testing.T, s keystore.Backend) (written func() int64, end func()) {
	t.Helper()
	var total atomic.Int64
	var stop atomic.Bool
	var all sync.WaitGroup
	ledgers := make([]ledger, 4)
	errs := make([]error, len(ledgers))
	for i := range ledgers {
		ledgers[i].key = fmt.Sprint("ledger ", i)
		all.Go(func() {
			last := 0
			errs[i] = ledgers[i].write(s, func() bool {
				total.Add(int64(ledgers[i].count - last))
				last = ledgers[i].count
				return stop.Load()
			})
		})
	}
	return total.Load, func() {
		t.Helper()
		stop.Store(true)
		all.Wait()
		require.NoError(t, errors.Join(errs...))
		for _, l := range ledgers {
			recs, err := s.Get(t.Context(), [][]byte{[]byte(l.key)})
			require.NoError(t, err)
			n, _ := strconv.Atoi(string(recs[0].Value))
			require.True(t, n == l.count || n == l.possible, "%s stands at %d, %d was acknowledged", l.key, n, l.count)
		}
	}
}

func advances(t *testing.T, written func() int64) {
	t.Helper()
	from := written()
	require.Eventually(t, func() bool { return written() > from+50 }, 60*time.Second, 5*time.Millisecond, "commits go on")
}

func TestCommitsGoOnThroughAFailover(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, nil)
	standby := primary.Standby(t, "second")
	exec(t, primary.DSN(), "alter system set synchronous_standby_names = 'second'", "select pg_reload_conf()")
	s := create(t, both(t, standby, primary), nil) // the standby is named first, and passed by
	written, end := writers(t, s)
	advances(t, written)
	primary.Kill()
	standby.Promote(t)
	advances(t, written)
	end()

	// A store that is opened now finds the new primary, and is as good as another.
	storetest.Run(t, suite(t, both(t, primary, standby)))
}

func TestCommitsGoOnThroughRestarts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		way   func(*testing.T, *pgtest.Server) string
		stops []string
	}{
		"direct": {func(_ *testing.T, s *pgtest.Server) string { return s.DSN() }, []string{"fast", "immediate", "kill"}},
		// which waits 15 seconds before it tries to reach the server again
		"pooled": {func(t *testing.T, s *pgtest.Server) string { return s.Bouncer(t, "transaction") }, []string{"kill"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.Start(t, nil)
			s := create(t, c.way(t, server), nil)
			written, end := writers(t, s)
			for _, stop := range c.stops {
				advances(t, written)
				if stop == "kill" {
					server.Kill()
				} else {
					server.Stop(t, stop)
				}
				server.Up(t)
			}
			advances(t, written)
			end()
		})
	}
}

// What is committed while no answer comes back is of unknown outcome, not done and not a
// conflict; nor is it written twice.
func TestAnUnansweredCommitIsNotKnown(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, nil)
	proxy := server.Proxy(t)
	s := create(t, proxy.DSN(), nil)
	for _, g := range []keystore.Group{{put("a", 0, 9, "-")}, {put("a", 9, 1, "A")}} { // so that all is prepared
		_, err := s.Commit(t.Context(), []keystore.Group{g})
		require.NoError(t, err)
	}

	proxy.HoldAnswers()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	done, err := s.Commit(ctx, []keystore.Group{{put("a", 1, 2, "B")}, {put("b", 0, 3, "C")}})
	require.Zero(t, done)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, keystore.ErrConflict)
	require.ErrorContains(t, err, "not known")
	proxy.Cut()
	proxy.Restore(t)
	holds(t, s, map[string]string{"a": "B", "b": "C"})

	proxy.Cut()
	recs, err := s.Get(t.Context(), [][]byte{[]byte("a")})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.Empty(t, recs)
	proxy.Restore(t)
	holds(t, s, map[string]string{"a": "B", "b": "C"})
}

func TestAStandbyIsNotAsked(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, nil)
	create(t, primary.DSN(), nil)
	standby := primary.Standby(t, "second")
	primary.CaughtUp(t, standby)
	for _, dsn := range []string{standby.DSN(), both(t, standby, primary) + "&target_session_attrs=standby"} {
		err := open(t, dsn, nil)
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorContains(t, err, "standby")
	}
	// as when a pooler leads elsewhere after a while
	s, err := pgstore.Unchecked(standby.DSN())
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Get(t.Context(), [][]byte{[]byte("a")})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "standby")
	_, err = s.Scan(t.Context(), []byte("a"), []byte("b"), 1)
	require.ErrorContains(t, err, "standby")
	_, err = s.Commit(t.Context(), []keystore.Group{{put("a", 0, 1, "A")}})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "lead to the primary")
}

func TestStandbysMustHaveReplayed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	primary := pgtest.Start(t, nil)
	s := create(t, primary.DSN(), &pgstore.Options{Standbys: []string{"second"}})
	soon := func() (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, 300*time.Millisecond) }
	replicated := func(s *pgstore.Store) error {
		ctx, cancel := soon()
		defer cancel()
		_, err := s.Commit(ctx, []keystore.Group{{put("x", 0, 1, "X")}, {{Op: keystore.Delete, Key: []byte("x"), If: 1}}})
		require.NoError(t, err)
		return s.Replicated(ctx)
	}
	err := replicated(s)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, `standby "second" is not connected`)

	standby := primary.Standby(t, "second")
	require.NoError(t, s.Replicated(ctx))
	for range 5 {
		require.NoError(t, replicated(s))
	}
	exec(t, standby.DSN(), "select pg_wal_replay_pause()")
	require.Eventually(t, func() bool { err = replicated(s); return err != nil }, 20*time.Second, time.Millisecond)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, `standby "second" lags by`)

	clerk := as(t, primary.DSN(), "clerk")
	exec(t, primary.DSN(), "grant usage on schema oubli to clerk", "grant all on all tables in schema oubli to clerk")
	blind, err := pgstore.Open(ctx, clerk, &pgstore.Options{Standbys: []string{"second"}})
	require.NoError(t, err)
	defer blind.Close()
	err = replicated(blind)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "pg_monitor")
	require.NoError(t, create(t, primary.DSN(), &pgstore.Options{Schema: "alone"}).Replicated(ctx), "nobody is named")

	exec(t, standby.DSN(), "select pg_wal_replay_resume()")
	exec(t, primary.DSN(), "grant pg_monitor to clerk")
	require.NoError(t, s.Replicated(ctx))
	require.NoError(t, blind.Replicated(ctx))
}

// The server lets a commit through whose wait for a synchronous standby was canceled, and
// only warns.
func TestACommitThatNoStandbyConfirmedIsNotDone(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, nil)
	s := create(t, server.DSN(), nil)
	exec(t, server.DSN(), "alter system set synchronous_standby_names = 'nobody'", "select pg_reload_conf()")
	pool, stop := connect(t, server.DSN()), make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				_, _ = pool.Exec(context.Background(), "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'")
			}
		}
	}()
	defer close(stop)
	rev := keystore.Rev(0)
	require.Eventually(t, func() bool { // once the setting has come through
		_, err := s.Commit(t.Context(), []keystore.Group{{put("a", rev, rev+1, "A")}})
		rev++
		if err != nil {
			require.ErrorIs(t, err, keystore.ErrUnavailable)
			require.ErrorContains(t, err, "canceling wait for synchronous replication")
		}
		return err != nil
	}, 30*time.Second, time.Millisecond)
	holds(t, s, map[string]string{"a": "A"})
}
