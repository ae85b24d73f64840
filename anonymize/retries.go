package anonymize

import (
	"sync"
	"time"

	"github.com/oubli/oubli/keystore"
)

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
