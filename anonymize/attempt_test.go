package anonymize_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

// gate is a receiver that is called and then waits to be told its answer.
type gate struct {
	entered chan string
	answer  chan error
}

func (p *process) gate(name string) *gate {
	g := &gate{entered: make(chan string), answer: make(chan error)}
	p.eraser.PreAnonymize("customer", name, func(ctx context.Context, e anonymize.Erasure) error {
		select {
		case g.entered <- e.Subject.String():
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case err := <-g.answer:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return g
}

// forgotten waits until nothing is known of a subject.
func (p *process) forgotten(s keystore.Subject) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return p.eraser.Attempt(s) == anonymize.Attempt{} }, 10*time.Second, time.Millisecond)
}

// tried waits until n attempts have failed, and tells of the last.
func (p *process) tried(s keystore.Subject, n int) anonymize.Attempt {
	p.t.Helper()
	require.Eventually(p.t, func() bool { a := p.eraser.Attempt(s); return a.Failures >= n && a.Now == "" }, 10*time.Second, time.Millisecond)
	return p.eraser.Attempt(s)
}

func TestAttemptFollowsAnErasure(t *testing.T) {
	ctx := background(t)
	p := newData(t).start(t, &anonymize.Options{Backoff: time.Hour})
	p.addCustomer(1)
	crm := p.gate("crm")
	var at atomic.Value
	s := subj(t, "customer/1")
	p.customers.fail = func(op string, _ customer) error {
		if op == "save" {
			at.Store(p.eraser.Attempt(s).Now)
		}
		return nil
	}
	require.Equal(t, anonymize.Attempt{}, p.eraser.Attempt(s), "nothing was requested")
	p.work()
	require.NoError(t, p.eraser.Request(ctx, s))
	require.Equal(t, "customer/1", <-crm.entered)
	require.Equal(t, anonymize.Attempt{Now: "crm"}, p.eraser.Attempt(s))

	down := errors.New("down")
	before := time.Now()
	crm.answer <- down
	a := p.tried(s, 1)
	require.ErrorIs(t, a.Err, down)
	require.Equal(t, 1, a.Failures)
	require.WithinRange(t, a.Next, before.Add(5*time.Minute), time.Now().Add(5*time.Minute), "longer is no pause")

	require.NoError(t, p.eraser.Retry(ctx, s))
	require.Equal(t, "customer/1", <-crm.entered, "in spite of the pause")
	a = p.eraser.Attempt(s)
	require.Equal(t, "crm", a.Now)
	require.ErrorIs(t, a.Err, down, "the last failure is known until there is another outcome")
	require.Zero(t, a.Next)
	crm.answer <- fmt.Errorf("worse")
	a = p.tried(s, 2)
	require.ErrorContains(t, a.Err, "worse")
	require.Equal(t, 2, a.Failures)

	require.NoError(t, p.eraser.Retry(ctx, s))
	<-crm.entered
	crm.answer <- nil
	p.eventually(s, keystore.StateErased)
	require.Equal(t, "blanking", at.Load())
	p.forgotten(s)
}

func TestCancelForgetsAttempts(t *testing.T) {
	ctx := background(t)
	p := newData(t).start(t, nil)
	p.addCustomer(1)
	s := subj(t, "customer/1")
	p.listen("crm", func() error { return errors.New("down") })
	_, err := p.eraser.Anonymize(ctx, s)
	require.Error(t, err)
	require.Equal(t, 1, p.eraser.Attempt(s).Failures)
	require.NoError(t, p.eraser.Cancel(ctx, s))
	require.Equal(t, anonymize.Attempt{}, p.eraser.Attempt(s))
}

// What is taken back while Run is at it has not failed: requested again, it is not put off.
func TestWhatIsCancelledHasNotFailed(t *testing.T) {
	ctx := background(t)
	reported := make(chan anonymize.Result, 1)
	p := newData(t).start(t, &anonymize.Options{Interval: time.Hour, Backoff: time.Hour, Report: func(r anonymize.Result) { reported <- r }})
	p.addCustomer(1)
	s := subj(t, "customer/1")
	crm := p.gate("crm")
	stop := p.work()
	require.NoError(t, p.eraser.Request(ctx, s))
	<-crm.entered
	require.NoError(t, p.eraser.Cancel(ctx, s))
	require.ErrorIs(t, (<-reported).Err, keystore.ErrState)
	require.Equal(t, anonymize.Attempt{}, p.eraser.Attempt(s))
	require.NoError(t, p.eraser.Request(ctx, s))
	<-crm.entered
	crm.answer <- nil
	require.NoError(t, (<-reported).Err)
	stop()
}

// What is called by hand is remembered like what Run does, and does not change its pauses.
func TestAttemptsOutsideRun(t *testing.T) {
	ctx := background(t)
	p := newData(t).start(t, nil)
	for id := range int64(3) {
		p.addCustomer(id + 1)
	}
	var broken atomic.Bool
	broken.Store(true)
	p.listen("crm", func() error {
		if broken.Load() {
			return errors.New("down")
		}
		return nil
	})
	require.NoError(t, joined(p.keys.Restrict(ctx, &keystore.RestrictOptions{Hold: "case 7"}, subj(t, "customer/2"))))
	results, err := p.eraser.Anonymize(ctx, subj(t, "customer/1"), subj(t, "customer/2"), subj(t, "customer/9"))
	require.Error(t, err)
	require.Equal(t, anonymize.Attempt{Err: results[0].Err, Failures: 1}, p.eraser.Attempt(subj(t, "customer/1")))
	require.Equal(t, anonymize.Attempt{}, p.eraser.Attempt(subj(t, "customer/2")), "it was refused: nothing is pending")
	require.Equal(t, anonymize.Attempt{}, p.eraser.Attempt(subj(t, "customer/9")))

	over, cancel := context.WithCancel(ctx)
	p.heard()
	p.customers.fail = func(string, customer) error { cancel(); return nil }
	p.customerT.PreAnonymize("slow", func(ctx context.Context, _ anonymize.Erasure, _ customer) error { return ctx.Err() })
	broken.Store(false)
	_, err = p.eraser.Anonymize(over, subj(t, "customer/1"))
	require.ErrorIs(t, err, context.Canceled)
	require.NotEmpty(t, p.heard())
	require.Equal(t, 1, p.eraser.Attempt(subj(t, "customer/1")).Failures, "it was interrupted, and did not fail")

	p.customers.fail = nil
	_, err = p.eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, anonymize.Attempt{}, p.eraser.Attempt(subj(t, "customer/1")))
}

// An erasure that another process finishes or takes back is forgotten here.
func TestAttemptsAreBoundedByWhatIsPending(t *testing.T) {
	ctx := background(t)
	d := newData(t)
	p := d.start(t, &anonymize.Options{Interval: 5 * time.Millisecond, Backoff: time.Hour})
	q := d.start(t, nil)
	p.addCustomer(1)
	p.addCustomer(2)
	p.listen("crm", func() error { return errors.New("down") })
	q.listen("crm", nil)
	one, two := subj(t, "customer/1"), subj(t, "customer/2")
	stop := p.work()
	require.NoError(t, p.eraser.Request(ctx, one, two))
	p.tried(one, 1)
	p.tried(two, 1)
	_, err := q.eraser.Anonymize(ctx, one)
	require.NoError(t, err)
	require.NoError(t, q.eraser.Cancel(ctx, two))
	p.forgotten(one)
	p.forgotten(two)
	stop()
}

func TestRetryIsForThePendingOnly(t *testing.T) {
	ctx := keystore.WithActor(background(t), "desk 4")
	p := newData(t).start(t, &anonymize.Options{Backoff: time.Hour, Actor: "the service"})
	for id := range int64(3) {
		p.addCustomer(id + 1)
	}
	var broken atomic.Bool
	p.listen("crm", func() error {
		if broken.Load() {
			return errors.New("down")
		}
		return nil
	})
	one, two, three, none := subj(t, "customer/1"), subj(t, "customer/2"), subj(t, "customer/3"), subj(t, "customer/9")
	_, err := p.eraser.Anonymize(ctx, two)
	require.NoError(t, err)
	broken.Store(true)
	p.work()
	require.NoError(t, p.eraser.Request(ctx, one))
	p.tried(one, 1)
	broken.Store(false)

	err = p.eraser.Retry(ctx, one, two, three, none)
	var b *anonymize.BatchError
	require.ErrorAs(t, err, &b)
	require.ErrorIs(t, err, keystore.ErrState)
	require.ErrorContains(t, err, "3 of 4 subjects have no erasure to try again")
	require.Equal(t, []string{"erased", "active", "unknown"}, []string{b.Failed[0].State, b.Failed[1].State, b.Failed[2].State})
	p.eventually(one, keystore.StateErased)

	require.Equal(t, []string{"requested desk 4", "retried desk 4", "erased desk 4"}, p.history(one))
	require.Equal(t, []string{"requested desk 4", "erased desk 4"}, p.history(two))
	require.Empty(t, p.history(three))
	require.Equal(t, anonymize.Attempt{}, p.eraser.Attempt(three))
	require.NoError(t, p.eraser.Retry(ctx))
}

// history returns what was done to a subject, and by whom.
func (p *process) history(s keystore.Subject) (lines []string) {
	sts, err := p.keys.Status(context.Background(), s)
	require.NoError(p.t, err)
	for _, c := range sts[0].History {
		lines = append(lines, fmt.Sprintf("%s %s", c.Kind, c.Actor))
	}
	return lines
}

// Who asks while an attempt is going on wants another one: that one began before.
func TestRetryDuringAnAttempt(t *testing.T) {
	ctx := background(t)
	p := newData(t).start(t, &anonymize.Options{Backoff: time.Hour})
	p.addCustomer(1)
	crm := p.gate("crm")
	s := subj(t, "customer/1")
	p.work()
	require.NoError(t, p.eraser.Request(ctx, s))
	<-crm.entered
	require.NoError(t, p.eraser.Retry(ctx, s))
	crm.answer <- errors.New("down")
	<-crm.entered
	require.Equal(t, 1, p.eraser.Attempt(s).Failures)
	crm.answer <- errors.New("down")
	require.False(t, p.tried(s, 2).Next.IsZero(), "and no third")
	require.NoError(t, p.eraser.Cancel(ctx, s))
}

func TestActorOfTheContext(t *testing.T) {
	ctx := background(t)
	p := newData(t).start(t, &anonymize.Options{Actor: "the service"})
	desk := keystore.WithActor(ctx, "desk 4")
	s := subj(t, "customer/1")
	p.addCustomer(1)
	require.NoError(t, p.eraser.Request(ctx, s))
	require.NoError(t, p.eraser.Cancel(ctx, s))
	require.NoError(t, p.eraser.Request(desk, s))
	require.NoError(t, p.eraser.Cancel(desk, s))
	require.NoError(t, p.eraser.RequestWith(desk, &anonymize.Request{Actor: "api"}, s))
	require.NoError(t, p.eraser.Retry(ctx, s))
	require.Equal(t, []string{"requested the service", "cancelled the service", "requested desk 4", "cancelled desk 4",
		"requested api", "retried the service"}, p.history(s))
}

func TestWorkingWhileAnyRuns(t *testing.T) {
	p := newProcess(t, 1)
	require.False(t, p.eraser.Working())
	one, two := p.work(), p.work()
	require.Eventually(t, p.eraser.Working, time.Second, time.Millisecond)
	one()
	require.Eventually(t, p.eraser.Working, time.Second, time.Millisecond, "the other one")
	two()
	require.False(t, p.eraser.Working())

	three := p.work()
	require.Eventually(t, p.eraser.Working, time.Second, time.Millisecond)
	three()
	require.False(t, p.eraser.Working())
	p.eraser.PreAnonymize("customer", "", nil)
	require.Error(t, p.eraser.Run(background(t)))
	require.False(t, p.eraser.Working(), "with mistakes it does not begin")
}

// What a receiver says stays in this process' memory.
func TestTextsOfReceiversAreNotKept(t *testing.T) {
	ctx := background(t)
	var mu sync.Mutex
	var log bytes.Buffer
	d := newData(t)
	p := d.start(t, &anonymize.Options{Backoff: time.Millisecond, Logger: slog.New(slog.NewTextHandler(&locked{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	p.addCustomer(1)
	p.listen("crm", func() error { return errors.New("no mailbox ada1@example.com") })
	s := subj(t, "customer/1")
	stop := p.work()
	require.NoError(t, p.eraser.Request(ctx, s))
	a := p.tried(s, 2)
	require.NoError(t, p.eraser.Retry(ctx, s))
	_, err := p.eraser.Anonymize(ctx, s)
	require.ErrorContains(t, err, "ada1@example.com")
	stop()

	require.ErrorContains(t, a.Err, "ada1@example.com")
	var c *anonymize.CallbackError
	require.ErrorAs(t, a.Err, &c)
	require.Equal(t, `receiver of customer "crm" failed with a *errors.errorString`, c.Public())
	mu.Lock()
	defer mu.Unlock()
	require.Contains(t, log.String(), "crm")
	require.NotContains(t, log.String(), "ada1@example.com")
	for _, rec := range d.backend.Attempted() {
		require.NotContains(t, string(rec.Value), "ada1@example.com")
		require.NotContains(t, string(rec.Value), "mailbox")
	}
}

type locked struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
