// Package fault wraps a keystore.Backend so that tests can crash at every write, put a
// second actor between two steps of the first, and give an attacker everything that
// was ever written.
package fault

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/oubli/oubli/keystore"
)

// Mode is what becomes of the Commit call at which the process dies. Each group of it
// that a crash can separate from the next counts as one write.
type Mode uint8

const (
	Lost       Mode = iota // nothing of the call is applied
	Unanswered             // all of it is applied, and nobody learns of it
	Torn                   // the groups before the one that was named are applied
)

func (m Mode) String() string { return [...]string{"lost", "unanswered", "torn"}[m] }

// Modes lists all modes, for tests that go through them.
var Modes = []Mode{Lost, Unanswered, Torn}

// ErrDead is what every call returns after the fault, until Revive. It wraps
// keystore.ErrUnavailable.
var ErrDead = fmt.Errorf("injected fault, the process is dead: %w", keystore.ErrUnavailable)

// Backend passes calls on to another keystore.Backend until its fault is due. It is
// safe for concurrent use.
type Backend struct {
	inner keystore.Backend

	mu     sync.Mutex
	groups int // committed or attempted so far
	failAt int // the group at which to fail, 0: none
	mode   Mode
	dead   bool
	before func([]keystore.Group)
	hooked bool // before is running

	attempted, committed []keystore.Record
}

// Wrap returns a Backend without a fault around inner.
func Wrap(inner keystore.Backend) *Backend { return &Backend{inner: inner} }

// FailAt arms the fault: the process dies in the Commit call that holds the n-th group
// from now, where n is at least 1.
func (b *Backend) FailAt(n int, mode Mode) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failAt, b.mode = b.groups+n, mode
}

// Groups returns how many groups were passed to Commit so far. A dry run counts the
// places at which a test can crash.
func (b *Backend) Groups() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.groups
}

// Died tells whether the fault has struck.
func (b *Backend) Died() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dead
}

// Revive takes the fault back: a new process finds what the dead one left.
func (b *Backend) Revive() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead, b.failAt = false, 0
}

// Before has f called before each Commit, outside of any lock; nil ends it. f may use
// this Backend, and is not called for the commits made while it runs.
func (b *Backend) Before(f func(groups []keystore.Group)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.before = f
}

// Attempted returns every record that was ever passed to Commit, applied or not, in
// that order: what an attacker with every freed page and log may hold.
func (b *Backend) Attempted() []keystore.Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.attempted[:len(b.attempted):len(b.attempted)]
}

// Committed returns the records among them that were applied.
func (b *Backend) Committed() []keystore.Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.committed[:len(b.committed):len(b.committed)]
}

// Get implements keystore.Backend.
func (b *Backend) Get(ctx context.Context, keys [][]byte) ([]keystore.Record, error) {
	if b.Died() {
		return nil, ErrDead
	}
	return b.inner.Get(ctx, keys)
}

// Scan implements keystore.Backend.
func (b *Backend) Scan(ctx context.Context, from, to []byte, limit int) ([]keystore.Record, error) {
	if b.Died() {
		return nil, ErrDead
	}
	return b.inner.Scan(ctx, from, to, limit)
}

// Commit implements keystore.Backend.
func (b *Backend) Commit(ctx context.Context, groups []keystore.Group) (done int, err error) {
	b.interleave(groups)
	pass, dies := b.admit(groups)
	if pass < 0 {
		return 0, ErrDead
	}
	if pass > 0 || !dies {
		done, err = b.inner.Commit(ctx, groups[:pass])
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.committed = appendRecords(b.committed, groups[:done])
	if dies || b.dead { // nobody lives to take an answer
		return 0, ErrDead
	}
	return done, err
}

// interleave calls the hook, unless it is running: then it is the hook that commits.
func (b *Backend) interleave(groups []keystore.Group) {
	b.mu.Lock()
	before := b.before
	if before == nil || b.hooked || b.dead {
		b.mu.Unlock()
		return
	}
	b.hooked = true
	b.mu.Unlock()
	before(groups)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hooked = false
}

// admit counts and records groups. It returns how many are to be applied, -1 if the
// process is dead already, and whether it dies now.
func (b *Backend) admit(groups []keystore.Group) (pass int, dies bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dead {
		return -1, false
	}
	b.attempted = appendRecords(b.attempted, groups)
	first := b.groups + 1
	b.groups += len(groups)
	if b.failAt < first || b.failAt > b.groups {
		return len(groups), false
	}
	b.dead = true
	switch b.mode {
	case Lost:
		return 0, true
	case Torn:
		return b.failAt - first, true
	default:
		return len(groups), true
	}
}

func appendRecords(dst []keystore.Record, groups []keystore.Group) []keystore.Record {
	for _, g := range groups {
		for _, w := range g {
			if w.Op == keystore.Put {
				dst = append(dst, keystore.Record{Key: bytes.Clone(w.Key), Value: bytes.Clone(w.Value), Rev: w.Rev})
			}
		}
	}
	return dst
}

// Name implements keystore.Backend.
func (b *Backend) Name() string { return b.inner.Name() }

// Close implements keystore.Backend. A dead process closes nothing.
func (b *Backend) Close() error {
	if b.Died() {
		return nil
	}
	return b.inner.Close()
}
