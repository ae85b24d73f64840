package keystore_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// A process whose poll found that the database went back in time serves nobody from that
// moment on, however long its lease would have gone.
func TestADatabaseThatWentBackEndsTheLease(t *testing.T) {
	c := newCluster(t, leaseOf(long))
	a, b := c.process(), c.process()
	ann, bob := subject(t, 1), subject(t, 2)
	seal(t, a.store, ann, "", "x")
	seal(t, a.store, bob, "", "x")
	before := c.current().Snapshot()
	a.request(ann)
	require.NoError(t, b.store.Poll(c.ctx))
	c.goBack(before)
	require.ErrorIs(t, b.store.Poll(c.ctx), keystore.ErrBehind)
	_, err := b.store.Lookup(c.ctx, nil, ann)
	require.ErrorIs(t, err, keystore.ErrBehind, "her erasure is lost, and she would open")
	_, err = b.store.Ensure(c.ctx, nil, []string{""}, bob)
	require.ErrorIs(t, err, keystore.ErrBehind)
}

// A database that holds no keystore, or another one, does not extend a lease: else its
// silence about people would pass for what the keystore says.
func TestAnotherDatabaseIsNoKeystore(t *testing.T) {
	for name, other := range map[string]func(t *testing.T) *memstore.Store{
		"empty":   func(t *testing.T) *memstore.Store { return memstore.New() },
		"another": func(t *testing.T) *memstore.Store { return newCluster(t, leaseOf(long)).current() },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, leaseOf(long))
			p := c.process()
			ann, bob := subject(t, 1), subject(t, 2)
			seal(t, p.store, ann, "", "x")
			right := c.current()
			c.goBack(other(t))
			p.pass(long)
			for _, s := range []keystore.Subject{ann, bob} {
				_, err := p.store.Lookup(c.ctx, nil, s)
				require.ErrorIs(t, err, keystore.ErrUnavailable)
				require.NotErrorIs(t, err, keystore.ErrUnknownSubject)
			}
			c.goBack(right)
			require.NoError(t, p.keys(ann).Err(), "it goes on where it was")
		})
	}
}

// A failover to a standby that lagged can lose no more than the making of a key, which no
// counter tells. The process that made it must not go on sealing with what only it has.
func TestAKeyThatAFailoverLostIsNotUsed(t *testing.T) {
	c := newCluster(t, leaseOf(long))
	a := c.process()
	a.line.Store("1")
	require.NoError(t, a.store.Poll(c.ctx))
	ann, carl := subject(t, 1), subject(t, 2)
	seal(t, a.store, ann, "", "x")
	before := c.current().Snapshot()
	lost, _ := seal(t, a.store, carl, "", "made on the line that is lost")
	c.goBack(before)
	a.line.Store("2")
	require.NoError(t, a.store.Poll(c.ctx))
	id, box := seal(t, a.store, carl, "", "to be read by others")
	require.NotEqual(t, lost, id)
	text, err := open(c.ctx, c.process().store, carl, id, box)
	require.NoError(t, err)
	require.Equal(t, "to be read by others", text)
}

// The lease of a process that had the erasure claimed is waited for from the commit on, also
// where another call asked about the erasure while the commit was under way.
func TestALostClaimIsWaitedForFromTheCommit(t *testing.T) {
	c := newCluster(t, leaseOf(long))
	a, b := c.process(), c.process()
	ann := subject(t, 1)
	seal(t, a.store, ann, "", "x")
	a.request(ann)
	require.NoError(t, b.store.Claim(c.ctx, ann, "worker of b", time.Minute))
	a.pass(long)
	asked := false
	a.through(func(ctx context.Context, name string, do func() error) error {
		if name == "Commit" && !asked {
			asked = true
			require.True(t, a.waits(ann))
			a.pass(long)
		}
		return do()
	})
	ctx, cancel := context.WithTimeout(c.ctx, 200*time.Millisecond)
	defer cancel()
	_, err := a.store.Erase(ctx, keystore.Request{Subject: ann})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.True(t, asked)
}
