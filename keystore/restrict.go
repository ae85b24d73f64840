package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// RestrictOptions say who may still use a restricted subject.
type RestrictOptions struct {
	Purposes []string // readers and writers that name one of these, see WithPurpose; none: nobody
	Hold     string   // why destruction is refused until the release; empty: it is not
}

// Restrict stops all reading and writing of subjects but for listed purposes (GDPR
// art. 18), until Release; with a hold it also refuses destruction. When it returns, no
// read that began before can still end with plaintext: where processes share the keystore
// it waits for the lease, once for all subjects. A restricted subject takes the new
// options. errs is parallel to subjects, and holds why one of them was refused; err is
// about the call as a whole: with it, some may be restricted, and nobody is to be taken
// for it, until they are asked for again.
func (s *Store) Restrict(ctx context.Context, o *RestrictOptions, subjects ...Subject) (errs []error, err error) {
	if o == nil {
		o = &RestrictOptions{}
	}
	errs, err = s.changeEach(ctx, "restrict", subjects, func(r *ring) outcome {
		if err := mustLive(r); err != nil {
			return outcome{err: err}
		}
		if r.kept {
			// Its purposes are what an erasure left; only the hold can change.
			if len(o.Purposes) > 0 && !slices.Equal(o.Purposes, r.purposes) {
				return outcome{err: fmt.Errorf("%w: it is restricted to what an erasure kept", ErrState)}
			}
		} else {
			r.purposes = slices.Clone(o.Purposes)
		}
		r.state, r.hold = StateRestricted, o.Hold
		r.enter(ChangeRestricted, ActorOf(ctx), s.now())
		return outcome{changed: true, works: []work{{kind: workRestricted}}}
	})
	if err != nil || !slices.Contains(errs, nil) {
		return errs, err
	}
	return errs, wrapOp("restrict", Subject{}, s.outwait(ctx, s.lease.expiry()))
}

// Release ends the restrictions of subjects and their holds. What an erasure kept stays
// restricted to its purposes; only its hold is released. Releasing an active subject
// changes nothing. errs is parallel to subjects.
func (s *Store) Release(ctx context.Context, subjects ...Subject) (errs []error, err error) {
	return s.changeEach(ctx, "release", subjects, func(r *ring) outcome {
		if err := mustLive(r); err != nil {
			return outcome{err: err}
		}
		switch {
		case r.state == StateActive:
			return outcome{}
		case r.kept && r.hold == "":
			return outcome{err: fmt.Errorf("%w: it is restricted to what an erasure kept", ErrState)}
		}
		r.enter(ChangeReleased, ActorOf(ctx), s.now())
		if r.kept {
			r.hold = ""
			return outcome{changed: true, works: []work{{kind: workRestricted}}}
		}
		r.state, r.purposes, r.hold = StateActive, nil, ""
		return outcome{changed: true, works: []work{{kind: workNote}}}
	})
}

// Readmit allows an erased subject a new key, which the next Ensure makes. What was
// sealed before stays erased.
func (s *Store) Readmit(ctx context.Context, sub Subject) error {
	return s.changeOne(ctx, "readmit", sub, func(r *ring) outcome {
		switch r.state {
		case StateUnknown:
			return outcome{err: ErrUnknownSubject}
		case StateErased:
			r.state, r.gone = StateActive, nil
			r.enter(ChangeReadmitted, ActorOf(ctx), s.now())
			return outcome{changed: true, works: []work{{kind: workNote}}}
		case StateErasing:
			return outcome{err: fmt.Errorf("%w: the erasure is not done; it can be cancelled until the first row is blanked", ErrErasing)}
		}
		return outcome{err: fmt.Errorf("%w: it is %s, not erased", ErrState, r.state)}
	})
}

// Withdraw destroys the keys of some purposes of a living subject for good, and
// advances, as Erase does. Purposes that it never had are withdrawn, too: nothing is
// sealed under them any more.
func (s *Store) Withdraw(ctx context.Context, sub Subject, purposes ...string) (Erasure, error) {
	err := s.changeOne(ctx, "withdraw a purpose of", sub, func(r *ring) outcome {
		if err := mustLive(r); err != nil {
			return outcome{err: err}
		}
		if r.hold != "" {
			return outcome{err: fmt.Errorf("%w: %s", ErrHeld, r.hold)}
		}
		var gone []string
		for _, p := range purposes {
			if !r.withdrawn(p) {
				gone = append(gone, p)
			}
		}
		if len(gone) == 0 {
			return outcome{}
		}
		r.gone = append(slices.Clone(r.gone), gone...)
		r.enter(ChangeWithdrawn, ActorOf(ctx), s.now())
		ids := r.drop(false, func(k ringKey) bool { return slices.Contains(gone, k.purpose) })
		works := []work{{kind: workDestroyed, tomb: Tombstone{Keys: ids, Gone: gone}}}
		if r.state == StateRestricted {
			works = append(works, work{kind: workRestricted})
		}
		return outcome{changed: true, works: works}
	})
	if err != nil {
		return Erasure{Subject: sub, Err: err}, err
	}
	expiry := s.lease.expiry()
	advanceErr := errors.Join(s.Advance(ctx), s.outwait(ctx, expiry))
	list, err := s.erasures(ctx, []Subject{sub})
	if err != nil {
		return Erasure{Subject: sub, Err: err}, err
	}
	return list[0], advanceErr
}
