package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// A process is so slow that after each of its calls others have finished the advance that
// it saw under way, and the next two, and destroyed the roots. It finds its way, whatever it
// was about.
func TestWhoIsOvertakenByAdvances(t *testing.T) {
	for name, f := range map[string]func(p *process, subs []keystore.Subject) error{
		"advance": func(p *process, _ []keystore.Subject) error { return p.store.Advance(p.c.ctx) },
		"erase": func(p *process, subs []keystore.Subject) error {
			_, err := p.erase(subs[3])
			return err
		},
		"look up": func(p *process, subs []keystore.Subject) error {
			_, err := p.store.Lookup(p.c.ctx, nil, subs...)
			return err
		},
		"make keys": func(p *process, _ []keystore.Subject) error {
			_, err := p.store.Ensure(p.c.ctx, nil, []string{""}, subject(p.c.t, 10), subject(p.c.t, 11))
			return err
		},
		"rotate": func(p *process, subs []keystore.Subject) error {
			errs, err := p.store.Rotate(p.c.ctx, subs[3], subs[4])
			return errors.Join(append(errs, err)...)
		},
		"status": func(p *process, subs []keystore.Subject) error {
			_, err := p.store.Status(p.c.ctx, subs...)
			return err
		},
		"health": func(p *process, _ []keystore.Subject) error {
			_, err := p.store.Health(p.c.ctx)
			return err
		},
		"verify": func(p *process, _ []keystore.Subject) error {
			_, err := p.store.Verify(p.c.ctx) // what it finds amid advances is to be looked at again
			return err
		},
		"open": func(p *process, _ []keystore.Subject) error {
			s, err := p.open()
			if err == nil {
				err = s.Close()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			for call := 1; overtaken(t, f, call); call++ {
			}
		})
	}
}

// overtaken tells whether the slow process made that many calls.
func overtaken(t *testing.T, f func(*process, []keystore.Subject) error, call int) bool {
	c := newCluster(t, &keystore.CreateOptions{Shards: 2, Lease: long})
	a, slow, dead := c.process(), c.process(), c.process()
	a.through(a.hurried)
	var subs []keystore.Subject
	for n := range 5 {
		subs = append(subs, subject(t, n+1))
		seal(t, a.store, subs[n], "", "x")
	}
	commits := 0
	dead.through(func(ctx context.Context, name string, do func() error) error {
		return dead.hurried(ctx, name, func() error {
			if name == "Commit" {
				if commits++; commits > 2 { // the erasure, the intent
					return fmt.Errorf("dead: %w", keystore.ErrUnavailable)
				}
			}
			return do()
		})
	})
	_, err := dead.erase(subs[0])
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	h, err := a.store.Health(c.ctx)
	require.NoError(t, err)
	require.True(t, h.Advancing)

	calls, met := 0, ""
	slow.through(func(ctx context.Context, name string, do func() error) error {
		return slow.hurried(ctx, name, func() error {
			err := do()
			if name != "Poll" && name != "Notify" && met == "" {
				if calls++; calls == call {
					met = name
					a.must(subs[1])
					a.must(subs[2])
				}
			}
			return err
		})
	})
	err = f(slow, subs)
	require.NoError(t, err, "after call %d, a %s", call, met)
	a.must(subs[4]) // what lost is superseded with the next
	c.check()
	return met != ""
}

// The lease of a primary tells nothing of the one that replaced it, which lacks a change:
// what is read there under it is refused.
func TestReadingUnderTheLeaseOfAPrimaryThatWasReplaced(t *testing.T) {
	c := newCluster(t, leaseOf(long))
	a, b := c.process(), c.process()
	ann := subject(t, 1)
	seal(t, a.store, ann, "", "x")
	before := c.current().Snapshot()
	a.request(ann)
	require.NoError(t, b.store.Poll(c.ctx))
	c.goBack(before)
	_, err := b.store.Lookup(c.ctx, nil, ann)
	require.ErrorIs(t, err, keystore.ErrBehind)
	_, err = b.store.Rotate(c.ctx, ann)
	require.ErrorIs(t, err, keystore.ErrBehind)
}

// Who did not hear of an erasure before it was lost learns of it from the anchor, before it
// serves anybody again.
func TestAnErasureThatWasLostWhileAProcessSlept(t *testing.T) {
	c := newCluster(t, &keystore.CreateOptions{Shards: 64, Lease: long, Grace: time.Hour})
	a, asleep := c.process(), c.process()
	a.through(a.hurried)
	ann, bob := subject(t, 1), subject(t, 2)
	seal(t, a.store, ann, "", "x")
	seal(t, a.store, bob, "", "x")
	require.NoError(t, asleep.store.Poll(c.ctx))
	asleep.keys(ann)
	before := c.current().Snapshot()
	_, err := a.erase(ann)
	require.NoError(t, err)
	c.goBack(before)
	asleep.pass(long)
	for _, sub := range []keystore.Subject{ann, bob} {
		_, err := asleep.store.Lookup(c.ctx, nil, sub)
		require.ErrorIs(t, err, keystore.ErrBehind)
	}
}
