package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// lookAgain is how often a process asks about roots that are dying before their time is
// over, so that a destruction which an administrator took back begins anew, and is told.
const lookAgain = time.Hour

// destroyDue destroys the superseded roots whose grace is over, once it is certain that
// the keystore opens without them. It asks again for those that are dying: to confirm that
// they are gone, or to notice that they are not going to be.
func (s *Store) destroyDue(ctx context.Context) error {
	e, err := s.record(ctx)
	if err != nil {
		return err
	}
	roots, err := s.rootsOf(e)
	if err != nil {
		return err
	}
	if e.intent != nil {
		return nil // another advancer has begun; it will see to them
	}
	s.forgetOld(e)
	return s.outdated(ctx, e, s.destroyDueOf(ctx, roots, e))
}

func (s *Store) destroyDueOf(ctx context.Context, roots RootStore, e *epochRecord) error {
	now := s.clock()
	look := roots.Place().Delay > 0 && now.Sub(s.looked) >= lookAgain
	if !look && !slices.ContainsFunc(e.roots, func(r rootInfo) bool { return e.due(&r, now) }) {
		return nil
	}
	c, err := roots.Load(ctx)
	if err != nil {
		return err
	}
	var ids []RootID
	for i := range e.roots {
		r := &e.roots[i]
		if !r.superseded() || r.id == e.current || slices.Contains(e.dead(c), r.id) {
			continue
		}
		if d := c.dying(r.id); d != nil && (look || !d.Until.After(now)) || d == nil && e.due(r, now) {
			ids = append(ids, r.id)
		}
	}
	if len(ids) == 0 {
		if look {
			s.looked = now
		}
		return nil
	}
	if err := s.opensWithout(ctx, e); err != nil {
		return fmt.Errorf("superseded roots are kept: %w", err)
	}
	if err := s.replicated(ctx); err != nil {
		return fmt.Errorf("superseded roots are kept: %w", err)
	}
	if err := roots.Destroy(ctx, ids); err != nil {
		return fmt.Errorf("destroy superseded roots: %w", err)
	}
	if look {
		s.looked = now
	}
	after, err := roots.Load(ctx)
	if err != nil {
		return err
	}
	for i := range c.Dying {
		if was, is := &c.Dying[i], after.dying(c.Dying[i].ID); is != nil && is.Until.After(was.Until) {
			s.log.Warn("somebody took back the destruction of a root, or it is not over in time; it has begun anew, and what it reaches is final later",
				"root", is.ID, "was", was.Until.UTC(), "until", is.Until.UTC())
		}
	}
	gone := e.dead(after) // none while another place may hold them
	if !slices.ContainsFunc(ids, func(id RootID) bool { return slices.Contains(gone, id) }) {
		return nil
	}
	if err := roots.Trim(ctx, func(t Tombstone) bool { return e.final(t.Page, t.Counter, gone) }); err != nil {
		s.log.Warn("tombstones beside the root were not trimmed", "error", err)
	}
	return nil
}

// forgetOld drops superseded roots, and shard keys that stood under them, from memory.
func (s *Store) forgetOld(e *epochRecord) {
	s.mu.Lock()
	for id := range s.rootAEADs {
		if id != e.current {
			delete(s.rootAEADs, id)
		}
	}
	s.mu.Unlock()
	for i := range s.pages {
		if p := s.pages[i].Load(); p != nil && p.root != e.current {
			s.pages[i].CompareAndSwap(p, nil)
		}
	}
}

// opensWithout verifies, as stored, what a destruction rests on: every page opens under
// the current root, and every ring of the shards that the last advance touched opens.
func (s *Store) opensWithout(ctx context.Context, e *epochRecord) error {
	pages, err := s.loadPages(ctx)
	if err != nil {
		return err
	}
	for i, p := range pages {
		if p.root != e.current {
			cause := ErrTampered
			if now, err := s.record(ctx); err != nil || now.rev != e.rev {
				cause = ErrConflict // another advancer came between
			}
			return fmt.Errorf("%w: page %d is under root %s, not the current one", cause, i, p.root)
		}
		for j := range p.gens {
			shard := p.first + uint16(j)
			if !e.isTouched(shard) {
				continue
			}
			from, to := s.layout.shardRange(shard)
			err := scanAll(ctx, s.backend, from, to, func(rec Record) error {
				_, sub, ok := splitRingKey(rec.Key)
				if !ok {
					return fmt.Errorf("%w: a record among the rings of shard %d has a key that names nobody", ErrTampered, shard)
				}
				_, err := s.decodeRing(ctx, sub, shard, rec)
				if errors.Is(err, errStaleGeneration) { // it may have moved since it was scanned
					_, err = s.readRing(ctx, sub)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
