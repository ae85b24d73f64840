package keystore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Where several processes share a backend, each serves keys from memory only under a
// lease. It polls the change counters of all pages and the epoch record in one read, every
// L/2, and may serve for 0.9·L after the sending of its last poll that was answered, by
// boot time and wall clock both, which is checked again after decryption. Whoever makes a
// subject erasing or restricted waits for L: by then every process has either seen the
// counter or stopped serving. The tenth that is left is for clocks that run at different
// speeds. The construction is Gray and Cheriton's (Leases, 1989), with one lease for all.

const (
	// DefaultLease is L where CreateOptions do not say.
	DefaultLease = 2 * time.Second

	minLease = 50 * time.Millisecond

	// maxLease bounds how long an erasure can be made to wait.
	maxLease = time.Minute

	// hush is the least time between two polls that notifications ask for.
	hush = 50 * time.Millisecond

	// recent is how long a look at all clocks need not be repeated, by the cheap ones.
	recent = time.Millisecond
)

// lease is what a process knows of a shared keystore, and since when. The zero lease is
// that of a keystore that no other process shares: it always holds.
type lease struct {
	length time.Duration // L; 0: nobody shares the keystore
	clocks clocks

	// When the last answered poll was sent. Both are 0 before the first.
	sentBoot, sentWall atomic.Int64
	// When the lease was last found to hold.
	lookMono, lookWall atomic.Int64

	seen []atomic.Pointer[seenCounter] // by page: the last counter that a poll saw

	polling chan struct{} // holds one token: who takes it polls, and owns what follows
	epoch   Rev           // of the epoch record, as far as it was met
	line    string        // of the database's history, see Traced
	behind  error         // the database was found to have gone back in time: for good
	blind   bool          // the epoch record could not be read, and that was said

	wake chan struct{} // asks for a poll now
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	claimed map[EventID]string        // by erasure: the worker here that has it, empty if it was another's before
	settled map[EventID]time.Duration // by erasure: when, by boot time, nobody serves its subject any more
}

// seenCounter is a change counter as it was read. Each number is given out once, with a
// revision of its own.
type seenCounter struct {
	rev    Rev
	number uint64
}

// clocks are how a process tells time; tests have their own.
type clocks struct {
	boot func() time.Duration // counts while the machine is suspended, where the system can tell
	wall func() time.Time
}

func (l *lease) shared() bool { return l.length > 0 }

// holds tells whether the process may serve from memory.
func (l *lease) holds() bool {
	if !l.shared() {
		return true
	}
	now := l.clocks.wall()
	wall, mono := now.UnixNano(), int64(now.Sub(start))
	if d := wall - l.lookWall.Load(); d >= 0 && d < int64(recent) {
		if d := mono - l.lookMono.Load(); d >= 0 && d < int64(recent) {
			return true // neither clock has moved on since all of them were looked at
		}
	}
	limit := int64(l.length-l.length/10) - int64(recent)
	sent := l.sentWall.Load()
	if d := wall - sent; sent == 0 || d < 0 || d >= limit {
		return false
	}
	if int64(l.clocks.boot())-l.sentBoot.Load() >= limit {
		return false
	}
	l.lookWall.Store(wall)
	l.lookMono.Store(mono)
	return true
}

// LeaseStatus tells how this process stands with its lease.
type LeaseStatus struct {
	Length time.Duration // L, see CreateOptions; 0 where no other process shares the keystore
	Serves bool          // keys may be served from memory just now
	Polled time.Time     // when the last poll was sent that was answered; zero before the first, and without a lease
}

// Lease tells how this process stands with its lease, without asking anybody.
func (s *Store) Lease() LeaseStatus {
	st := LeaseStatus{Length: s.lease.length, Serves: !s.closed.Load() && s.lease.holds()}
	if sent := s.lease.sentWall.Load(); sent != 0 {
		st.Polled = time.Unix(0, sent).UTC()
	}
	return st
}

// end makes the lease not hold, at once.
func (l *lease) end() {
	l.sentWall.Store(0)
	l.lookWall.Store(0)
}

// start is what the monotonic clock is measured from.
var start = time.Now()

// share makes the store one of several on its backend, if others can be. It polls once,
// so that the first reader need not.
func (s *Store) share(ctx context.Context, e *epochRecord) error {
	b, ok := s.backend.(Shared)
	if !ok {
		return nil
	}
	l := &s.lease
	if l.length = e.lease; l.length == 0 {
		l.length = DefaultLease
	}
	l.polling, l.wake = make(chan struct{}, 1), make(chan struct{}, 1)
	l.settled, l.claimed = map[EventID]time.Duration{}, map[EventID]string{}
	l.seen = make([]atomic.Pointer[seenCounter], s.layout.pages)
	if err := s.poll(ctx); err != nil {
		return err
	}
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	l.done.Go(func() { s.pollAlways(ctx) })
	l.done.Go(func() { s.listen(ctx, b) })
	return nil
}

// leave ends what share began.
func (l *lease) leave() {
	if l.stop != nil {
		l.stop()
		l.done.Wait()
	}
}

// renew makes sure that the lease holds, or says why it cannot.
func (s *Store) renew(ctx context.Context) error {
	if s.lease.holds() {
		return nil
	}
	// Whoever would be served from memory is not left hanging on a database that is away.
	c, cancel := context.WithTimeout(ctx, s.lease.length)
	defer cancel()
	err := s.poll(c)
	if err != nil && c.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %s has not answered for %s", ErrUnavailable, s.backend.Name(), s.lease.length)
	}
	return err
}

// replicated returns once a superseded root may die.
func (s *Store) replicated(ctx context.Context) error {
	if b, ok := s.backend.(Shared); ok {
		return b.Replicated(ctx)
	}
	return nil
}

func checkLease(l time.Duration) error {
	if l < 0 || l > 0 && (l < minLease || l > maxLease || l%time.Millisecond != 0) {
		return fmt.Errorf("%w: a lease of %s: whole milliseconds from %s to %s are needed", ErrInvalid, l, minLease, maxLease)
	}
	return nil
}
