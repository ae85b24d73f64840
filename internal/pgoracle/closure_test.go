package pgoracle_test

import (
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/oracle"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const lease = 250 * time.Millisecond // all of the machine may be busy for longer than the shortest

// At grace 0, whoever has every file there ever was, and the root that is left, opens what
// the living keystore opens, and nobody who was erased.
func TestEveryFileThereEverWas(t *testing.T) {
	for _, c := range []struct {
		name   string
		shards int
	}{
		{"pages in TOAST", 8192},
		{"many rings in a shard", 64},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := pgtest.Start(t, &pgtest.Options{Archive: true})
			standby := server.Standby(t, "follower")
			w := newWorld(t, server, &keystore.CreateOptions{Lease: lease, Shards: c.shards}, "follower")
			dir, files := t.TempDir(), oracle.NewPGFiles()
			w.add(600)
			w.steps(12)
			w.run("checkpoint")
			require.NoError(t, files.Add(server.Dir()))

			// What has been erased from here on still lived in this base backup.
			base := filepath.Join(dir, "base")
			server.BaseBackup(t, base)
			early := w.rows(w.pool)
			lived := w.lives()
			w.steps(8)
			w.run("select pg_create_restore_point('before')")
			w.erase(nil, w.some(1)...)
			w.erase(nil, w.some(15)...)
			w.erase([]string{"tax"}, w.some(3)...)
			w.withdraw(w.some(1)[0], "ads")
			w.steps(8)
			w.run("vacuum", "checkpoint")
			require.NoError(t, files.Add(server.Dir()))
			w.run("vacuum full")
			late := filepath.Join(dir, "late")
			server.BaseBackup(t, late)
			recovered := server.Recover(t, base, pgtest.Target{Name: "before"})
			w.dump(files)

			server.CaughtUp(t, standby)
			for _, s := range []*pgtest.Server{standby, server, recovered} {
				s.Stop(t, "fast")
				require.NoError(t, files.Add(s.Dir()))
			}
			server.Up(t)
			recovered.Up(t)
			archive := oracle.NewPGFiles()
			require.NoError(t, archive.Add(server.ArchiveDir()))
			for _, dir := range []string{base, late, server.ArchiveDir()} {
				require.NoError(t, files.Add(dir))
			}

			// The attacker is not blind: every record that was ever committed is found, in
			// the archived log alone.
			committed := w.backend.all()
			require.Empty(t, missing(archive.Records(), committed))
			all := files.Records()
			require.Empty(t, missing(all, committed))

			a := w.attack(all)
			recoveredPool := w.poolOf(recovered)
			old := w.rows(recoveredPool)
			require.Empty(t, a.violations(append(append(w.rows(w.pool), early...), old...)))
			stand, had := a.dead()
			require.Greater(t, stand, 30)
			require.Zero(t, had)
			// Through what the living keystore holds, everybody who lives is reached.
			living := a.graph.Reach(w.left(), stored(t, w.backend)...)
			for _, p := range w.people {
				for id := range p.live {
					require.True(t, living.Data[oracle.Label{Subject: p.sub.String(), ID: id}])
				}
			}

			// It is the destroyed roots that were missing: with them, every erased key comes
			// out of the archived log, and those erased since out of the base backup.
			_, had = w.attackWith(w.roots.known(), archive.Records()).dead()
			require.Equal(t, stand, had)
			backup := oracle.NewPGFiles()
			require.NoError(t, backup.Add(base))
			opened, since := w.attackWith(w.roots.known(), backup.Records()), 0
			for p, ids := range lived {
				for _, id := range ids {
					has, _ := opened.has(p, id)
					require.True(t, has)
					if p.dead[id] {
						since++
					}
				}
			}
			require.Greater(t, since, 30)

			w.recoveredIsDead(recovered)
			open, erased := w.read(old)
			t.Logf("%d records committed, %d found; %d destroyed keys stand there, %d of them in a base backup; of %d recovered rows %d fields open, %d are erased",
				len(committed), len(all), stand, since, len(old), open, erased)
			require.Greater(t, open, 1000)
			require.GreaterOrEqual(t, erased, 30)
			w.read(w.rows(w.pool))
			report, err := w.store.Verify(t.Context())
			require.NoError(t, err)
			require.Empty(t, report.Problems)
		})
	}
}

// run runs statements in the application's database.
func (w *world) run(statements ...string) {
	for _, sql := range statements {
		_, err := w.pool.Exec(w.t.Context(), sql)
		require.NoError(w.t, err)
	}
}

// poolOf connects to the same database of another server.
func (w *world) poolOf(server *pgtest.Server) *pgxpool.Pool {
	pool, err := pgxpool.New(w.t.Context(), pgtest.Via(w.dsn, server.DSN()))
	require.NoError(w.t, err)
	w.t.Cleanup(pool.Close)
	return pool
}

// lives returns the ids of everybody's keys.
func (w *world) lives() map[*person][]uint32 {
	m := map[*person][]uint32{}
	for _, p := range w.people {
		m[p] = slices.Collect(maps.Keys(p.live))
	}
	return m
}

// dump adds a dump, and checks that all that stands in the database was found in it.
func (w *world) dump(files *oracle.PGFiles) {
	text, err := exec.CommandContext(w.t.Context(), w.server.Bin("pg_dump"), w.dsn).Output()
	require.NoError(w.t, err)
	own := oracle.NewPGFiles()
	for _, f := range []*oracle.PGFiles{own, files} {
		f.AddDump(text)
	}
	require.Empty(w.t, missing(own.Records(), stored(w.t, w.backend)))
}

// recoveredIsDead checks that the keystore of a server that was recovered to a point
// before an erasure that is final opens nothing: it says so, and it is so.
func (w *world) recoveredIsDead(recovered *pgtest.Server) {
	b, err := pgstore.Open(w.t.Context(), pgtest.Via(w.dsn, recovered.DSN()), nil)
	require.NoError(w.t, err)
	defer b.Close()
	for _, readOnly := range []bool{false, true} {
		o := w.options()
		o.ReadOnly = readOnly
		_, err = keystore.Open(w.t.Context(), b, w.roots, o)
		require.ErrorIs(w.t, err, keystore.ErrMismatch)
	}
	_, err = keystore.Restore(w.t.Context(), b, w.roots, w.options())
	require.ErrorIs(w.t, err, keystore.ErrMismatch)

	recs := stored(w.t, b)
	left := w.left()
	require.Greater(w.t, len(w.attackWith(w.roots.known(), recs).reached.Keys), 500)
	require.Len(w.t, w.attackWith(left, recs).reached.Keys, len(left), "no page and no ring opens")
}
