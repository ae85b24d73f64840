package keystore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Request asks for the erasure of one subject.
type Request struct {
	Subject Subject
	Keep    []string // purposes that must stay, restricted to themselves
	Actor   string   // who asked, for the journal and the history; empty: who WithActor names; at most MaxActor bytes are kept
	Unknown bool     // erase also a subject that was never seen: it leaves a tombstone
}

// Erasure is how far the erasure of one subject has come.
type Erasure struct {
	Subject Subject
	State   State     // StateErased; StateRestricted if purposes were kept; StateErasing if it waits
	Kept    []string  // the purposes that still open
	Waiting []string  // receivers that have not acknowledged
	Final   bool      // no copy of the keystore opens what was destroyed, with the keys that are left
	FinalAt time.Time // the earliest time at which it is final; zero when that can't be told yet
	Err     error     // why this subject was not erased; the others are unaffected
}

// RequestErasure makes subjects erasing: durable, in one commit for the batch. From its
// return on they take no new content, and only receivers read them (see Reveal). Each
// request freezes the receivers that are recorded for its kind. Asking again is no
// error; asking for more, with fewer purposes to keep, changes an erasure under way until
// its first row may have been blanked, and wraps ErrState from then on. errs is parallel
// to rs. It does not wait for the leases of other processes: see AwaitErasing.
func (s *Store) RequestErasure(ctx context.Context, rs ...Request) (errs []error, err error) {
	errs, events, err := s.erasing(ctx, rs, false)
	if err == nil { // or else it may become visible later than now
		s.lease.settling(events)
	}
	return errs, err
}

// Erase destroys the keys of subjects and advances, once for all of them. A subject
// whose kind has recorded receivers becomes erasing and waits until they have
// acknowledged and Erase is called again; results and errors are for each subject. The
// error of the call says that the batch as a whole could not be written, or that the
// advance could not finish: the subjects are then erased in the living keystore, and
// the next advance makes it final. Where processes share the keystore it waits, unless
// AwaitErasing has, until none of them can still serve a subject from memory; and again
// where another process had claimed the erasure, whose receivers read on till then.
func (s *Store) Erase(ctx context.Context, rs ...Request) ([]Erasure, error) {
	errs, events, err := s.erasing(ctx, rs, true)
	if err != nil {
		return nil, err
	}
	settled := s.lease.settling(events)
	advanceErr := errors.Join(s.Advance(ctx), s.outwait(ctx, settled))
	subjects := make([]Subject, len(rs))
	for i := range rs {
		subjects[i] = rs[i].Subject
	}
	list, err := s.erasures(ctx, subjects)
	if err != nil {
		return nil, errors.Join(advanceErr, err)
	}
	for i, err := range errs {
		if err != nil {
			list[i].Err = wrapOp("erase", rs[i].Subject, err)
		}
	}
	return list, advanceErr
}

// erasing records requests and, where destroy is set, destroys what nothing waits for.
// events are the erasures that others may not have taken note of yet.
func (s *Store) erasing(ctx context.Context, rs []Request, destroy bool) (errs []error, events []EventID, err error) {
	if err := s.check(true); err != nil {
		return nil, nil, err
	}
	subjects := make([]Subject, len(rs))
	requests := make(map[Subject]*Request, len(rs))
	receivers := map[string][]string{}
	for i := range rs {
		sub := rs[i].Subject
		subjects[i] = sub
		if sub.IsZero() {
			continue
		}
		q := rs[i]
		q.Actor = cut(cmp.Or(q.Actor, ActorOf(ctx)), MaxActor)
		requests[sub] = &q
		if _, ok := receivers[sub.Kind()]; !ok {
			if receivers[sub.Kind()], err = s.Receivers(ctx, sub.Kind()); err != nil {
				return nil, nil, err
			}
		}
		if destroy {
			if err := s.awaitReveals(ctx, sub); err != nil {
				return nil, nil, err
			}
		}
	}
	now := s.now()
	met := make(map[Subject]EventID, len(rs))
	var destroyed []Journal
	errs, err = s.change(ctx, subjects, func(r *ring) outcome {
		q := requests[r.subject]
		o := r.request(q, receivers[r.subject.Kind()], now)
		if j := r.journal; j != nil && (j.Destroyed.IsZero() || now.Sub(j.Destroyed) < longAgo) {
			met[r.subject] = j.Event
		}
		if o.err != nil || !destroy || r.state != StateErasing {
			return o
		}
		if len(r.journal.Waiting()) > 0 {
			return o
		}
		destroyed = append(destroyed, *r.journal)
		s.lease.unsettle(r.journal)
		return r.destroy(cmp.Or(q.Actor, r.journal.Actor), now)
	}, nil)
	for i := range destroyed { // who asked between then and the commit counts from before it
		s.lease.unsettle(&destroyed[i])
	}
	return errs, slices.Collect(maps.Values(met)), err
}

// longAgo is far beyond any lease and any two hosts' difference about the time.
const longAgo = time.Hour

// request makes a ring erasing. What needs no erasing any more is left alone.
func (r *ring) request(q *Request, receivers []string, now time.Time) outcome {
	switch r.state {
	case StateUnknown:
		if !q.Unknown {
			return outcome{err: fmt.Errorf("%w: nothing was ever sealed for it; erasing it would burn the id, so it must be asked for", ErrUnknownSubject)}
		}
	case StateErased:
		return outcome{}
	case StateErasing:
		for _, p := range q.Keep {
			if !slices.Contains(r.journal.Keep, p) {
				return outcome{err: fmt.Errorf("%w: the erasure under way does not keep %q; cancel it and ask again", ErrState, p)}
			}
		}
		more := slices.DeleteFunc(slices.Clone(r.journal.Keep), func(p string) bool { return slices.Contains(q.Keep, p) })
		switch {
		case len(more) == 0:
			return outcome{}
		case r.journal.Blanking: // with those fields left out
			return outcome{err: fmt.Errorf("%w: the erasure under way keeps %q and has begun; ask again when it is done", ErrState, more)}
		}
		r.journal.Keep = slices.DeleteFunc(slices.Clone(r.journal.Keep), func(p string) bool { return slices.Contains(more, p) })
		r.enter(ChangeRequested, q.Actor, now)
		return outcome{changed: true}
	case StateRestricted:
		if r.kept && len(q.Keep) > 0 && !slices.ContainsFunc(r.purposes, func(p string) bool { return !slices.Contains(q.Keep, p) }) {
			return outcome{} // what is left is what shall be kept
		}
	}
	if r.hold != "" {
		return outcome{err: fmt.Errorf("%w: %s", ErrHeld, r.hold)}
	}
	keep := slices.Clone(q.Keep)
	slices.Sort(keep)
	r.journal = &Journal{Event: newID(), Requested: now, Actor: q.Actor, before: r.state,
		Receivers: slices.Clone(receivers), Keep: slices.Compact(keep)}
	r.state = StateErasing
	r.enter(ChangeRequested, q.Actor, now)
	return outcome{changed: true, works: []work{{kind: workPending, tomb: Tombstone{Event: r.journal.Event}}}}
}

// destroy drops the keys of an erasing ring.
func (r *ring) destroy(actor string, now time.Time) outcome {
	j := r.journal
	var kept []string
	for _, k := range r.keys {
		if slices.Contains(j.Keep, k.purpose) && !slices.Contains(kept, k.purpose) {
			kept = append(kept, k.purpose)
		}
	}
	slices.Sort(kept)
	all := len(kept) == 0
	var gone []string
	for _, k := range r.keys {
		if !all && !slices.Contains(kept, k.purpose) && !slices.Contains(gone, k.purpose) {
			gone = append(gone, k.purpose)
		}
	}
	tomb := Tombstone{Event: j.Event, Erased: all, Keep: kept, Gone: gone,
		Keys: r.drop(all, func(k ringKey) bool { return !slices.Contains(kept, k.purpose) })}
	works := []work{{kind: workDestroyed, tomb: tomb}}
	j.Destroyed, j.Claim, j.ClaimUntil = now, "", time.Time{}
	r.hold = ""
	if all {
		for i := range r.dropped { // what was withdrawn before is erased now, too
			r.dropped[i].erased = true
		}
		r.state, r.purposes, r.kept = StateErased, nil, false
		r.enter(ChangeErased, actor, now)
		return outcome{changed: true, works: works}
	}
	r.state, r.purposes, r.kept = StateRestricted, kept, true
	r.enter(ChangeReduced, actor, now)
	for _, p := range gone {
		if !slices.Contains(r.gone, p) {
			r.gone = append(r.gone, p)
		}
	}
	return outcome{changed: true, works: append(works, work{kind: workRestricted})}
}

// Acknowledge records durably that a receiver is done with an erasure. Names that the
// request did not freeze are recorded, too: a receiver that joined later is not called twice.
func (s *Store) Acknowledge(ctx context.Context, sub Subject, receiver string) error {
	return s.journal(ctx, "acknowledge the erasure of", sub, func(j *Journal) error {
		if !slices.Contains(j.Acked, receiver) {
			j.Acked = append(j.Acked, receiver)
		}
		return nil
	})
}

// BeginBlanking records durably that rows are about to be blanked: there is no way back.
// It wraps ErrWaiting while receivers have not acknowledged, ErrHeld under a hold.
func (s *Store) BeginBlanking(ctx context.Context, sub Subject) error {
	return s.journal(ctx, "blank the rows of", sub, func(j *Journal) error {
		if w := j.Waiting(); len(w) > 0 {
			return fmt.Errorf("%w: %q", ErrWaiting, w)
		}
		j.Blanking = true
		return nil
	})
}

// Claim gives an erasure to one worker, until the lease is over or the keys are gone.
// The holder may claim again to renew. It wraps ErrConflict while another worker holds it.
func (s *Store) Claim(ctx context.Context, sub Subject, worker string, lease time.Duration) error {
	var event EventID
	var before string
	err := s.journal(ctx, "claim the erasure of", sub, func(j *Journal) error {
		event, before = j.Event, j.Claim
		now := s.clock().UTC()
		if j.Claim != "" && j.Claim != worker && now.Before(j.ClaimUntil) {
			return fmt.Errorf("%w: %s has it until %s", ErrConflict, j.Claim, j.ClaimUntil.Format(time.RFC3339))
		}
		j.Claim, j.ClaimUntil = worker, now.Add(lease).Truncate(time.Second)
		return nil
	})
	if err == nil {
		s.lease.take(event, worker, before)
	}
	return err
}

// journal changes the journal of an erasing subject.
func (s *Store) journal(ctx context.Context, op string, sub Subject, f func(*Journal) error) error {
	return s.changeOne(ctx, op, sub, func(r *ring) outcome {
		if err := mustErase(r); err != nil {
			return outcome{err: err}
		}
		if r.hold != "" {
			return outcome{err: fmt.Errorf("%w: %s", ErrHeld, r.hold)}
		}
		if err := f(r.journal); err != nil {
			return outcome{err: err}
		}
		return outcome{changed: true}
	})
}

// mustErase refuses subjects that are not erasing.
func mustErase(r *ring) error {
	switch r.state {
	case StateErasing:
		return nil
	case StateUnknown:
		return ErrUnknownSubject
	case StateErased:
		return ErrErased
	}
	return fmt.Errorf("%w: it is %s, no erasure is under way", ErrState, r.state)
}

// Cancel takes a subject back to the state before its erasure was requested. It wraps
// ErrState once blanking has begun.
func (s *Store) Cancel(ctx context.Context, sub Subject) error {
	return s.changeOne(ctx, "cancel the erasure of", sub, func(r *ring) outcome {
		if err := mustErase(r); err != nil {
			return outcome{err: err}
		}
		if r.journal.Blanking {
			return outcome{err: fmt.Errorf("%w: rows have been blanked already; the erasure must go on", ErrState)}
		}
		before := r.journal.before
		r.journal = nil
		if before == StateUnknown { // it was asked for explicitly; a ring without keys is as good
			before = StateActive
		}
		r.state = before
		r.enter(ChangeCancelled, ActorOf(ctx), s.now())
		works := []work{{kind: workNote}}
		if before == StateRestricted {
			works = []work{{kind: workRestricted}}
		}
		return outcome{changed: true, works: works}
	})
}

// Reveal returns a context through which an erasing subject still reads, for a
// pre-anonymize receiver. It ends with end, which must be called when the receiver
// returns: whatever still uses the context afterwards reads nothing, and until then
// Erase waits, if it is called in this process. Where others share the keystore, Claim the
// erasure first: by that an Erase elsewhere knows that it has to wait for this lease.
func (s *Store) Reveal(ctx context.Context, sub Subject) (rctx context.Context, end func(), err error) {
	if err := s.check(false); err != nil {
		return nil, nil, err
	}
	k := &reveal{store: s, subject: sub}
	s.mu.Lock()
	s.reveals[sub]++
	s.mu.Unlock()
	rctx, cancel := context.WithCancel(context.WithValue(ctx, ctxReveal, k))
	return rctx, func() {
		if k.ended.Swap(true) {
			return
		}
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.reveals[sub]--; s.reveals[sub] == 0 {
			delete(s.reveals, sub)
		}
		close(s.revealed)
		s.revealed = make(chan struct{})
	}, nil
}

// awaitReveals waits until no receiver's context of the subject is left.
func (s *Store) awaitReveals(ctx context.Context, sub Subject) error {
	for {
		s.mu.Lock()
		n, ch := s.reveals[sub], s.revealed
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("a receiver still reads %s: %w", sub, ctx.Err())
		case <-ch:
		}
	}
}
