package anonymize

import (
	"sync"
	"time"

	"github.com/oubli/oubli/keystore"
)

// retries remember what failed, and when it is tried again. They are hints, not state: a
// new process tries at once.
type retries struct {
	mu sync.Mutex
	m  map[keystore.Subject]retry
}

type retry struct {
	at       time.Time // zero: as soon as a worker looks
	pause    time.Duration
	err      error // of the last attempt
	failures int
	again    bool // somebody asked for another attempt since the last one began
}

// maxAside bounds what failed outside Run: where none runs, nobody prunes.
const maxAside = 10000

func (r *retries) get(s keystore.Subject) retry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.m[s]
}

// change lets f change what is remembered of a subject.
func (r *retries) change(s keystore.Subject, f func(t *retry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.m[s]
	if f(&t); t == (retry{}) {
		delete(r.m, s)
		return
	}
	if r.m == nil {
		r.m = map[keystore.Subject]retry{}
	}
	r.m[s] = t
}

func (r *retries) due(s keystore.Subject, now time.Time) bool { return !now.Before(r.get(s).at) }

// begin notes that an attempt begins: whoever asks from now on wants another one.
func (r *retries) begin(s keystore.Subject) {
	r.change(s, func(t *retry) { t.again = false })
}

// failed puts a subject off, by first or twice as long as before.
func (r *retries) failed(s keystore.Subject, err error, now time.Time, first time.Duration) {
	r.change(s, func(t *retry) {
		t.err, t.failures = err, t.failures+1
		if t.again {
			t.again, t.at = false, now
			return
		}
		t.pause = min(max(first, 2*t.pause), longestBackoff)
		t.at = now.Add(t.pause)
	})
}

// aside remembers a failure outside Run, which has its own pauses.
func (r *retries) aside(s keystore.Subject, err error) {
	r.mu.Lock()
	_, known := r.m[s]
	full := len(r.m) >= maxAside && !known
	r.mu.Unlock()
	if !full {
		r.change(s, func(t *retry) { t.err, t.failures = err, t.failures+1 })
	}
}

// later puts off what another worker has, without counting a failure.
func (r *retries) later(s keystore.Subject, now time.Time, pause time.Duration) {
	r.change(s, func(t *retry) { t.at = now.Add(pause) })
}

// taken puts off what is due and in another worker's hands, so that Run does not look for
// it all the time. Of what never failed here there is nothing to put off.
func (r *retries) taken(s keystore.Subject, now time.Time, pause time.Duration) {
	r.change(s, func(t *retry) {
		if *t != (retry{}) {
			t.at = now.Add(pause)
		}
	})
}

// clear forgets the failures of a subject.
func (r *retries) clear(s keystore.Subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.m, s)
}

// hurry lets a subject be tried at once, with pauses that begin anew. What it failed with
// is remembered. Where no worker runs, and so nobody prunes, those that never failed here are
// tried at once anyway.
func (r *retries) hurry(s keystore.Subject, working bool) {
	r.change(s, func(t *retry) {
		if working || *t != (retry{}) {
			t.at, t.pause, t.again = time.Time{}, 0, true
		}
	})
}

// hurryAll does so for all of them, whose next attempt may still wait for its turn.
func (r *retries) hurryAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s, t := range r.m {
		t.at, t.pause = time.Time{}, 0
		r.m[s] = t
	}
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
		if !t.at.IsZero() { // else this round has tried it, or another worker has it
			next = min(next, t.at.Sub(now))
		}
	}
	return max(next, 0)
}
