package keystore_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// A process whose pages are memories of an epoch that another has ended reads, writes and
// creates; what it wrote is never under a generation that was retired.
func TestARememberedPageThatIsStale(t *testing.T) {
	for name, op := range map[string]func(b *process, ann, fay keystore.Subject) error{
		"create": func(b *process, ann, fay keystore.Subject) error {
			_, err := b.store.Ensure(b.c.ctx, nil, []string{""}, fay)
			return err
		},
		"ensure": func(b *process, ann, fay keystore.Subject) error {
			_, err := b.store.Ensure(b.c.ctx, nil, []string{"tax"}, ann, fay)
			return err
		},
		"rotate": func(b *process, ann, fay keystore.Subject) error {
			errs, err := b.store.Rotate(b.c.ctx, ann)
			require.NoError(b.c.t, errs[0])
			return err
		},
		"request": func(b *process, ann, fay keystore.Subject) error { b.request(ann); return nil },
		"read": func(b *process, ann, fay keystore.Subject) error {
			_, err := b.store.Lookup(b.c.ctx, nil, ann, fay)
			return err
		},
	} {
		for _, far := range []string{"in an advance", "after one", "after two"} {
			t.Run(name+" "+far, func(t *testing.T) {
				c := newCluster(t, &keystore.CreateOptions{Shards: 1, Lease: long}) // one page and one shard
				a, b := c.process(), c.process()
				ann, fay := subject(t, 1), subject(t, 2)
				id, sealed := seal(t, b.store, ann, "", "x")
				commits := 0
				a.through(func(ctx context.Context, name string, do func() error) error {
					if name == "Commit" && far == "in an advance" {
						if commits++; commits > 2 { // the keys, and the intent with the fresh generation
							return refuse(ctx, name, do)
						}
					}
					return a.hurried(ctx, name, do)
				})
				bob, carl := subject(t, 3), subject(t, 4)
				seal(t, c.process().store, bob, "", "y")
				_, err := a.erase(bob)
				if far == "in an advance" {
					require.ErrorIs(t, err, keystore.ErrUnavailable)
				} else {
					require.NoError(t, err)
				}
				if far == "after two" {
					seal(t, a.store, carl, "", "y")
					a.must(carl)
				}
				polls, before := b.polls.Load(), b.commits.Load()
				require.NoError(t, op(b, ann, fay))
				require.Equal(t, polls, b.polls.Load(), "nobody has told it of the new epoch")
				if name != "read" {
					require.Equal(t, before+2, b.commits.Load(), "the first one conflicts")
				}
				if k := b.keys(ann); k.Err() == nil {
					text, err := open(c.ctx, b.store, ann, id, sealed)
					require.NoError(t, err)
					require.Equal(t, "x", text)
				} else {
					require.Equal(t, "request", name)
				}
				require.NoError(t, c.process().store.Advance(c.ctx))
				c.check()
			})
		}
	}
}

// Once another process has advanced, superseded roots and the shard keys under them leave
// this one's memory, while it goes on.
func TestSupersededKeysAreForgotten(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Hour} {
		c := newCluster(t, &keystore.CreateOptions{Shards: 64, Grace: grace, Lease: long})
		a, b := c.process(), c.process()
		a.through(a.hurried)
		var subs []keystore.Subject
		for i := range 100 {
			subs = append(subs, subject(t, i+1))
			seal(t, b.store, subs[i], "", "x")
		}
		for n := range 3 {
			_, err := a.erase(subs[n])
			require.NoError(t, err)
			_, old, err := b.store.Remembered(c.ctx)
			require.NoError(t, err)
			require.Positive(t, old)
			require.NoError(t, b.store.Poll(c.ctx))
			roots, old, err := b.store.Remembered(c.ctx)
			require.NoError(t, err)
			require.Equal(t, 1, roots)
			require.Zero(t, old)
			for i, sub := range subs {
				require.Equal(t, i <= n, b.state(sub) == keystore.StateErased)
			}
			fay := subject(t, 1000+n)
			id, sealed := seal(t, b.store, fay, "", "new")
			text, err := open(c.ctx, a.store, fay, id, sealed)
			require.NoError(t, err)
			require.Equal(t, "new", text)
			errs, err := b.store.Rotate(c.ctx, subs[50])
			require.NoError(t, err)
			require.NoError(t, errs[0])
		}
		c.check()
	}
}

// A process that is in the midst of an advance when another ends it, and destroys the
// root, hears of that from its poll. It must not lose what it needs to find out.
func TestAPollDuringAnAdvance(t *testing.T) {
	for call := 1; ; call++ {
		c := newCluster(t, &keystore.CreateOptions{Shards: 2, Lease: long})
		a, b := c.process(), c.process()
		a.through(a.hurried)
		ann, bob, carl := subject(t, 1), subject(t, 2), subject(t, 3)
		for _, sub := range []keystore.Subject{ann, bob, carl} {
			seal(t, a.store, sub, "", "x")
		}
		calls, met := 0, ""
		b.through(func(ctx context.Context, name string, do func() error) error {
			if name != "Poll" && name != "Notify" && met == "" {
				if calls++; calls == call {
					met = name
					a.must(bob)
					// It fails where b is at this call in the midst of a poll.
					ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
					defer cancel()
					b.store.Poll(ctx)
				}
			}
			return b.hurried(ctx, name, do)
		})
		es, err := b.erase(ann)
		require.NoError(t, err, "before call %d, a %s", call, met)
		require.True(t, es[0].Final)
		require.NoError(t, b.store.Advance(c.ctx)) // what lost is superseded with the next
		b.through(b.hurried)
		b.must(carl)
		c.check()
		if met == "" {
			require.Greater(t, call, 10)
			break
		}
	}
}

// Two processes whose advances are divided among workers, and each of whose calls fails once,
// lose nobody.
func TestAnAdvanceOfManyShards(t *testing.T) {
	c := newCluster(t, &keystore.CreateOptions{Shards: 64, Lease: long})
	a, b := c.process(), c.process()
	a.store.SetManyShards(0)
	a.store.SetMoveBudget(3)
	var subs []keystore.Subject
	for n := range 400 {
		subs = append(subs, subject(t, n+1))
	}
	_, err := a.store.Ensure(c.ctx, nil, []string{""}, subs...)
	require.NoError(t, err)
	a.through(a.hurried)
	b.through(b.hurried)
	a.must(subs[:100]...)
	lost := errors.New("lost")
	for fail := 1; ; fail++ {
		var calls atomic.Int64
		a.through(func(ctx context.Context, name string, do func() error) error {
			if name == "Commit" && calls.Add(1) == int64(fail) {
				return lost
			}
			return a.hurried(ctx, name, do)
		})
		victims := subs[100+10*fail : 110+10*fail]
		_, err := a.erase(victims...)
		a.through(a.hurried)
		if calls.Load() < int64(fail) {
			require.NoError(t, err)
			require.Greater(t, fail, 5)
			break
		}
		require.ErrorIs(t, err, lost)
		require.NoError(t, b.store.Advance(c.ctx)) // which finishes what the other has begun
		if fail == 25 {
			break
		}
	}
	for i, sub := range subs {
		require.NotEqual(t, keystore.StateUnknown, b.state(sub))
		if i < 100 {
			require.Equal(t, keystore.StateErased, b.state(sub))
		}
	}
	c.check()
}
