package keystore_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

const short = 150 * time.Millisecond

// await is AwaitErasing, with the time that it took.
func (p *process) await(subs ...keystore.Subject) time.Duration {
	p.c.t.Helper()
	return took(func() { require.NoError(p.c.t, p.store.AwaitErasing(p.c.ctx, subs...)) })
}

func TestALeaseIsWaitedOnceForABatch(t *testing.T) {
	t.Parallel()
	c := newCluster(t, leaseOf(short))
	a, b := c.process(), c.process()
	var subs []keystore.Subject
	for i := range 50 {
		subs = append(subs, subject(t, i+1))
	}
	_, err := a.store.Ensure(c.ctx, nil, []string{""}, subs...)
	require.NoError(t, err)
	none := short / 2 // far less than a lease, far more than a call takes
	require.Less(t, a.await(subs...), none, "nobody is erasing")
	require.Less(t, took(func() { a.request(subs...) }), none, "a request does not wait")
	first := a.await(subs...)
	require.Greater(t, first, short/2)
	require.Less(t, first, 2*short)
	require.Less(t, a.await(subs...), none, "of the same erasures, everybody knows")
	require.Less(t, took(func() { a.must(subs[:40]...) }), short, "nor is there anything to wait for when the keys go")

	// Cancelled and requested again it is another erasure; who was served between may be still.
	last := subs[49]
	require.NoError(t, a.store.Cancel(c.ctx, last))
	require.NoError(t, b.store.Poll(c.ctx))
	require.NoError(t, b.keys(last).Err())
	a.request(last)
	require.Greater(t, a.await(subs[40:]...), short/2)

	// Another process has not met these erasures. It takes them to be as old as its knowledge.
	require.GreaterOrEqual(t, b.await(subs[40:]...), short)
	require.Less(t, b.await(subs[40:]...), none)
	d := c.process()
	require.GreaterOrEqual(t, took(func() { d.must(subs[41]) }), short, "so it does when it destroys")
	require.Less(t, took(func() { d.must(subs[41]) }), none, "but once")
	require.Less(t, took(func() { b.must(subs[42]) }), none)
}

// A request whose answer was lost may become visible long after it: nobody counts from then.
func TestARequestOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	c := newCluster(t, leaseOf(short))
	a := c.process()
	ann := subject(t, 1)
	seal(t, a.store, ann, "", "x")
	late := make(chan struct{})
	landed := make(chan error, 1)
	a.through(func(ctx context.Context, name string, do func() error) error {
		if name != "Commit" {
			return do()
		}
		go func() { <-late; landed <- do() }()
		return refuse(ctx, name, do)
	})
	_, err := a.store.RequestErasure(c.ctx, keystore.Request{Subject: ann})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	a.heal()
	time.Sleep(short + short/4) // as it waits for a standby, say
	close(late)
	require.NoError(t, <-landed)
	require.Greater(t, a.await(ann), short/2)
}

func TestAWaitThatIsGivenUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, leaseOf(short))
	a := c.process()
	ann, bob, carl, dora := subject(t, 1), subject(t, 2), subject(t, 3), subject(t, 4)
	for _, sub := range []keystore.Subject{ann, bob, carl, dora} {
		seal(t, a.store, sub, "", "x")
		seal(t, a.store, sub, "tax", "x")
	}
	a.request(ann)
	given := func(what string, op func(ctx context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(c.ctx, short/3)
		defer cancel()
		err := op(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded, what)
	}
	given("await", func(ctx context.Context) error { return a.store.AwaitErasing(ctx, ann) })
	given("erase", func(ctx context.Context) error {
		_, err := a.store.Erase(ctx, keystore.Request{Subject: bob})
		return err
	})
	given("restrict", func(ctx context.Context) error { return a.store.Restrict(ctx, carl, nil) })
	given("withdraw", func(ctx context.Context) error { _, err := a.store.Withdraw(ctx, dora, "tax"); return err })
	require.Equal(t, keystore.StateErasing, a.state(ann))
	require.Equal(t, keystore.StateErased, a.state(bob), "what was changed stands")
	require.Equal(t, keystore.StateRestricted, a.state(carl))
	require.True(t, a.keys(dora).Withdrawn("tax"))
	// Whoever asks again gets it all.
	a.must(ann, bob)
	require.NoError(t, a.store.Restrict(c.ctx, carl, nil))
	e, err := a.store.Withdraw(c.ctx, dora, "tax")
	require.NoError(t, err)
	require.True(t, e.Final)
	c.check()
}

// A keystore that nobody shares has nobody to wait for.
func TestNobodyWaitsForNobody(t *testing.T) {
	_, s := counterStore(t, 0)
	ann := subject(t, 1)
	seal(t, s, ann, "", "x")
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.Lease)
	require.Less(t, took(func() {
		require.NoError(t, s.Restrict(t.Context(), ann, nil))
		require.NoError(t, s.Release(t.Context(), ann))
		_, err = s.RequestErasure(t.Context(), keystore.Request{Subject: ann})
		require.NoError(t, err)
		require.NoError(t, s.AwaitErasing(t.Context(), ann))
		_, err = s.Erase(t.Context(), keystore.Request{Subject: ann})
		require.NoError(t, err)
	}), keystore.DefaultLease)
}

// While a standby lags, superseded roots live on, and everybody is told that.
func TestAStandbyThatLags(t *testing.T) {
	c := newCluster(t, leaseOf(long))
	a := c.process()
	ann, bob := subject(t, 1), subject(t, 2)
	seal(t, a.store, ann, "", "x")
	seal(t, a.store, bob, "", "x")
	lags := true
	a.through(func(ctx context.Context, name string, do func() error) error {
		if name == "Replicated" && lags {
			return fmt.Errorf("standby b lags: %w", keystore.ErrUnavailable)
		}
		return a.hurried(ctx, name, do)
	})
	es, err := a.erase(ann)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "standby b lags")
	require.Len(t, es, 1)
	require.Equal(t, keystore.StateErased, es[0].State)
	require.False(t, es[0].Final)
	h, err := a.store.Health(c.ctx)
	require.NoError(t, err)
	require.Equal(t, 1, h.Overdue)
	require.Len(t, h.NotFinal, 1)
	roots, err := c.roots.Load(c.ctx)
	require.NoError(t, err)
	require.Len(t, roots.Living, 2)
	require.ErrorIs(t, a.store.Advance(c.ctx), keystore.ErrUnavailable)

	lags = false
	require.NoError(t, a.store.Advance(c.ctx))
	st, err := a.store.Status(c.ctx, ann)
	require.NoError(t, err)
	require.True(t, st[0].Final)
	h, err = a.store.Health(c.ctx)
	require.NoError(t, err)
	require.Zero(t, h.Overdue)
	roots, err = c.roots.Load(c.ctx)
	require.NoError(t, err)
	require.Len(t, roots.Living, 1)
	c.check()
}

func TestOpenWithoutAPoll(t *testing.T) {
	c := newCluster(t, leaseOf(long))
	before := runtime.NumGoroutine()
	p := c.closed()
	p.through(func(ctx context.Context, name string, do func() error) error {
		if name == "Poll" {
			return refuse(ctx, name, do)
		}
		return do()
	})
	_, err := p.open()
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	settled(t, before)
	p.heal()
	s, err := p.open()
	require.NoError(t, err)
	require.NoError(t, s.Close())
	settled(t, before)
}

// Close ends a poll that gets no answer, and who listens.
func TestCloseDuringAPoll(t *testing.T) {
	c := newCluster(t, leaseOf(50*time.Millisecond))
	before := runtime.NumGoroutine()
	p := c.process()
	ann := subject(t, 1)
	seal(t, p.store, ann, "", "x")
	k := p.keys(ann)
	polling := make(chan struct{}, 100)
	p.through(func(ctx context.Context, name string, do func() error) error {
		if name == "Poll" {
			polling <- struct{}{}
		}
		return hang(ctx, name, do)
	})
	<-polling
	require.Less(t, took(func() { require.NoError(t, p.store.Close()) }), time.Second)
	settled(t, before)
	require.False(t, keystore.Fresh(k))
	_, err := p.store.Lookup(c.ctx, nil, ann)
	require.ErrorIs(t, err, keystore.ErrClosed)
	require.NoError(t, p.store.Close())
}

// settled waits until no more goroutines are left than there were.
func settled(t *testing.T, before int) {
	t.Helper()
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 5*time.Second, 5*time.Millisecond) // and the one of Eventually
}
