package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// A root store moves in five steps: the record notes the new place, the roots are
// written there, the record names it and notes the old one, an advance takes the keystore to
// a root that never stood in the old one, the old one is destroyed and the note goes. From
// the first step to the last another place may hold roots that no destruction reaches, so
// until then nothing counts as final. What its disk or service still keeps of them after
// that opens nothing that was written since.
//
// A root that is dying stays where it is, since nobody can take it along: the new place says
// that it is destroyed as soon as it is asked for that, and so the old one must not count as
// destroyed before its dying roots are gone as well.

// errOvertaken: what was copied is not all there is any more.
var errOvertaken = fmt.Errorf("the move was taken back: %w", ErrConflict)

// MoveRoots moves the roots of a living keystore to another root store, on purpose. The
// Store uses the new one from then on, and so do others that have it as NextRoots. If it
// fails, or its process dies, or the old root store needs time to destroy what it holds
// (ErrUnavailable says until when), no erasure becomes final until FinishMove was called
// with the place that Health names; the keystore reads, writes and advances meanwhile.
func (s *Store) MoveRoots(ctx context.Context, to RootStore) error {
	if err := s.check(true); err != nil {
		return err
	}
	done, err := s.mayAdvance(ctx)
	if err != nil {
		return err
	}
	defer done()
	place := to.Place()
	s.learnPlace(to) // for the answer to the write that names it may be lost
	var noted *epochRecord
	var old RootStore
	err = s.updateRecord(ctx, func(e *epochRecord) error {
		if e.other != "" {
			return unfinishedMove(e)
		}
		if old, err = s.rootsOf(e); err != nil {
			return err
		}
		if v := place.Versions; v != "" && v == old.Place().Versions {
			return fmt.Errorf("%w: %s and %s would destroy each other's versions of %s: the new place needs a key of its own", ErrMismatch, old.Place().URL, place.URL, v)
		}
		noted, e.other = e, place.URL
		return nil
	})
	if err != nil {
		return err
	}
	c, err := loadWhole(ctx, old)
	if err == nil && len(c.Away) > 0 {
		err = fmt.Errorf("%w: mirrors are away: %q; their copies of the root could not be destroyed", ErrUnavailable, c.Away)
	}
	if err == nil {
		c.Dying = nil
		err = s.createAt(ctx, to, c)
	}
	if errors.Is(err, errLeft) {
		return err
	}
	if err != nil {
		return errors.Join(err, s.endMove(ctx, place.URL))
	}
	err = s.updateRecord(ctx, func(e *epochRecord) error {
		if e.rev != noted.rev {
			return fmt.Errorf("%w: another process advanced while the root was moved, and its new root is not in %s; move again", errOvertaken, place.URL)
		}
		e.place, e.other = place, old.Place().URL
		return nil
	})
	if errors.Is(err, errOvertaken) {
		if err := to.Remove(ctx); err != nil {
			return unfinished(err)
		}
		return errors.Join(err, s.endMove(ctx, place.URL))
	}
	if err != nil {
		return unfinished(err)
	}
	s.roots.Store(&to)
	return s.finishMove(ctx, old, rootsAt(c))
}

// errLeft: what a failed move wrote may still be there.
var errLeft = fmt.Errorf("the new place may hold roots")

// createAt writes the roots to their new place, which takes away what it wrote if it fails.
func (s *Store) createAt(ctx context.Context, to RootStore, c RootContents) error {
	err := to.Create(ctx, c)
	if err == nil || errors.Is(err, ErrExists) {
		return err
	}
	if _, err2 := to.Load(ctx); errors.Is(err2, ErrNotFound) {
		return err
	}
	return unfinished(fmt.Errorf("%w: %w", errLeft, err))
}

// FinishMove finishes or takes back a move that was interrupted, or that had to wait until
// the old root store has destroyed what it held: other is the place that Health names, and
// everything there is destroyed. It refuses the roots of another keystore with ErrMismatch,
// and does nothing when no move is unfinished.
func (s *Store) FinishMove(ctx context.Context, other RootStore) error {
	if err := s.check(true); err != nil {
		return err
	}
	done, err := s.mayAdvance(ctx)
	if err != nil {
		return err
	}
	defer done()
	e, err := s.record(ctx)
	if err != nil || e.other == "" {
		return err
	}
	if _, err := s.rootsOf(e); err != nil {
		return err
	}
	if at := other.Place().URL; at != e.other {
		return fmt.Errorf("%w: %s is not the place of the unfinished move, %s is", ErrMismatch, at, e.other)
	}
	c, err := other.Load(ctx)
	switch {
	case err == nil && c.Store != s.id:
		return fmt.Errorf("%w: %s holds the root of another keystore", ErrMismatch, e.other)
	case errors.Is(err, ErrUnavailable):
		return unfinished(err)
	case err != nil: // nothing, or nothing whole, is there: it may have held the current root
		return s.finishMove(ctx, other, []RootID{e.current})
	}
	return s.finishMove(ctx, other, rootsAt(c))
}

// finishMove advances until the keystore stands under a root that the other place does not
// hold, and destroys what it holds.
func (s *Store) finishMove(ctx context.Context, other RootStore, held []RootID) error {
	var e *epochRecord
	for {
		var err error
		if e, err = s.record(ctx); err != nil {
			return unfinished(err)
		}
		if !slices.Contains(held, e.current) {
			break
		}
		// One that was under way is finished first, to a root that may have been moved, too.
		if err := s.advanceAlone(ctx, true); err != nil {
			return unfinished(err)
		}
	}
	// A root that was only ever added here is there: that is here, by another name, as of a
	// service whose address has changed since a copy of the keystore was made.
	if c, err := other.Load(ctx); err == nil && slices.Contains(rootsAt(c), e.current) {
		return s.endMove(ctx, other.Place().URL)
	}
	if err := other.Remove(ctx); err != nil {
		return fmt.Errorf("the root is in %s; the copy in %s is not destroyed, and until oubli root move has done it no erasure is final: %w",
			s.rootStore().Place().URL, other.Place().URL, err)
	}
	return s.endMove(ctx, other.Place().URL)
}

// endMove takes the note of a move away, once the other place holds no root. It leaves that
// of a later move alone.
func (s *Store) endMove(ctx context.Context, other string) error {
	return s.updateRecord(ctx, func(e *epochRecord) error {
		if e.other == other {
			e.other = ""
		}
		return nil
	})
}

func unfinished(err error) error {
	return fmt.Errorf("%w; until oubli root move has finished the move, no erasure is final", err)
}

func unfinishedMove(e *epochRecord) error {
	return fmt.Errorf("%w: a move of the root is not finished, %s may hold a copy; run oubli root move without a place first", ErrState, e.other)
}

// AdoptRoots records that the root store stands where roots finds it: after its files
// were moved to another host or path, on purpose.
func AdoptRoots(ctx context.Context, b Backend, roots RootStore) error {
	s := newStore(b, roots, nil)
	if _, _, err := s.attach(ctx, s.checkAnchor); err != nil {
		return err
	}
	return s.updateRecord(ctx, func(e *epochRecord) error {
		if e.other == roots.Place().URL { // the move had begun and is to be given up by hand
			return unfinishedMove(e)
		}
		e.place = roots.Place()
		return nil
	})
}

// updateRecord changes the epoch record by compare-and-swap.
func (s *Store) updateRecord(ctx context.Context, change func(*epochRecord) error) error {
	for try := range conflictTries {
		if err := backoff(ctx, try); err != nil {
			return err
		}
		e, err := s.record(ctx)
		if err != nil {
			return err
		}
		next := e.clone()
		if err := change(next); err != nil {
			return err
		}
		group, err := s.recordGroup(ctx, e.rev, next)
		if err != nil {
			return err
		}
		if _, err = s.backend.Commit(ctx, []Group{group}); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("change the epoch record: %w: %w", ErrUnavailable, ErrConflict)
}

// leaveBehind has the record of a copy name the place where the root is now, and note the
// one that it named. If the copy was made in the midst of that move, it noted the new one.
func (s *Store) leaveBehind(ctx context.Context) error {
	here := s.rootStore().Place()
	return s.updateRecord(ctx, func(e *epochRecord) error {
		if e.place.URL != here.URL {
			e.place, e.other = here, e.place.URL
		}
		return nil
	})
}
