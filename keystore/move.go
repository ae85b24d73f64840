package keystore

import (
	"context"
	"errors"
	"fmt"
)

// A root store moves in four steps: the record notes the new place, the roots are
// written there, the record names it and notes the old one, the old one is destroyed and
// the note goes. From the first step to the last another place may hold roots that no
// destruction reaches, so until then nothing counts as final.

// errOvertaken: what was copied is not all there is any more.
var errOvertaken = fmt.Errorf("the move was taken back: %w", ErrConflict)

// MoveRoots moves the roots of a living keystore to another root store, on purpose. The
// Store uses the new one from then on. If it fails, or its process dies, no erasure
// becomes final until FinishMove was called with the place that Health names.
func (s *Store) MoveRoots(ctx context.Context, to RootStore) error {
	if err := s.check(true); err != nil {
		return err
	}
	select {
	case s.advancing <- struct{}{}:
		defer func() { <-s.advancing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	old, place := s.rootStore(), to.Place()
	var noted *epochRecord
	err := s.updateRecord(ctx, func(e *epochRecord) error {
		if e.other != "" {
			return unfinishedMove(e)
		}
		if err := s.checkPlaceOf(e); err != nil {
			return err
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
		err = to.Create(ctx, c) // takes away what it wrote if it fails
	}
	if err != nil {
		return errors.Join(err, s.updateRecord(ctx, func(e *epochRecord) error { e.other = ""; return nil }))
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
			return fmt.Errorf("%w; until oubli root move has finished the move, no erasure is final", err)
		}
		return errors.Join(err, s.updateRecord(ctx, func(e *epochRecord) error { e.other = ""; return nil }))
	}
	if err != nil {
		return fmt.Errorf("%w; until oubli root move has finished the move, no erasure is final", err)
	}
	s.roots.Store(&to)
	return s.finishMove(ctx, old)
}

// loadWhole loads a root store with the keys of all living roots.
func loadWhole(ctx context.Context, roots RootStore) (RootContents, error) {
	c, err := roots.Load(ctx)
	if err != nil {
		return c, err
	}
	ids := make([]RootID, len(c.Living))
	for i := range c.Living {
		ids[i] = c.Living[i].ID
	}
	return roots.Load(ctx, ids...)
}

// FinishMove finishes or takes back a move that was interrupted: other is the place
// that Health names, and everything there is destroyed. It refuses the roots of another
// keystore with ErrMismatch, and does nothing when no move is unfinished.
func (s *Store) FinishMove(ctx context.Context, other RootStore) error {
	if err := s.check(true); err != nil {
		return err
	}
	e, err := s.record(ctx)
	if err != nil || e.other == "" {
		return err
	}
	if at := other.Place().URL; at != e.other {
		return fmt.Errorf("%w: %s is not the place of the unfinished move, %s is", ErrMismatch, at, e.other)
	}
	if c, err := other.Load(ctx); err == nil && c.Store != s.id {
		return fmt.Errorf("%w: %s holds the root of another keystore", ErrMismatch, e.other)
	}
	return s.finishMove(ctx, other)
}

func (s *Store) finishMove(ctx context.Context, other RootStore) error {
	if err := other.Remove(ctx); err != nil {
		return fmt.Errorf("the root is in %s; the copy in %s could not be destroyed, and until oubli root move has done it no erasure is final: %w",
			s.rootStore().Place().URL, other.Place().URL, err)
	}
	return s.updateRecord(ctx, func(e *epochRecord) error { e.other = ""; return nil })
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
