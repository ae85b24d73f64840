package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// RestoreReport says what a restore did to a copy.
type RestoreReport struct {
	Replayed []Subject // erased, or deprived of purposes, since the copy was made
	Epoch    uint64    // the epoch that the copy was taken to
}

// Restore makes an old copy of a keystore fit to serve again: it replays the erasures
// made since, and advances past every living root, so that the roots of the time line
// that is given up die, too. The copy may be put in place only when Restore has returned
// nil; it can be called again after a failure. What was written to the lost keystore
// since the copy, such as new subjects' keys, is lost with it.
//
// A copy that names another place for its root is from before a move, of which nobody can
// tell here whether it was finished: the place that it names is noted as one that may still
// hold roots, as Health says, and nothing is final before FinishMove has looked there.
func Restore(ctx context.Context, b Backend, roots RootStore, o *Options) (RestoreReport, error) {
	var report RestoreReport
	s := newStore(b, roots, o)
	s.places = nil // only where the root is now
	e, c, err := s.attach(ctx)
	if err != nil {
		return report, err
	}
	if err := s.check(true); err != nil {
		return report, err
	}
	if err := s.leaveBehind(ctx); err != nil {
		return report, err
	}
	// An advance that had begun in the copy is finished first. Its successor may have
	// lived on in the time line that is given up; the next advance supersedes it.
	if e.intent != nil {
		if err := s.advance(ctx, false); err != nil {
			return report, err
		}
	}
	tombs := make(map[Subject][]Tombstone)
	var subjects []Subject
	for _, t := range c.Tombstones {
		if _, ok := tombs[t.Subject]; !ok {
			subjects = append(subjects, t.Subject)
		}
		tombs[t.Subject] = append(tombs[t.Subject], t)
	}
	// Each page's change counter goes past that of the lost keystore together with what is
	// replayed in it, not before: a counter that is behind its anchor is what keeps a copy
	// that was half restored from opening.
	s.floor = c.Anchor.Counters
	replayed := map[Subject]bool{}
	errs, err := s.change(ctx, subjects, func(r *ring) outcome {
		o := r.replay(tombs[r.subject], s.now())
		replayed[r.subject] = o.changed
		return o
	}, nil)
	if err := errors.Join(append(errs, err)...); err != nil {
		return report, fmt.Errorf("replay the erasures since the copy was made: %w", err)
	}
	if err := s.raiseCounters(ctx, c.Anchor.Counters); err != nil {
		return report, err
	}
	if err := s.advance(ctx, true); err != nil {
		return report, err
	}
	if e, err = s.record(ctx); err != nil {
		return report, err
	}
	report.Epoch = e.epoch
	for _, sub := range subjects {
		if replayed[sub] {
			report.Replayed = append(report.Replayed, sub)
		}
	}
	slices.SortFunc(report.Replayed, func(a, b Subject) int { return strings.Compare(a.text, b.text) })
	return report, s.rootStore().Raise(ctx, Anchor{Epoch: e.epoch, Advances: e.advances}, nil)
}

// raiseCounters takes the copy's change counters past those of the lost keystore, so
// that no number is given out twice.
func (s *Store) raiseCounters(ctx context.Context, to []uint64) error {
	for try := 0; ; try++ {
		if err := backoff(ctx, try); err != nil {
			return err
		}
		keys := make([][]byte, s.layout.pages)
		for p := range keys {
			keys[p] = counterKey(uint8(p))
		}
		recs, err := s.backend.Get(ctx, keys)
		if err != nil {
			return err
		}
		var groups []Group
		for p, rec := range recs {
			have, err := parseCounter(rec)
			if err != nil {
				return err
			}
			if p < len(to) && have < to[p] {
				groups = append(groups, Group{{Op: Put, Key: keys[p], If: rec.Rev, Rev: newRev(), Value: encodeCounter(to[p])}})
			}
		}
		if len(groups) == 0 {
			return nil
		}
		if _, err := s.backend.Commit(ctx, groups); err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// replay applies tombstones to a ring of an older time, oldest first. They name key
// ids: whoever merely reuses the id of an erased subject, with other keys, is not touched.
func (r *ring) replay(tombs []Tombstone, now time.Time) outcome {
	var works []work
	for _, t := range tombs {
		if r.bears(&t) {
			continue
		}
		// A ring that still has one of the keys is the one that the tombstone is about: what
		// else it holds of the same, from a time line that was given up, goes as well.
		same := slices.ContainsFunc(r.keys, func(k ringKey) bool { return slices.Contains(t.Keys, k.id) })
		also := slices.DeleteFunc(r.drop(t.Erased, func(k ringKey) bool {
			return slices.Contains(t.Keys, k.id) || same && t.takes(k.purpose)
		}), func(id uint32) bool { return slices.Contains(t.Keys, id) })
		if len(also) > 0 {
			t.Event, t.Keys = newID(), append(slices.Clone(t.Keys), also...)
		}
		for _, id := range t.Keys { // made after the copy was: what they sealed must read as erased, too
			if i := slices.IndexFunc(r.dropped, func(d droppedKey) bool { return d.id == id }); i < 0 {
				r.dropped = append(r.dropped, droppedKey{id: id, erased: t.Erased})
			} else if t.Erased {
				r.dropped[i].erased = true
			}
		}
		for _, p := range t.Gone {
			if !slices.Contains(r.gone, p) && !r.has(p) {
				r.gone = append(r.gone, p)
			}
		}
		switch {
		case t.Erased && len(r.keys) == 0:
			r.state, r.purposes, r.kept, r.hold = StateErased, nil, false, ""
		case !t.Erased && len(t.Keep) > 0:
			r.state, r.purposes, r.kept, r.hold = StateRestricted, slices.Clone(t.Keep), true, ""
		case r.state == StateUnknown:
			r.state = StateActive
		}
		if t.Erased || len(t.Keep) > 0 {
			r.journal = &Journal{Event: t.Event, Requested: t.At, Keep: t.Keep, Destroyed: now}
		}
		r.enter(t.change(), "", t.At) // who asked is lost with the keystore
		works = append(works, work{kind: workDestroyed, tomb: t})
	}
	if len(works) == 0 {
		return outcome{}
	}
	switch r.state { // the entry that the state had is replaced
	case StateRestricted:
		works = append(works, work{kind: workRestricted})
	case StateErasing:
		works = append(works, work{kind: workPending, tomb: Tombstone{Event: r.journal.Event}})
	}
	return outcome{changed: true, works: works}
}

// change is how the history names the event.
func (t *Tombstone) change() ChangeKind {
	switch {
	case t.Erased:
		return ChangeErased
	case len(t.Keep) > 0:
		return ChangeReduced
	}
	return ChangeWithdrawn
}

// takes tells whether the event destroyed what there was for a purpose.
func (t *Tombstone) takes(purpose string) bool {
	return t.Erased || slices.Contains(t.Gone, purpose) || len(t.Keep) > 0 && !slices.Contains(t.Keep, purpose)
}

// bears tells whether the ring has a tombstone behind it. What happened to the subject
// since, such as a readmission, is then not undone.
func (r *ring) bears(t *Tombstone) bool {
	if r.rev == 0 {
		return false
	}
	if len(t.Keys) > 0 {
		return !slices.ContainsFunc(t.Keys, func(id uint32) bool {
			return !slices.ContainsFunc(r.dropped, func(d droppedKey) bool { return d.id == id && (d.erased || !t.Erased) })
		})
	}
	if t.Erased {
		return r.state == StateErased || len(r.keys) > 0
	}
	return !slices.ContainsFunc(t.Gone, func(p string) bool {
		return !r.withdrawn(p) && !r.has(p) && r.state != StateErased
	})
}
