package pgstore_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore/rootfile"
)

// A standby that lagged is promoted, and a key that was made last is lost with the old
// primary. The process that made it, and remembers it, seals with one that others find.
func TestAKeyThatAFailoverLostIsNotUsed(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, nil)
	standby := primary.Standby(t, "second")
	dsn := both(t, primary, standby)
	roots, err := rootfile.New([]string{filepath.Join(t.TempDir(), "root")}, nil)
	require.NoError(t, err)
	const lease = 2 * time.Second
	newKeystore(t, dsn, roots, 64, lease)
	a := openKeystore(t, dsn, roots)
	seal(t, a, customer(t, 1), "x")
	primary.CaughtUp(t, standby)
	exec(t, standby.DSN(), "alter system set primary_conninfo = ''", "select pg_reload_conf()")
	require.Eventually(t, func() bool {
		var n int
		err := connect(t, primary.DSN()).QueryRow(t.Context(), "select count(*) from pg_stat_replication").Scan(&n)
		return err == nil && n == 0
	}, 20*time.Second, 50*time.Millisecond)
	carl := customer(t, 2)
	lost, _ := seal(t, a, carl, "made on the line that is lost")
	primary.Kill()
	standby.Promote(t)
	require.Eventually(t, func() bool { // at the latest when the lease it had is over
		ks, err := a.Ensure(t.Context(), nil, []string{""}, carl)
		if err != nil {
			return false
		}
		id, _, err := ks[0].Primary("")
		return err == nil && id != lost
	}, 30*time.Second, 50*time.Millisecond)
	id, sealed := seal(t, a, carl, "to be read by others")
	text, err := unseal(t, openKeystore(t, dsn, roots), carl, id, sealed)
	require.NoError(t, err)
	require.Equal(t, "to be read by others", text)
}

// Behind a pooler the server may change without the connection's end, and is asked anew.
func TestTheLineBehindAPooler(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, nil)
	s := create(t, primary.Bouncer(t, "transaction"), nil)
	require.Equal(t, "00000001", s.Line(t.Context()))
}
