package keystore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// After a failover to a standby that lagged, what was changed last is lost. Nobody is
// served any more, and what was read before is not used.
func TestADatabaseThatWentBackInTime(t *testing.T) {
	for name, after := range map[string]func(c *cluster, others *process, ann, bob keystore.Subject){
		"lower": func(*cluster, *process, keystore.Subject, keystore.Subject) {},
		"gone on to the same number": func(c *cluster, o *process, ann, bob keystore.Subject) {
			o.request(ann)
		},
		"gone on to a higher number": func(c *cluster, o *process, ann, bob keystore.Subject) {
			o.request(ann)
			require.NoError(c.t, o.store.Cancel(c.ctx, ann))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, leaseOf(long))
			a, b := c.process(), c.process()
			ann, bob := subject(t, 1), subject(t, 2)
			seal(t, a.store, ann, "", "x")
			seal(t, a.store, bob, "", "x")
			before := c.current().Snapshot()
			a.request(ann)
			carl := subject(t, 3)
			seal(t, a.store, carl, "", "made on the time line that is lost")
			require.Equal(t, keystore.StateErasing, b.state(ann))
			k := b.keys(carl)
			require.NoError(t, b.store.Poll(c.ctx))
			require.True(t, keystore.Fresh(k))
			c.goBack(before)
			if name != "gone on to the same number" {
				require.ErrorIs(t, b.store.Poll(c.ctx), keystore.ErrBehind)
			}
			after(c, c.process(), ann, bob)
			require.ErrorIs(t, b.store.Poll(c.ctx), keystore.ErrBehind)
			require.False(t, keystore.Fresh(k), "its key is lost")
			b.pass(long)
			for range 2 {
				_, err := b.store.Lookup(c.ctx, nil, bob)
				require.ErrorIs(t, err, keystore.ErrBehind)
				require.ErrorContains(t, err, "went back in time")
			}
			_, err := b.store.Ensure(c.ctx, nil, []string{""}, bob)
			require.ErrorIs(t, err, keystore.ErrBehind)
			_, err = b.erase(bob)
			require.ErrorIs(t, err, keystore.ErrBehind)
		})
	}
}
