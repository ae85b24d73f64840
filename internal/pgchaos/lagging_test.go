//go:build linux

package pgchaos

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// The standby that takes over lacks an erasure. No process serves anybody from it, and none
// opens it, until the erasure is made again.
func TestAStandbyThatLaggedServesNobody(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		grace    time.Duration
		standbys []string // that a superseded root outlives
	}{
		"the root outlives the standby's lag": {0, []string{"second"}},
		"the root outlives a grace":           {time.Hour, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setting(t, false, &keystore.CreateOptions{Shards: 64, Lease: lease, Grace: c.grace})
			crew := &crew{dir: t.TempDir(), begin: now(),
				base: config{DSN: s.dsn, Roots: s.roots, Idle: true, Standbys: c.standbys}}
			eraser := crew.hire(t, "eraser", nil)
			reader := crew.hire(t, "reader", nil)
			asleep := crew.hire(t, "asleep", nil)
			const victim = 1
			everybody := []int64{1, 2, 3, 4, 5}
			for _, id := range everybody {
				require.Equal(t, "wrote", eraser.ask(patience, "write", id))
			}
			for _, p := range crew.procs {
				require.Equal(t, "plain 5", p.ask(patience, "open", everybody...))
			}

			s.primary.CaughtUp(t, s.standby)
			run(t, s.standby.DSN(), "alter system set primary_conninfo = ''", "select pg_reload_conf()")
			require.Eventually(t, func() bool { return count(t, s.primary.DSN(), "select count(*) from pg_stat_replication") == 0 },
				patience, 10*time.Millisecond)
			asleep.signal(unix.SIGSTOP) // it never hears of the erasure
			eraser.ask(patience, "erase", victim)
			require.Contains(t, reader.ask(patience, "open", victim), "erased")
			s.failover(t)
			asleep.signal(unix.SIGCONT)
			time.Sleep(lease) // what a poll of the old primary's allowed may be served till then, the erased as erased

			behind := keystore.ErrBehind.Error()
			for _, p := range crew.procs {
				for _, id := range everybody {
					require.Contains(t, p.ask(patience, "open", id), behind, p.Name)
				}
				require.NotEqual(t, "wrote", p.ask(patience, "write", 2), p.Name)
			}
			_, _, err := connect(t.Context(), config{DSN: s.dsn, Roots: s.roots}, discard(t))
			require.ErrorIs(t, err, keystore.ErrBehind)

			backend, err := pgstore.Open(t.Context(), s.dsn, nil)
			require.NoError(t, err)
			roots, err := rootfile.New(s.roots, nil)
			require.NoError(t, err)
			report, err := keystore.Restore(t.Context(), backend, roots, nil)
			require.NoError(t, err)
			require.Equal(t, []keystore.Subject{subjectOf(victim)}, report.Replayed)
			require.NoError(t, backend.Close())

			crew.base.Standbys = nil
			fresh := crew.hire(t, "fresh", nil)
			require.Contains(t, fresh.ask(patience, "open", victim), "erased")
			require.Equal(t, "refused", fresh.ask(patience, "sweep", victim))
			require.Equal(t, "plain 4", fresh.ask(patience, "open", everybody[1:]...))
			require.Equal(t, "wrote", fresh.ask(patience, "write", 2))
			for _, p := range crew.procs {
				if p == fresh {
					continue
				}
				require.False(t, strings.HasPrefix(p.ask(patience, "open", victim), "plain"), p.Name)
			}
			for _, p := range crew.procs {
				p.quit(t)
			}
		})
	}
}

// A standby that the options name has not replayed an erasure: its root lives on, and the
// erasure is not final, until it has.
func TestARootOutlivesAStandbyThatLags(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := setting(t, false, &keystore.CreateOptions{Shards: 64, Lease: lease})
	keys, pool, err := connect(ctx, config{DSN: s.dsn, Roots: s.roots, Standbys: []string{"second"}}, discard(t))
	require.NoError(t, err)
	defer pool.Close()
	defer keys.Close()
	for id := range int64(3) {
		_, err := keys.Ensure(ctx, nil, []string{""}, subjectOf(id+1))
		require.NoError(t, err)
	}
	roots, err := rootfile.New(s.roots, nil)
	require.NoError(t, err)
	before, err := roots.Load(ctx)
	require.NoError(t, err)
	require.Len(t, before.Living, 1)
	old := before.Living[0].ID

	run(t, s.standby.DSN(), "select pg_wal_replay_pause()")
	require.Eventually(t, func() bool {
		return count(t, s.standby.DSN(), "select count(*) where pg_get_wal_replay_pause_state() = 'paused'") == 1
	}, patience, 10*time.Millisecond)
	es, err := keys.Erase(ctx, keystore.Request{Subject: subjectOf(1)})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "second")
	require.NoError(t, es[0].Err)
	require.Equal(t, keystore.StateErased, es[0].State)
	require.False(t, es[0].Final)
	after, err := roots.Load(ctx)
	require.NoError(t, err)
	require.NotContains(t, after.Destroyed, old)
	require.Len(t, after.Living, 2)

	run(t, s.standby.DSN(), "select pg_wal_replay_resume()")
	require.NoError(t, keys.Advance(ctx))
	st, err := keys.Status(ctx, subjectOf(1))
	require.NoError(t, err)
	require.True(t, st[0].Final)
	after, err = roots.Load(ctx)
	require.NoError(t, err)
	require.Contains(t, after.Destroyed, old)
	require.Len(t, after.Living, 1)
	for _, path := range s.roots {
		left, err := filepath.Glob(path + ".*-*")
		require.NoError(t, err)
		require.Empty(t, left)
	}
}
