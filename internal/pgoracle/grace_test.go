package pgoracle_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/oracle"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
)

// Within the grace a server that was recovered to a point before erasures can be put in
// the place of the lost one, and those erased since stay erased. Afterwards nobody can.
func TestRecoveryWithinTheGrace(t *testing.T) {
	const grace = time.Hour
	server := pgtest.Start(t, &pgtest.Options{Archive: true})
	w := newWorld(t, server, &keystore.CreateOptions{Lease: lease, Shards: 256, Grace: grace})
	w.add(300)
	w.steps(8)
	base := filepath.Join(t.TempDir(), "base")
	server.BaseBackup(t, base)
	w.run("select pg_create_restore_point('before')")
	before := w.deadKeys()
	lived := w.lives()
	asked := w.erase(nil, w.some(10)...)
	asked = append(asked, w.erase([]string{"tax"}, w.some(3)...)...)
	one := w.some(1)[0]
	w.withdraw(one, "ads")
	asked = append(asked, one)
	var since []*person // some were erased before
	for _, p := range w.people {
		if slices.ContainsFunc(lived[p], func(id uint32) bool { return p.dead[id] }) {
			since = append(since, p)
		}
	}
	require.Greater(t, w.deadKeys(), before+10)

	// Nothing is final, and so it is: the roots that are left open what is old.
	status, err := w.store.Status(t.Context(), subjects(since)...)
	require.NoError(t, err)
	for _, st := range status {
		require.False(t, st.Final)
		require.Equal(t, w.now.Add(grace).UTC(), st.FinalAt.UTC())
	}
	files := oracle.NewPGFiles()
	server.SwitchWAL(t)
	for _, dir := range []string{base, server.ArchiveDir(), server.Dir()} {
		require.NoError(t, files.Add(dir))
	}
	committed := w.backend.all()
	found := files.Records()
	require.Empty(t, missing(found, committed))
	stand, had := w.attack(found).dead()
	require.Equal(t, w.deadKeys(), stand)
	require.Equal(t, stand, had)

	recovered := server.Recover(t, base, pgtest.Target{Name: "before"})
	w.close()
	server.Stop(t, "immediate") // it is lost
	dsn := pgtest.Via(w.dsn, recovered.DSN())
	b, err := pgstore.Open(t.Context(), dsn, nil)
	require.NoError(t, err)
	for _, readOnly := range []bool{false, true} {
		o := w.options()
		o.ReadOnly = readOnly
		_, err = keystore.Open(t.Context(), b, w.roots, o)
		require.ErrorIs(t, err, keystore.ErrBehind)
	}
	w.backend = &recorder{inner: b}
	report, err := keystore.Restore(t.Context(), w.backend, w.roots, w.options())
	require.NoError(t, err)
	require.Subset(t, report.Replayed, subjects(since))
	require.Subset(t, subjects(asked), report.Replayed)
	w.enter(recovered, dsn)
	w.open()
	w.sync(nil, w.people...) // nobody erased is back, nobody else is lost
	open, erased := w.read(w.rows(w.pool))
	require.Greater(t, open, 600)
	require.Greater(t, erased, before)

	// The grace ends: what was erased on either time line is out of reach.
	for range 2 { // an advance may wait for an older root to die
		w.now = w.now.Add(grace)
		require.NoError(t, w.store.Advance(t.Context()))
	}
	w.run("checkpoint")
	require.NoError(t, files.Add(recovered.Dir()))
	found = files.Records()
	require.Empty(t, missing(found, slices.Concat(committed, w.backend.all())))
	a := w.attack(found)
	require.Empty(t, a.violations(w.rows(w.pool)))
	again, _ := a.dead()
	require.Equal(t, stand, again)

	w.recoveredIsDead(server.Recover(t, base, pgtest.Target{Name: "before"}))
	t.Logf("%d records found; %d destroyed keys within reach before the grace ended, none after", len(found), had)
}
