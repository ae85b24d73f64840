package keystore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

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
	keys := make([][]byte, 0, s.layout.pages+1)
	for p := range s.layout.pages {
		keys = append(keys, counterKey(uint8(p)))
	}
	keys = append(keys, epochKey)
	lapsed := l.sentBoot.Load() != 0 && !l.holds()
	var anchor Anchor
	var recs []Record
	var boot time.Duration
	var wall time.Time
	for {
		// Of what was changed and lost while the lease did not hold, no counter was seen here;
		// but an erasure that returned stands in the anchor. It is read first: it only grows.
		at := s.roots.Load()
		var lost error
		if lapsed {
			var c RootContents
			if c, lost = (*at).Load(ctx); errors.Is(lost, ErrNotFound) {
				lost = nil // it was moved while it was asked
			}
			anchor = c.Anchor
		}
		var err error
		boot, wall = l.clocks.boot(), l.clocks.wall()
		recs, err = s.backend.Get(ctx, keys)
		if err == nil && (lapsed || recs[s.layout.pages].Rev != l.epoch) {
			err = s.checkOurs(recs[s.layout.pages], lapsed)
		}
		if err != nil {
			return err
		}
		if s.roots.Load() == at {
			if lost != nil {
				return lost
			}
			break
		}
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
// for what the keystore never had. It notices that the root was moved: who does not know the
// place reads on and is told when it writes, unless it needs the anchor.
func (s *Store) checkOurs(rec Record, anchor bool) error {
	if rec.Rev == 0 {
		return fmt.Errorf("%w: %s holds no keystore any more; is it the same database?", ErrUnavailable, s.backend.Name())
	}
	e, _, err := parseEpoch(rec)
	if err != nil { // meetEpoch says what is wrong
		return nil
	}
	if e.store != s.id {
		return fmt.Errorf("%w: %s is keystore %s now, and was %s; is it the same database?", ErrUnavailable, s.backend.Name(), e.store, s.id)
	}
	if _, err := s.rootsOf(e); anchor {
		return err
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
