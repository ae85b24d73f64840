package anonymize_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

// work runs a worker until the test ends, or stop is called.
func (p *process) work() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.eraser.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(p.t, <-done)
	})
	p.t.Cleanup(stop)
	return stop
}

// eventually waits until the subject is in a state, and what was destroyed is final.
func (p *process) eventually(s keystore.Subject, state keystore.State) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		sts, err := p.keys.Status(context.Background(), s)
		require.NoError(p.t, err)
		return sts[0].State == state && sts[0].Final
	}, 10*time.Second, time.Millisecond)
}

func TestWorkerTakesUpRequestsAtOnce(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2) // its Interval is 10 seconds
	p.listen("crm", nil)
	p.work()
	for _, id := range []string{"customer/1", "customer/2"} {
		start := time.Now()
		require.NoError(t, p.eraser.Request(ctx, subj(t, id)))
		require.NotEqual(t, keystore.StateActive, p.state(subj(t, id)), "durable before it returns")
		p.eventually(subj(t, id), keystore.StateErased)
		require.Less(t, time.Since(start), 5*time.Second)
	}
	require.Equal(t, []string{"crm customer/1", "crm customer/2"}, p.heard())
	require.Equal(t, "Erased", p.open(ctx, 1).FirstName)
}

func TestWorkerFindsWhatOthersRequested(t *testing.T) {
	ctx := background(t)
	d := newData(t)
	p := d.start(t, &anonymize.Options{Interval: 5 * time.Millisecond})
	p.addCustomer(1)
	p.work()
	require.NoError(t, d.bare(t, nil).eraser.RequestWith(ctx, &anonymize.Request{Keep: []string{"tax"}, Actor: "desk"}, subj(t, "customer/1")))
	p.eventually(subj(t, "customer/1"), keystore.StateRestricted)
}

func TestWorkerRetriesAndStarvesNobody(t *testing.T) {
	ctx := background(t)
	d := newData(t)
	var mu sync.Mutex
	reports := map[string][]anonymize.Result{}
	p := d.start(t, &anonymize.Options{Backoff: 10 * time.Millisecond, Report: func(r anonymize.Result) {
		mu.Lock()
		defer mu.Unlock()
		reports[r.Subject.String()] = append(reports[r.Subject.String()], r)
	}})
	var broken atomic.Bool
	broken.Store(true)
	p.eraser.PreAnonymize("customer", "crm", func(ctx context.Context, e anonymize.Erasure) error {
		if e.Subject.ID() != "3" && broken.Load() {
			return errors.New("down")
		}
		return nil
	})
	var failing []keystore.Subject
	for id := range int64(3) {
		p.addCustomer(id + 1)
	}
	failing = append(failing, subj(t, "customer/1"), subj(t, "customer/2"))
	p.work()
	require.NoError(t, p.eraser.Request(ctx, failing...))
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(reports["customer/1"]) >= 3 && len(reports["customer/2"]) >= 3
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, p.eraser.Request(ctx, subj(t, "customer/3")))
	p.eventually(subj(t, "customer/3"), keystore.StateErased)
	require.Equal(t, keystore.StateErasing, p.state(failing[0]))

	mu.Lock()
	require.ErrorContains(t, reports["customer/1"][0].Err, "down")
	mu.Unlock()
	broken.Store(false)
	require.NoError(t, p.eraser.Request(ctx, failing...)) // asking again does not wait for the pause
	for _, s := range failing {
		p.eventually(s, keystore.StateErased)
	}
}

// Two processes never call a receiver twice for one erasure while both live.
func TestWorkersShareByClaims(t *testing.T) {
	ctx := background(t)
	d := newData(t)
	var mu sync.Mutex
	calls := map[string]int{}
	var all []keystore.Subject
	var last *process
	var stops []func()
	for range 2 {
		p := d.start(t, &anonymize.Options{Interval: 2 * time.Millisecond})
		p.eraser.PreAnonymize("customer", "crm", func(ctx context.Context, e anonymize.Erasure) error {
			mu.Lock()
			calls[e.Subject.String()]++
			mu.Unlock()
			time.Sleep(3 * time.Millisecond)
			return nil
		})
		if all == nil {
			for id := range int64(12) {
				p.addCustomer(id + 1)
				s, err := keystore.NewSubject("customer", id+1)
				require.NoError(t, err)
				all = append(all, s)
			}
			require.NoError(t, p.eraser.Request(ctx, all...))
		}
		stops = append(stops, p.work(), p.work()) // two workers in one process
		last = p
	}
	results, err := d.start(t, nil).eraser.Anonymize(ctx, all...) // waits for whoever has them
	if err != nil {
		require.ErrorIs(t, err, keystore.ErrWaiting, "it has no receivers of its own")
	}
	require.Len(t, results, len(all))
	p := d.bare(t, nil)
	for _, s := range all {
		p.eventually(s, keystore.StateErased)
		mu.Lock()
		require.Equal(t, 1, calls[s.String()], s)
		mu.Unlock()
	}
	// Of two that advance at once, one may leave a root that the next erasure supersedes.
	for _, stop := range stops {
		stop()
	}
	last.addCustomer(13)
	_, err = last.eraser.Anonymize(ctx, subj(t, "customer/13"))
	require.NoError(t, err)
}

// A worker that dies leaves its claim, which another takes over when it has run out.
func TestWorkerTakesOverFromTheDead(t *testing.T) {
	ctx := background(t)
	d := newData(t)
	p := d.start(t, &anonymize.Options{Interval: 10 * time.Millisecond})
	p.addCustomer(1)
	s := subj(t, "customer/1")
	require.NoError(t, p.eraser.Request(ctx, s))
	require.NoError(t, p.keys.Claim(ctx, s, "the dead", 2*time.Second))
	p.work()
	time.Sleep(100 * time.Millisecond)
	require.Equal(t, keystore.StateErasing, p.state(s), "the claim is respected")
	p.eventually(s, keystore.StateErased)
}

// A claim is renewed while its holder works.
func TestClaimOutlivesItsLease(t *testing.T) {
	ctx := background(t)
	d := newData(t)
	p := d.start(t, &anonymize.Options{Lease: 1500 * time.Millisecond})
	p.addCustomer(1)
	s := subj(t, "customer/1")
	other := d.start(t, nil)
	p.eraser.PreAnonymize("customer", "slow", func(ctx context.Context, e anonymize.Erasure) error {
		for range 25 {
			time.Sleep(100 * time.Millisecond)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		p.called("slow " + e.Subject.String())
		err := other.keys.Claim(ctx, s, "thief", time.Second)
		if !errors.Is(err, keystore.ErrConflict) {
			return errors.New("the claim was lost")
		}
		return nil
	})
	_, err := p.eraser.Anonymize(ctx, s)
	require.NoError(t, err)
	require.Equal(t, []string{"slow customer/1"}, p.heard())
}

func TestWorkerEndsWithItsContextOrKeystore(t *testing.T) {
	p := newProcess(t, 1)
	stop := p.work()
	time.Sleep(10 * time.Millisecond)
	stop()

	d := newData(t)
	keys, err := keystore.Open(context.Background(), d.backend, d.roots, nil)
	require.NoError(t, err)
	e, err := anonymize.New(keys, nil)
	require.NoError(t, err)
	require.NoError(t, keys.Close())
	require.ErrorIs(t, e.Run(background(t)), keystore.ErrClosed)
}
