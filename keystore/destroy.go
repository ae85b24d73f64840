package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// destroyDue destroys the superseded roots whose grace is over, once it is certain that
// the keystore opens without them.
func (s *Store) destroyDue(ctx context.Context) error {
	e, err := s.record(ctx)
	if err == nil {
		err = s.checkPlaceOf(e)
	}
	if err != nil {
		return err
	}
	if e.intent != nil {
		return nil // another advancer has begun; it will see to them
	}
	s.forgetOld(e)
	var due []RootID
	now := s.clock()
	for i := range e.roots {
		if r := &e.roots[i]; r.superseded() && r.id != e.current && !r.since.Add(e.grace).After(now) {
			due = append(due, r.id)
		}
	}
	if len(due) == 0 {
		return nil
	}
	c, err := s.rootStore().Load(ctx)
	if err != nil {
		return err
	}
	due = slices.DeleteFunc(due, func(id RootID) bool { return slices.Contains(e.dead(c), id) })
	if len(due) == 0 {
		return nil
	}
	if err := s.opensWithout(ctx, e); err != nil {
		return fmt.Errorf("superseded roots are kept: %w", err)
	}
	if err := s.replicated(ctx); err != nil {
		return fmt.Errorf("superseded roots are kept: %w", err)
	}
	if err := s.rootStore().Destroy(ctx, due); err != nil {
		return fmt.Errorf("destroy superseded roots: %w", err)
	}
	if e.other != "" {
		return nil // what another place holds is not gone
	}
	gone := append(slices.Clone(c.Destroyed), due...)
	if err := s.rootStore().Trim(ctx, func(t Tombstone) bool { return e.final(t.Page, t.Counter, gone) }); err != nil {
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
