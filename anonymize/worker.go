package anonymize

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/oubli/oubli/keystore"
)

const (
	longestBackoff = 5 * time.Minute
	upkeep         = time.Minute // between calls of Store.Advance, which destroys roots that are due
	roundSize      = 1000        // subjects in one round, and one wait for leases, at most
	roundTime      = 5 * time.Second
)

// Run is a worker: it takes up what is requested, here or in other processes, and what
// others left unfinished, until ctx ends, when it returns nil. What fails is tried
// again with growing pauses and holds up nobody else. It also lets the key tree
// advance where that is due. It returns an error only if it cannot work at all.
//
// Subjects are worked on one after the other; several goroutines may call Run.
func (e *Eraser) Run(ctx context.Context) error {
	if err := e.Check(); err != nil {
		return err
	}
	e.workers.Add(1)
	defer e.workers.Add(-1)
	var advanced time.Time
	for ctx.Err() == nil {
		pause, err := e.round(ctx)
		if err == nil && time.Since(advanced) >= upkeep {
			err = e.keys.Advance(ctx)
			advanced = time.Now()
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, keystore.ErrClosed), errors.Is(err, keystore.ErrReadOnly):
			return err
		case err != nil:
			e.o.Logger.Error("looking for erasures failed", "error", logged(err))
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-e.wake:
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// Working tells whether a [Eraser.Run] of this Eraser is going on.
func (e *Eraser) Working() bool { return e.workers.Load() > 0 }

// round works on what is due once, and tells how long nothing will be.
func (e *Eraser) round(ctx context.Context) (pause time.Duration, err error) {
	if err := e.record(ctx, e.Kinds()...); err != nil {
		return e.o.Interval, err
	}
	var due []keystore.Request
	pending := map[keystore.Subject]bool{}
	full := false
	for st, err := range e.keys.Pending(ctx) {
		if err != nil {
			return e.o.Interval, err
		}
		pending[st.Subject] = true
		j, now := st.Journal, time.Now()
		taken := j.Claim != "" && j.Claim != e.o.Worker && now.Before(j.ClaimUntil)
		switch {
		case !e.retries.due(st.Subject, now):
		case taken:
			e.retries.taken(st.Subject, now, e.o.Interval)
		default:
			due = append(due, keystore.Request{Subject: st.Subject, Keep: st.Journal.Keep})
		}
		if full = len(due) == roundSize; full {
			break // there may be more: after these
		}
	}
	if !full {
		e.retries.prune(func(s keystore.Subject) bool { return pending[s] })
	}
	slices.SortFunc(due, func(x, y keystore.Request) int { return bySubject(x.Subject, y.Subject) })
	if len(due) > 1 { // elsewhere than the other workers, so as not to find all taken
		from := rand.IntN(len(due))
		due = slices.Concat(due[from:], due[:from])
	}
	b := &batch{e: e, limit: roundTime, results: map[keystore.Subject]Result{}}
	b.run(ctx, due)
	for _, q := range due {
		s := q.Subject
		r, tried := b.results[s]
		if !tried {
			full = true // there are more: slow ones, so what was ready went first
			continue
		}
		if ctx.Err() != nil && r.Err != nil {
			continue // interrupted, not failed
		}
		switch {
		case errors.Is(r.Err, keystore.ErrConflict): // errBusy too
			e.retries.later(s, time.Now(), e.o.Interval)
		case over(r):
			e.retries.clear(s)
		default:
			e.retries.failed(s, r.Err, time.Now(), e.o.Backoff)
		}
		if e.o.Report != nil && !errors.Is(r.Err, keystore.ErrConflict) {
			e.o.Report(r)
		}
	}
	if full {
		return 0, nil
	}
	return min(e.o.Interval, e.retries.next(time.Now())), nil
}
