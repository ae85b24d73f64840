package keystore

import (
	"context"
	"errors"
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

// poll reads the counters and extends the lease. What changed is evicted before.
func (s *Store) poll(ctx context.Context) error {
	l := &s.lease
	asked := l.clocks.boot()
	select {
	case l.polling <- struct{}{}:
		defer func() { <-l.polling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if int64(asked) < l.sentBoot.Load() && l.holds() {
		return nil // somebody else's poll was sent after this one was asked for
	}
	if l.behind != nil {
		return l.behind
	}
	// Of what was changed and lost while the lease did not hold, no counter was seen here;
	// but an erasure that returned stands in the anchor. It is read first: it only grows.
	var anchor Anchor
	if l.sentBoot.Load() != 0 && !l.holds() {
		c, err := s.rootStore().Load(ctx)
		if err != nil && !errors.Is(err, ErrNotFound) { // it was moved: whoever writes is told
			return err
		}
		anchor = c.Anchor
	}
	keys := make([][]byte, 0, s.layout.pages+1)
	for p := range s.layout.pages {
		keys = append(keys, counterKey(uint8(p)))
	}
	keys = append(keys, epochKey)
	boot, wall := l.clocks.boot(), l.clocks.wall()
	recs, err := s.backend.Get(ctx, keys)
	if err == nil && recs[s.layout.pages].Rev != l.epoch {
		err = s.checkOurs(recs[s.layout.pages])
	}
	if err != nil {
		return err
	}
	for p, rec := range recs[:s.layout.pages] {
		c, err := parseCounter(rec)
		if err != nil {
			return err
		}
		known := uint64(0)
		if p < len(anchor.Counters) {
			known = anchor.Counters[p]
		}
		old := l.seen[p].Load()
		same := old != nil && rec.Rev == old.rev
		back := c < known
		if old != nil && !same {
			known, back = max(known, old.number), back || c <= old.number
		}
		if back {
			l.behind = s.wentBack(uint8(p), known, c)
			l.end()
			s.evictAll() // what it knows of anybody may be lost, too
			return l.behind
		}
		if !same {
			s.evict(uint8(p))
			l.seen[p].Store(&seenCounter{rec.Rev, c})
		}
	}
	if b, ok := s.backend.(Traced); ok {
		if line := b.Line(ctx); line != "" && line != l.line {
			if l.line != "" { // keys made last may be lost: who seals with one loses what it seals
				s.evictAll()
			}
			l.line = line
		}
	}
	l.sentBoot.Store(int64(boot))
	l.sentWall.Store(wall.UnixNano())
	if rev := recs[s.layout.pages].Rev; rev != l.epoch && s.meetEpoch(ctx) {
		l.epoch = rev
	}
	return nil
}

// checkOurs refuses a database that is not the keystore's: what it does not hold would pass
// for what the keystore never had.
func (s *Store) checkOurs(rec Record) error {
	if rec.Rev == 0 {
		return fmt.Errorf("%w: %s holds no keystore any more; is it the same database?", ErrUnavailable, s.backend.Name())
	}
	if e, _, err := parseEpoch(rec); err == nil && e.store != s.id { // meetEpoch says what else is wrong
		return fmt.Errorf("%w: %s is keystore %s now, and was %s; is it the same database?", ErrUnavailable, s.backend.Name(), e.store, s.id)
	}
	return nil
}

func (s *Store) wentBack(page uint8, known, now uint64) error {
	return fmt.Errorf("%w: changes of page %d up to number %d were made, and now it is at %d without them: %s went back in time, as a failover to a standby that lagged makes it; run oubli restore, and start this process again",
		ErrBehind, page, known, now, s.backend.Name())
}

// lastSeen is the counter of a page that a poll saw last, nil without any. It must be taken
// before what is held against it is read.
func (l *lease) lastSeen(page uint8) *seenCounter {
	if !l.shared() {
		return nil
	}
	return l.seen[page].Load()
}

// follows refuses a page's counter that is from before the one that was seen last: the
// lease may be that of a primary that another has replaced since.
func (s *Store) follows(page uint8, last *seenCounter, rec Record) error {
	if last == nil || rec.Rev == last.rev {
		return nil
	}
	c, err := parseCounter(rec)
	if err != nil || c > last.number {
		return err
	}
	s.lease.end() // the next poll says so for good
	return s.wentBack(page, last.number, c)
}

// evict makes the process read everybody of a page again.
func (s *Store) evict(page uint8) {
	first := s.layout.firstShard(page)
	for i := range s.layout.perPage() {
		s.stamps[int(first)+i].Add(1)
	}
}

func (s *Store) evictAll() {
	for p := range s.layout.pages {
		s.evict(uint8(p))
	}
}

// meetEpoch forgets the keys of an epoch that another process has ended. It tells whether
// that is done: whoever is in the midst of an advance here still needs them, if only to
// find out that the other one won.
func (s *Store) meetEpoch(ctx context.Context) bool {
	select {
	case s.advancing <- struct{}{}:
		defer func() { <-s.advancing }()
	default:
		return false
	}
	e, err := s.record(ctx)
	if err != nil {
		if !s.lease.blind && ctx.Err() == nil { // not merely closed meanwhile
			s.log.Warn("the keystore has advanced, and its record can't be read", "error", err)
		}
		s.lease.blind = true
		return false
	}
	s.lease.blind = false
	if e.intent == nil {
		s.forgetOld(e)
	}
	return true
}

// pollAlways keeps the lease while the store is open.
func (s *Store) pollAlways(ctx context.Context) {
	l := &s.lease
	t := time.NewTicker(l.length / 2)
	defer t.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-l.wake:
		}
		c, cancel := context.WithTimeout(ctx, l.length)
		err := s.poll(c)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			s.log.Warn("the keystore can't be polled; nobody is read until it can", "error", err)
		}
		failing = err != nil
		select { // a burst of notifications is answered by one poll
		case <-ctx.Done():
			return
		case <-time.After(min(hush, l.length/10)):
		}
	}
}

// listen turns notifications into polls. Without them, the next poll is soon enough.
func (s *Store) listen(ctx context.Context, b Shared) {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		began := time.Now()
		err := b.Listen(ctx, func() {
			select {
			case s.lease.wake <- struct{}{}:
			default:
			}
		})
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			pause = time.Second
		}
		s.log.Debug("notifications can't be heard", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// tell lets other processes know at once that somebody's state changed.
func (s *Store) tell(ctx context.Context) {
	b, ok := s.backend.(Shared)
	if !ok || !s.lease.shared() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.lease.length/2)
	defer cancel()
	if err := b.Notify(ctx); err != nil {
		s.log.Debug("other processes were not notified", "error", err)
	}
}

// outwait returns at a boot time: the expiry of leases.
func (s *Store) outwait(ctx context.Context, until time.Duration) error {
	l := &s.lease
	for l.shared() {
		left := until - l.clocks.boot()
		if left <= 0 {
			break
		}
		t := time.NewTimer(left)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("what was changed stands, but other processes may serve what they remember for another %s: %w", left, ctx.Err())
		}
	}
	return nil
}

// expiry is when the leases that are held now are over.
func (l *lease) expiry() time.Duration {
	if !l.shared() {
		return 0
	}
	return l.clocks.boot() + l.length
}

// settling returns when nobody serves the subjects of these erasures any more. Those
// that this process has not met yet are over L from now: they are erasing already.
func (l *lease) settling(events []EventID) (until time.Duration) {
	if !l.shared() {
		return 0
	}
	expiry := l.expiry()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := expiry - l.length; len(l.settled) > 1<<16 { // those forgotten are only waited for again
		for id, at := range l.settled {
			if at < now {
				delete(l.settled, id)
			}
		}
	}
	for _, id := range events {
		at, ok := l.settled[id]
		if !ok {
			at = expiry
			l.settled[id] = at
		}
		until = max(until, at)
	}
	return until
}

// take notes that a worker here has claimed an erasure that another, if any, had before.
func (l *lease) take(id EventID, worker, before string) {
	if !l.shared() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.claimed) > 1<<16 { // one forgotten is waited for
		clear(l.claimed)
	}
	if now, ok := l.claimed[id]; before != "" && before != worker || ok && now == "" {
		worker = ""
	}
	l.claimed[id] = worker
}

// unsettle has the leases waited for once more, after the keys are destroyed, where a
// process other than this had the erasure claimed: one of its receivers, whose claim was
// lost, may read the subject for as long as the lease of its process goes.
func (l *lease) unsettle(j *Journal) {
	if !l.shared() || j.Claim == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.claimed[j.Event] != j.Claim {
		delete(l.settled, j.Event)
	}
}

// AwaitErasing returns when no process serves from its memory what it held of these
// subjects before they became erasing; what was destroyed within the last hour is waited
// for as well, since whoever did it may have died before it had. Other states are passed
// over. Call it once for a batch, before the first receiver: it waits for the keystore's
// lease at most, and not at all where no other process shares the keystore.
func (s *Store) AwaitErasing(ctx context.Context, subjects ...Subject) error {
	if !s.lease.shared() || len(subjects) == 0 {
		return s.check(false)
	}
	keys := make([][]byte, len(subjects))
	for i, sub := range subjects {
		keys[i] = s.layout.ringKey(s.layout.shard(sub), sub)
	}
	recs, err := s.backend.Get(ctx, keys)
	if err != nil {
		return err
	}
	now := s.now()
	var events []EventID
	for i, rec := range recs {
		if rec.Rev == 0 {
			continue
		}
		r := ring{subject: subjects[i]}
		h, err := parseRingHeader(rec.Value)
		if err == nil {
			err = r.clearPart.decode(h.clear)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", subjects[i], err)
		}
		// Whoever destroyed keys just now may have died before it had waited.
		if j := r.journal; j != nil && (j.Destroyed.IsZero() || now.Sub(j.Destroyed) < longAgo) {
			events = append(events, r.journal.Event)
		}
	}
	return s.outwait(ctx, s.lease.settling(events))
}

// replicated returns once a superseded root may die.
func (s *Store) replicated(ctx context.Context) error {
	if b, ok := s.backend.(Shared); ok {
		return b.Replicated(ctx)
	}
	return nil
}

// checkPlaceOf refuses to write or destroy roots at a place that the keystore has left.
func (s *Store) checkPlaceOf(e *epochRecord) error {
	if here := s.rootStore().Place().URL; s.lease.shared() && here != e.place.URL {
		return fmt.Errorf("%w: another process has moved the root from %s to %s; open the keystore with that", ErrMismatch, here, e.place.URL)
	}
	return nil
}

func checkLease(l time.Duration) error {
	if l < 0 || l > 0 && (l < minLease || l > maxLease || l%time.Millisecond != 0) {
		return fmt.Errorf("%w: a lease of %s: whole milliseconds from %s to %s are needed", ErrInvalid, l, minLease, maxLease)
	}
	return nil
}
