package anonymize

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/oubli/oubli/keystore"
)

const (
	longestBackoff = 5 * time.Minute
	upkeep         = time.Minute // between calls of Store.Advance, which destroys roots that are due
	roundSize      = 100         // subjects in one advance
)

// Run is a worker: it takes up what is requested, here or in other processes, and what
// others left unfinished, until ctx ends, when it returns nil. What fails is tried
// again with growing pauses and holds up nobody else. It also lets the key tree
// advance where that is due. It returns an error only if it cannot work at all.
//
// Subjects are worked on one after the other; several goroutines may call Run.
func (e *Eraser) Run(ctx context.Context) error {
	if err := e.check(); err != nil {
		return err
	}
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

// round works on what is due once, and tells how long nothing will be.
func (e *Eraser) round(ctx context.Context) (pause time.Duration, err error) {
	if err := e.record(ctx, e.kinds()...); err != nil {
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
		if e.retries.due(st.Subject, time.Now()) {
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
	b := &batch{e: e, results: map[keystore.Subject]Result{}}
	b.run(ctx, due)
	for _, q := range due {
		s, r := q.Subject, b.results[q.Subject]
		if ctx.Err() != nil && r.Err != nil {
			continue // interrupted, not failed
		}
		switch {
		case errors.Is(r.Err, keystore.ErrConflict): // errBusy too
			e.retries.later(s, time.Now(), e.o.Interval)
		case r.Err != nil:
			e.retries.failed(s, time.Now(), e.o.Backoff)
		default:
			e.retries.clear(s)
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

// retries remember when what failed is tried again. They are hints, not state: a new
// process tries at once.
type retries struct {
	mu sync.Mutex
	m  map[keystore.Subject]retry
}

type retry struct {
	at    time.Time
	pause time.Duration
}

func (r *retries) due(s keystore.Subject, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !now.Before(r.m[s].at)
}

func (r *retries) failed(s keystore.Subject, now time.Time, first time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil {
		r.m = map[keystore.Subject]retry{}
	}
	pause := min(max(first, 2*r.m[s].pause), longestBackoff)
	r.m[s] = retry{now.Add(pause), pause}
}

// later puts off what another worker has, without counting a failure.
func (r *retries) later(s keystore.Subject, now time.Time, pause time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil {
		r.m = map[keystore.Subject]retry{}
	}
	r.m[s] = retry{now.Add(pause), r.m[s].pause}
}

// clear forgets the failures of a subject.
func (r *retries) clear(s keystore.Subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.m, s)
}

// prune forgets those that are not pending any more.
func (r *retries) prune(pending func(keystore.Subject) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.m {
		if !pending(s) {
			delete(r.m, s)
		}
	}
}

// next returns how long it is until the earliest retry.
func (r *retries) next(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := longestBackoff
	for _, t := range r.m {
		next = min(next, t.at.Sub(now))
	}
	return max(next, 0)
}
