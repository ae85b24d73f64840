package keystore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// Whoever erases, withdraws or restricts waits until a process that is cut off has
// stopped serving what it remembers.
func TestACutOffProcessIsOutwaited(t *testing.T) {
	const lease = 300 * time.Millisecond
	ops := map[string]func(a *process, sub keystore.Subject) error{
		"erase": func(a *process, sub keystore.Subject) error { _, err := a.erase(sub); return err },
		"keep": func(a *process, sub keystore.Subject) error {
			_, err := a.store.Erase(a.c.ctx, keystore.Request{Subject: sub, Keep: []string{"tax"}})
			return err
		},
		"withdraw": func(a *process, sub keystore.Subject) error {
			_, err := a.store.Withdraw(a.c.ctx, sub, "tax")
			return err
		},
		"restrict": func(a *process, sub keystore.Subject) error { return joined(a.store.Restrict(a.c.ctx, nil, sub)) },
	}
	for name, op := range ops {
		for how, cut := range map[string]wire{"hangs": hang, "fails": refuse} {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				c := newCluster(t, leaseOf(lease))
				c.notifications(true)
				a, b := c.process(), c.process()
				ann := subject(t, 1)
				seal(t, a.store, ann, "", "x")
				seal(t, a.store, ann, "tax", "y")
				k := b.keys(ann)
				b.through(cut)
				was := time.Now()
				done := make(chan error, 1)
				go func() { done <- op(a, ann) }()
				var last time.Time
				for returned := false; ; time.Sleep(time.Millisecond) {
					select {
					case err := <-done:
						require.NoError(t, err)
						require.GreaterOrEqual(t, time.Since(was), lease)
						returned = true
					default:
					}
					now := time.Now()
					if fresh := keystore.Fresh(k); fresh {
						require.False(t, returned, "served after the change had returned")
						last = now
					}
					if returned {
						break
					}
				}
				require.False(t, last.IsZero(), "it serves for a while")
				require.Less(t, last.Sub(was), lease*9/10)

				var err error
				require.Less(t, took(func() { _, err = b.store.Lookup(c.ctx, nil, ann) }), lease+2*time.Second)
				require.ErrorIs(t, err, keystore.ErrUnavailable)
				require.NotErrorIs(t, err, keystore.ErrErased)
				require.NotErrorIs(t, err, keystore.ErrUnknownSubject)
				_, err = b.store.Ensure(c.ctx, nil, []string{""}, ann)
				require.ErrorIs(t, err, keystore.ErrUnavailable)
				b.heal()
				if name == "withdraw" {
					require.True(t, b.keys(ann).Withdrawn("tax"))
				} else {
					require.Error(t, b.keys(ann).Err())
				}
			})
		}
	}
}

func TestOthersSeeAChangeWithTheNextPoll(t *testing.T) {
	c := newCluster(t, leaseOf(long))
	a, b := c.process(), c.process()
	ann, bob := subject(t, 1), subject(t, 2)
	seal(t, a.store, ann, "", "x")
	seal(t, a.store, bob, "", "x")
	k := []keystore.Keys{b.keys(ann), b.keys(bob)}
	ctx, cancel := context.WithCancel(c.ctx)
	cancel()
	require.Error(t, joined(a.store.Restrict(ctx, nil, bob)), "nothing is changed by a call that was over")
	a.request(ann)
	require.True(t, keystore.Fresh(k...))
	require.Equal(t, keystore.StateActive, b.state(ann), "from its memory")
	require.NoError(t, b.store.Poll(c.ctx))
	require.False(t, keystore.Fresh(k[0]))
	_, ok := b.store.Cached(ann)
	require.False(t, ok)
	require.ErrorIs(t, b.keys(ann).Err(), keystore.ErrErasing)
	require.ErrorIs(t, b.keys(ann).WriteErr(), keystore.ErrErasing)
	require.NoError(t, a.store.Cancel(c.ctx, ann))
	require.NoError(t, b.store.Poll(c.ctx))
	require.NoError(t, b.keys(ann).Err())
}

// In the background: by the poll, or by a notification long before it.
func TestOthersSeeAChangeByThemselves(t *testing.T) {
	for _, lease := range []time.Duration{100 * time.Millisecond, long} {
		t.Run(fmt.Sprint(lease), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, leaseOf(lease))
			a, b := c.process(), c.process()
			ann := subject(t, 1)
			seal(t, a.store, ann, "", "x")
			require.Eventually(t, func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.ears) == 2 }, 5*time.Second, time.Millisecond)
			c.notifications(lease == long)
			k := b.keys(ann)
			a.request(ann)
			require.Eventually(t, func() bool { return b.state(ann) == keystore.StateErasing }, 5*time.Second, time.Millisecond)
			require.False(t, keystore.Fresh(k))
		})
	}
}

// A load that began before a change and arrives after the poll that told of it is not
// served, whatever else happened meanwhile.
func TestALoadThatWasOvertaken(t *testing.T) {
	for changes := 1; changes <= 3; changes++ {
		c := newCluster(t, leaseOf(long))
		a, b := c.process(), c.process()
		ann := subject(t, 1)
		seal(t, a.store, ann, "", "x")
		met := 0
		b.through(func(_ context.Context, name string, do func() error) error {
			err := do()
			if name == "Get" && met < changes { // what it read is on its way
				switch met++; met {
				case 2:
					require.NoError(t, a.store.Cancel(c.ctx, ann))
				default:
					a.request(ann)
				}
				require.NoError(t, b.store.Poll(c.ctx))
			}
			return err
		})
		want := keystore.StateErasing
		if changes == 2 {
			want = keystore.StateActive
		}
		require.Equal(t, want, b.state(ann), "after %d changes", changes)
		require.Equal(t, changes, met)
		b.heal()
		require.Equal(t, want, b.state(ann), "and it did not stay in memory")
	}
}

// A lease ends by either clock, and is taken to have begun when the poll was sent.
func TestClocks(t *testing.T) {
	const tick = 2 * time.Millisecond
	for name, jump := range map[string]func(p *process){
		"stopped":                  func(p *process) { p.pass(10 * time.Minute) },
		"just over":                func(p *process) { p.pass(long * 9 / 10) },
		"suspended, unknown to it": func(p *process) { p.pass(tick); p.boot.Add(int64(time.Hour)) },
		"wall clock forward":       func(p *process) { p.wall.Add(int64(time.Hour)) },
		"wall clock backward":      func(p *process) { p.wall.Add(-int64(time.Hour)) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, leaseOf(long))
			a, b := c.process(), c.process()
			ann, bob := subject(t, 1), subject(t, 2)
			seal(t, a.store, ann, "", "x")
			seal(t, a.store, bob, "", "x")
			k := []keystore.Keys{b.keys(ann), b.keys(bob)}
			b.pass(long / 2)
			require.True(t, keystore.Fresh(k...))
			a.request(ann)
			jump(b)
			require.False(t, keystore.Fresh(k...))
			b.through(refuse)
			_, err := b.store.Lookup(c.ctx, nil, bob)
			require.ErrorIs(t, err, keystore.ErrUnavailable)
			b.heal()
			polls := b.polls.Load()
			ks, err := b.store.Lookup(c.ctx, nil, ann, bob)
			require.NoError(t, err)
			require.Equal(t, polls+1, b.polls.Load(), "it polls before it serves again")
			require.Equal(t, keystore.StateErasing, ks[0].State())
			require.True(t, keystore.Fresh(ks...))
			require.False(t, keystore.Fresh(k[0]))
		})
	}
}

func TestALeaseBeginsWithTheSending(t *testing.T) {
	c := newCluster(t, leaseOf(long))
	a, b := c.process(), c.process()
	ann := subject(t, 1)
	seal(t, a.store, ann, "", "x")
	k := b.keys(ann)
	b.pass(long)
	b.through(func(_ context.Context, name string, do func() error) error {
		err := do()
		b.pass(long / 2)
		return err
	})
	require.NoError(t, b.store.Poll(c.ctx))
	b.heal()
	require.True(t, keystore.Fresh(k))
	b.pass(long * 4 / 10)
	require.False(t, keystore.Fresh(k))
	b.through(func(_ context.Context, name string, do func() error) error {
		err := do()
		b.pass(long)
		return err
	})
	require.NoError(t, b.store.Poll(c.ctx))
	require.False(t, keystore.Fresh(k), "an answer that took longer than a lease gives none")
}
