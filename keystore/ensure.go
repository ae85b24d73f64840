package keystore

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
)

// Ensure is Lookup for writing. An unknown subject gets a ring, and every subject that
// may be written gets a data key for each purpose that it lacks and that is not
// withdrawn; the empty string is the default purpose. Keys are durable before Ensure
// returns: one round trip to read and one commit, however many subjects. Subjects that
// take no new content are no error of the call: see Keys.WriteErr.
func (s *Store) Ensure(ctx context.Context, dst []Keys, purposes []string, subjects ...Subject) ([]Keys, error) {
	if s.closed.Load() {
		return dst, ErrClosed
	}
	if err := s.renew(ctx); err != nil {
		return dst, err
	}
	start := len(dst)
	var missing []Subject
	var open []int // places that the cache does not answer
	for i, sub := range subjects {
		if sub.IsZero() {
			return dst[:start], fmt.Errorf("%w: the zero subject", ErrInvalid)
		}
		e, ok := s.cache.GetIfPresent(sub)
		if !ok || !s.valid(e) {
			e = nil
		}
		k := s.keys(ctx, sub, e)
		if e == nil || k.WriteErr() == nil && lacks(e, purposes) {
			missing = append(missing, sub)
			open = append(open, i)
		}
		dst = append(dst, k)
	}
	if len(missing) == 0 {
		return dst, nil
	}
	if s.readOnly {
		return s.Lookup(ctx, dst[:start], subjects...)
	}

	made := make(map[Subject]*entry, len(missing))
	fresh := len(missing) == 1 && s.newcomers.likely()
	known := false
	_, err := s.changePresuming(ctx, fresh, missing, func(r *ring) outcome {
		delete(made, r.subject)
		known = r.rev != 0
		switch r.state {
		case StateUnknown:
			r.state = StateActive
		case StateActive:
		case StateRestricted:
			if k := s.keys(ctx, r.subject, &entry{state: r.state, special: &special{listed: r.purposes}}); !k.listed {
				return outcome{}
			}
		default:
			return outcome{}
		}
		changed := r.rev == 0
		for _, p := range purposes {
			if !r.has(p) && !r.withdrawn(p) {
				r.addKey(p, s.now())
				changed = true
			}
		}
		return outcome{changed: changed}
	}, func(r *ring, st stamp) {
		// What was just read or made need not be read again. A ring that was changed is
		// not taken: its shard's stamp has moved on.
		made[r.subject] = newEntry(r, uint64(st))
	})
	if err != nil {
		return dst[:start], err
	}
	if len(missing) == 1 && s.lease.shared() {
		s.newcomers.met(!known)
	}
	rest := open[:0]
	for _, i := range open {
		if e := made[subjects[i]]; e != nil && s.valid(e) {
			s.keep(subjects[i], e)
			dst[start+i] = s.keys(ctx, subjects[i], e)
			dst[start+i].read = true
		} else {
			rest = append(rest, i)
		}
	}
	if len(rest) == 0 {
		return dst, nil
	}
	found := make([]*entry, len(subjects))
	joined, err := s.fetch(ctx, subjects, rest, found)
	if err != nil {
		return dst[:start], err
	}
	for _, i := range rest {
		dst[start+i] = s.keys(ctx, subjects[i], found[i])
		dst[start+i].read = true
	}
	for _, i := range joined {
		dst[start+i].read = false
	}
	return dst, nil
}

// newcomers guesses, from those met lately, whether a subject that is not in the cache has
// no ring yet. Where that is usual, as where people sign up, it spares a database across a
// network the read before the write; a wrong guess costs a conflict. Only stores that are
// shared ask.
type newcomers struct{ score atomic.Int32 }

const (
	newcomersMax    = 8
	newcomersLikely = 4
)

func (n *newcomers) likely() bool { return n.score.Load() >= newcomersLikely }

func (n *newcomers) met(new bool) {
	if score := n.score.Load(); new {
		n.score.Store(min(score+1, newcomersMax))
	} else {
		n.score.Store(max(score-4, 0))
	}
}

func lacks(e *entry, purposes []string) bool {
	for _, p := range purposes {
		if !slices.ContainsFunc(e.keys, func(k dataKey) bool { return k.purpose == p }) && !e.withdrawn(p) {
			return true
		}
	}
	return false
}

// Rotate gives each subject a new primary key for every purpose that it has. Older keys
// still open what they sealed. Erased, erasing and unknown subjects are refused. errs is
// parallel to subjects.
func (s *Store) Rotate(ctx context.Context, subjects ...Subject) (errs []error, err error) {
	return s.changeEach(ctx, "rotate the keys of", subjects, func(r *ring) outcome {
		if err := mustLive(r); err != nil {
			return outcome{err: err}
		}
		var purposes []string
		for _, k := range r.keys {
			if !slices.Contains(purposes, k.purpose) {
				purposes = append(purposes, k.purpose)
			}
		}
		for _, p := range purposes {
			r.addKey(p, s.now())
		}
		// Other processes are to seal with the new keys, too, so that it counts as a change.
		works := []work{{kind: workNote}}
		if r.state == StateRestricted {
			works[0].kind = workRestricted
		}
		return outcome{changed: len(purposes) > 0, works: works}
	})
}

// mustLive refuses subjects without usable keys.
func mustLive(r *ring) error {
	switch r.state {
	case StateUnknown:
		return ErrUnknownSubject
	case StateErasing:
		return ErrErasing
	case StateErased:
		return ErrErased
	}
	return nil
}
