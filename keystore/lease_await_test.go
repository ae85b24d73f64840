package keystore_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

const short = 150 * time.Millisecond

// waits tells whether AwaitErasing would wait for longer than any test.
func (p *process) waits(subs ...keystore.Subject) bool {
	p.c.t.Helper()
	ctx, cancel := context.WithTimeout(p.c.ctx, 20*time.Millisecond)
	defer cancel()
	err := p.store.AwaitErasing(ctx, subs...)
	if err == nil {
		return false
	}
	require.ErrorIs(p.c.t, err, context.DeadlineExceeded)
	require.ErrorContains(p.c.t, err, "other processes")
	return true
}

func TestALeaseIsWaitedOnceForABatch(t *testing.T) {
	c := newCluster(t, leaseOf(long))
	a, b := c.process(), c.process()
	var subs []keystore.Subject
	for i := range 50 {
		subs = append(subs, subject(t, i+1))
	}
	_, err := a.store.Ensure(c.ctx, nil, []string{""}, subs...)
	require.NoError(t, err)
	require.False(t, a.waits(subs...), "nobody is erasing")
	a.request(subs...) // which does not wait
	require.True(t, a.waits(subs...))
	a.pass(long / 2)
	require.True(t, a.waits(subs...))
	require.True(t, b.waits(subs...), "who meets them later counts from then")
	a.pass(long / 2)
	require.False(t, a.waits(subs...), "one lease for all of them")
	a.must(subs[:40]...) // nor is there anything to wait for when the keys go
	require.True(t, b.waits(subs[40:]...))
	b.pass(long)
	require.False(t, b.waits(subs[40:]...))

	// Cancelled and requested again it is another erasure; who was served between may be still.
	last := subs[49]
	require.NoError(t, a.store.Cancel(c.ctx, last))
	require.NoError(t, b.store.Poll(c.ctx))
	require.NoError(t, b.keys(last).Err())
	a.request(last)
	require.True(t, a.waits(subs[40:]...))
	require.True(t, b.waits(subs[40:]...))
	require.False(t, a.waits(subs[40:49]...))

	// So it is where the keys go: a process that has not met an erasure takes it for new.
	d := c.process()
	for range 2 {
		ctx, cancel := context.WithTimeout(c.ctx, 50*time.Millisecond)
		_, err = d.store.Erase(ctx, keystore.Request{Subject: subs[41]}, keystore.Request{Subject: subs[40]})
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded, "nor is it over because it was given up once")
	}
	d.pass(long)
	d.must(subs[41], subs[40])
	d.must(subs[41])
	b.must(subs[42])
}

// A request whose answer was lost may become visible long after it: nobody counts from then.
func TestARequestOfUnknownOutcome(t *testing.T) {
	c := newCluster(t, leaseOf(long))
	a := c.process()
	ann := subject(t, 1)
	seal(t, a.store, ann, "", "x")
	var late func() error
	a.through(func(ctx context.Context, name string, do func() error) error {
		if name != "Commit" {
			return do()
		}
		late = do
		return refuse(ctx, name, do)
	})
	_, err := a.store.RequestErasure(c.ctx, keystore.Request{Subject: ann})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	a.heal()
	a.pass(long) // as it waits for a standby, say
	require.NoError(t, late())
	require.True(t, a.waits(ann))
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
	given("restrict", func(ctx context.Context) error { return joined(a.store.Restrict(ctx, nil, carl)) })
	given("withdraw", func(ctx context.Context) error { _, err := a.store.Withdraw(ctx, dora, "tax"); return err })
	require.Equal(t, keystore.StateErasing, a.state(ann))
	require.Equal(t, keystore.StateErased, a.state(bob), "what was changed stands")
	require.Equal(t, keystore.StateRestricted, a.state(carl))
	require.True(t, a.keys(dora).Withdrawn("tax"))
	// Whoever asks again gets it all.
	a.must(ann, bob)
	require.NoError(t, joined(a.store.Restrict(c.ctx, nil, carl)))
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
		require.NoError(t, joined(s.Restrict(t.Context(), nil, ann)))
		require.NoError(t, joined(s.Release(t.Context(), ann)))
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

// A worker that lost its claim may have a receiver that still reads: who destroys the keys
// waits once more for it, and for nobody's claim but another's.
func TestAClaimThatWasLostIsWaitedFor(t *testing.T) {
	for _, lost := range []bool{true, false} {
		c := newCluster(t, leaseOf(long))
		a, b := c.process(), c.process()
		ann := subject(t, 1)
		seal(t, a.store, ann, "", "x")
		a.request(ann)
		if lost {
			require.NoError(t, b.store.Claim(c.ctx, ann, "b", time.Nanosecond))
		}
		require.NoError(t, a.store.Claim(c.ctx, ann, "a", time.Minute))
		require.NoError(t, a.store.Claim(c.ctx, ann, "a", time.Minute))
		a.pass(long)
		require.False(t, a.waits(ann))
		ctx, cancel := context.WithTimeout(c.ctx, 50*time.Millisecond)
		_, err := a.store.Erase(ctx, keystore.Request{Subject: ann})
		cancel()
		require.Equal(t, lost, err != nil)
	}
}

// However many are restricted, one lease is waited for, and none where all are refused.
func TestRestrictWaitsOnceForABatch(t *testing.T) {
	t.Parallel()
	c := newCluster(t, leaseOf(short))
	a, b := c.process(), c.process()
	var subs []keystore.Subject
	for i := range 200 {
		subs = append(subs, subject(t, i+1))
	}
	_, err := a.store.Ensure(c.ctx, nil, []string{""}, subs...)
	require.NoError(t, err)
	require.Equal(t, keystore.StateActive, b.state(subs[7]))
	nobody := subject(t, 1000)
	batch := append([]keystore.Subject{nobody, {}}, subs...)
	commits, gets := a.commits.Load(), a.gets.Load()
	d := took(func() {
		errs, err := a.store.Restrict(c.ctx, nil, append(batch, subs[0])...)
		require.NoError(t, err)
		require.Len(t, errs, len(batch)+1)
		require.ErrorIs(t, errs[0], keystore.ErrUnknownSubject)
		require.ErrorContains(t, errs[0], nobody.String())
		require.ErrorIs(t, errs[1], keystore.ErrInvalid)
		for _, err := range errs[2:] {
			require.NoError(t, err)
		}
	})
	require.GreaterOrEqual(t, d, short)
	require.Less(t, d, 10*short)
	require.EqualValues(t, 1, a.commits.Load()-commits)
	require.EqualValues(t, 1, a.gets.Load()-gets)
	require.ErrorIs(t, b.keys(subs[7]).Err(), keystore.ErrRestricted)

	commits, gets = a.commits.Load(), a.gets.Load()
	errs, err := a.store.Release(c.ctx, batch...)
	require.NoError(t, err)
	require.ErrorIs(t, errs[0], keystore.ErrUnknownSubject)
	require.ErrorIs(t, errs[1], keystore.ErrInvalid)
	require.NoError(t, joined(errs[2:], nil))
	require.EqualValues(t, 1, a.commits.Load()-commits)
	require.LessOrEqual(t, a.gets.Load()-gets, int64(1+32), "not one for each")

	a.request(subs[:2]...)
	d = took(func() {
		errs, err = a.store.Restrict(c.ctx, nil, nobody, subs[0], subs[1])
		require.NoError(t, err)
	})
	require.ErrorIs(t, errs[1], keystore.ErrErasing)
	require.ErrorIs(t, errs[2], keystore.ErrErasing)
	require.Less(t, d, short/2, "nothing was changed")
	errs, err = a.store.Restrict(c.ctx, nil)
	require.NoError(t, err)
	require.Empty(t, errs)
	c.check()
}

func TestLeaseStatus(t *testing.T) {
	alone := keystoretest.New(t)
	require.Equal(t, keystore.LeaseStatus{Serves: true}, alone.Lease())

	c := newCluster(t, leaseOf(long))
	a := c.process()
	st := a.store.Lease()
	require.Equal(t, long, st.Length)
	require.True(t, st.Serves)
	require.WithinDuration(t, time.Now(), st.Polled, 5*time.Second)
	a.through(refuse)
	a.pass(long)
	require.Equal(t, keystore.LeaseStatus{Length: long, Polled: st.Polled}, a.store.Lease(), "it asks nobody")
	a.heal()
	require.NoError(t, a.store.Poll(c.ctx))
	now := a.store.Lease()
	require.True(t, now.Serves)
	require.True(t, now.Polled.After(st.Polled))
	require.NoError(t, a.store.Close())
	require.False(t, a.store.Lease().Serves)
}
