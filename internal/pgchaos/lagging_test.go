//go:build linux

package pgchaos

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/oubli/oubli/internal/crew"
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
			procs := crew.New(t, crew.Config{DSN: s.dsn, Roots: s.roots, Idle: true, Standbys: c.standbys})
			eraser := procs.Hire(t, "eraser", nil, nil)
			reader := procs.Hire(t, "reader", nil, nil)
			asleep := procs.Hire(t, "asleep", nil, nil)
			const victim = 1
			everybody := []int64{1, 2, 3, 4, 5}
			for _, id := range everybody {
				require.Equal(t, "wrote", eraser.Ask(crew.Patience, "write", id))
			}
			for _, p := range procs.Procs {
				require.Equal(t, "plain 5", p.Ask(crew.Patience, "open", everybody...))
			}

			s.primary.CaughtUp(t, s.standby)
			run(t, s.standby.DSN(), "alter system set primary_conninfo = ''", "select pg_reload_conf()")
			require.Eventually(t, func() bool { return count(t, s.primary.DSN(), "select count(*) from pg_stat_replication") == 0 },
				crew.Patience, 10*time.Millisecond)
			asleep.Signal(unix.SIGSTOP) // it never hears of the erasure
			eraser.Ask(crew.Patience, "erase", victim)
			require.Contains(t, reader.Ask(crew.Patience, "open", victim), "erased")
			s.failover(t)
			asleep.Signal(unix.SIGCONT)
			time.Sleep(lease) // what a poll of the old primary's allowed may be served till then, the erased as erased

			behind := keystore.ErrBehind.Error()
			for _, p := range procs.Procs {
				for _, id := range everybody {
					require.Contains(t, p.Ask(crew.Patience, "open", id), behind, p.Name)
				}
				require.NotEqual(t, "wrote", p.Ask(crew.Patience, "write", 2), p.Name)
			}
			_, err := s.open(t)
			require.ErrorIs(t, err, keystore.ErrBehind)

			backend, err := pgstore.Open(t.Context(), s.dsn, nil)
			require.NoError(t, err)
			roots, err := rootfile.New(s.roots, nil)
			require.NoError(t, err)
			report, err := keystore.Restore(t.Context(), backend, roots, nil)
			require.NoError(t, err)
			require.Equal(t, []keystore.Subject{crew.Subject(victim)}, report.Replayed)
			require.NoError(t, backend.Close())

			fresh := procs.Hire(t, "fresh", func(o *crew.Config) { o.Standbys = nil }, nil)
			require.Contains(t, fresh.Ask(crew.Patience, "open", victim), "erased")
			require.Equal(t, "refused", fresh.Ask(crew.Patience, "sweep", victim))
			require.Equal(t, "plain 4", fresh.Ask(crew.Patience, "open", everybody[1:]...))
			require.Equal(t, "wrote", fresh.Ask(crew.Patience, "write", 2))
			for _, p := range procs.Procs {
				if p == fresh {
					continue
				}
				require.False(t, strings.HasPrefix(p.Ask(crew.Patience, "open", victim), "plain"), p.Name)
			}
			for _, p := range procs.Procs {
				p.Quit(t)
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
	keys, err := s.open(t, "second")
	require.NoError(t, err)
	defer keys.Close()
	for id := range int64(3) {
		_, err := keys.Ensure(ctx, nil, []string{""}, crew.Subject(id+1))
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
	}, crew.Patience, 10*time.Millisecond)
	es, err := keys.Erase(ctx, keystore.Request{Subject: crew.Subject(1)})
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
	st, err := keys.Status(ctx, crew.Subject(1))
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
