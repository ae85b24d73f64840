package keystore

import (
	"context"
	"fmt"
	"time"
)

// outwait returns when the boot time is until, at which leases are over.
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
