package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// maxSuperseded bounds how many superseded roots live, or are dying, at a time, and with
	// them the epoch record, which every process reads with each poll, and what a root store
	// holds. When it is reached an advance waits until the oldest is gone. From half of it on
	// advances keep a distance: a burst must not reach it, for then nobody could advance for
	// the whole of a grace and delay.
	maxSuperseded = 128

	// moveBudget bounds how many rings one commit moves, and so an advance's memory.
	moveBudget = 1 << 14
)

// Advance takes the keystore to the next epoch if keys were destroyed that the current
// root still reaches, finishes an advance that another left, and destroys the roots
// that are due. With nothing to do it costs two small reads. Callers at the same time
// share an advance. An error leaves everything so that the next call goes on.
func (s *Store) Advance(ctx context.Context) error {
	if err := s.check(true); err != nil {
		return err
	}
	return s.advance(ctx, false)
}

// advance does what Advance says; force makes a new epoch even if nobody was erased.
func (s *Store) advance(ctx context.Context, force bool) error {
	done, err := s.mayAdvance(ctx)
	if err != nil {
		return err
	}
	defer done()
	return s.advanceAlone(ctx, force)
}

// mayAdvance waits until nobody else in this process advances.
func (s *Store) mayAdvance(ctx context.Context) (done func(), err error) {
	select {
	case s.advancing <- struct{}{}:
		return func() { <-s.advancing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// advanceAlone is advance for who may.
func (s *Store) advanceAlone(ctx context.Context, force bool) error {
	for try := 0; ; try++ {
		if try == conflictTries {
			return fmt.Errorf("advance: %w: %w after %d tries", ErrUnavailable, ErrConflict, try)
		}
		if err := backoff(ctx, try); err != nil {
			return err
		}
		more, err := s.advanceOnce(ctx, force)
		if err == nil {
			if force = false; !more {
				if err = s.destroyDue(ctx); err == nil {
					return nil
				}
			}
		}
		// Another advancer may have won, or have come between the record and the pages:
		// see how far it has come.
		if err != nil && !errors.Is(err, ErrConflict) {
			return fmt.Errorf("advance: %w", err)
		}
	}
}

// advanceOnce finishes the advance under way, or begins one and finishes it. more tells
// that it is worth looking again.
func (s *Store) advanceOnce(ctx context.Context, force bool) (more bool, err error) {
	e, err := s.record(ctx)
	if err != nil {
		return false, err
	}
	roots, err := s.rootsOf(e)
	if err != nil {
		return false, err
	}
	if e.intent != nil {
		return true, s.outdated(ctx, e, s.finish(ctx, e, nil))
	}
	next, begin, err := s.begin(ctx, roots, e, force)
	if err != nil || next == nil {
		return false, s.outdated(ctx, e, err)
	}
	return false, s.outdated(ctx, e, s.finish(ctx, next, begin))
}

// begin prepares the intent: the tombstones and the anchor on all mirrors, a fresh root
// beside them, and the record that names it. next is nil when there is nothing to do.
func (s *Store) begin(ctx context.Context, roots RootStore, e *epochRecord, force bool) (next *epochRecord, begin Group, err error) {
	// Each page's counter first, then its worklist: what has a counter up to the one
	// read is on the list.
	counters, err := s.counters(ctx)
	if err != nil {
		return nil, nil, err
	}
	covered := e.root(e.current).covers
	var tombs []Tombstone
	next = e.clone()
	next.touched = nil
	for p, c := range counters {
		if p < len(covered) && c < covered[p] {
			// What it counts from here would pass for covered.
			return nil, nil, fmt.Errorf("%w: the change counter of page %d is at %d, and an advance has covered %d", ErrTampered, p, c, covered[p])
		}
		if p < len(covered) && c == covered[p] {
			continue
		}
		list, err := s.worklist(ctx, uint8(p), 0)
		if err != nil {
			return nil, nil, err
		}
		var left []Write // entries that an interrupted advance has dealt with
		for _, w := range list {
			switch {
			case w.kind != workDestroyed || w.tomb.Counter > c:
			case p < len(covered) && w.tomb.Counter <= covered[p]:
				left = append(left, Write{Op: Delete, Key: workKey(uint8(p), w.tomb.Counter), If: w.rev})
			default:
				tombs = append(tombs, w.tomb)
				next.touch(w.shard)
			}
		}
		if len(left) > 0 {
			if _, err := s.backend.Commit(ctx, []Group{left}); err != nil && !errors.Is(err, ErrConflict) {
				return nil, nil, err
			}
		}
	}
	if len(tombs) == 0 && !force {
		return nil, nil, nil
	}
	before, err := roots.Load(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(e.roots) > maxSuperseded {
		if err := s.destroyDue(ctx); err != nil {
			if news(tombs, before.Tombstones) {
				err = errors.Join(err, roots.Raise(ctx, Anchor{Epoch: e.epoch, Advances: max(e.advances, before.Anchor.Advances), Counters: counters}, tombs))
			}
			return nil, nil, err
		}
		if before, err = roots.Load(ctx); err != nil {
			return nil, nil, err
		}
	}
	next.roots = slices.DeleteFunc(next.roots, func(r rootInfo) bool { return slices.Contains(e.dead(before), r.id) })
	waits := !force && next.crowded(s.now(), s.grace+roots.Place().Delay)
	if next.advances = max(e.advances, before.Anchor.Advances); !waits {
		next.advances++
	}
	// Before anything that may have to wait, for a mirror or for superseded roots to die:
	// whoever restores a copy meanwhile must not bring these people back.
	if !waits || news(tombs, before.Tombstones) {
		if err := roots.Raise(ctx, Anchor{Epoch: e.epoch, Advances: next.advances, Counters: counters}, tombs); err != nil {
			return nil, nil, err
		}
	}
	if waits {
		s.log.Info("an advance waits for superseded roots to die", "superseded", len(next.roots)-1)
		return nil, nil, nil
	}

	// A root that is found is never used again: it may be somebody's who was given up.
	root := Root{ID: newID(), Epoch: max(e.epoch, before.Anchor.Epoch) + 1, Created: s.now(), Key: newSecret()}
	if err := roots.Add(ctx, root); err != nil {
		return nil, nil, err
	}
	if _, err := s.rememberRoot(&root); err != nil {
		return nil, nil, err
	}
	found, err := roots.Load(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range rootsAt(found) { // the dying ones, too: somebody could take that back
		if id != root.ID && next.root(id) == nil {
			next.roots = append(next.roots, rootInfo{id: id, since: s.now()})
		}
	}
	next.roots = append(next.roots, rootInfo{id: root.ID, covers: counters})
	next.intent = &intent{epoch: root.Epoch, target: root.ID}
	begin, err = s.recordGroup(ctx, e.rev, next)
	return next, begin, err
}

// crowded tells whether an advance has to wait: so many superseded roots live, each for as
// long as lives says.
func (e *epochRecord) crowded(now time.Time, lives time.Duration) bool {
	if len(e.roots) <= maxSuperseded/2 {
		return false
	}
	var last time.Time
	for i := range e.roots {
		if e.roots[i].since.After(last) {
			last = e.roots[i].since
		}
	}
	return len(e.roots) > maxSuperseded || now.Sub(last) < lives/(maxSuperseded/2)
}

// news tells whether an event is not among those that have tombstones.
func news(tombs, have []Tombstone) bool {
	known := make(map[EventID]bool, len(have))
	for _, t := range have {
		known[t.Event] = true
	}
	return slices.ContainsFunc(tombs, func(t Tombstone) bool { return !known[t.Event] })
}

// recordGroup is the compare-and-swap of the epoch record.
func (s *Store) recordGroup(ctx context.Context, old Rev, e *epochRecord) (Group, error) {
	root, err := s.rootAEAD(ctx, e.current)
	if err != nil {
		return nil, err
	}
	value, err := e.encode(root)
	if err != nil {
		return nil, err
	}
	e.rev = newRev()
	return Group{{Op: Put, Key: epochKey, If: old, Rev: e.rev, Value: value}}, nil
}

// batch collects groups and commits them in their order.
type batch struct {
	s      *Store
	groups []Group
	moved  int
}

func (b *batch) add(g Group, moved int) {
	b.groups = append(b.groups, g)
	b.moved += moved
}

func (b *batch) flush(ctx context.Context) error {
	if len(b.groups) == 0 {
		return nil
	}
	_, err := b.s.backend.Commit(ctx, b.groups)
	b.groups, b.moved = nil, 0
	return err
}

// finish carries an advance whose intent stands, or stands in begin, to its end.
func (s *Store) finish(ctx context.Context, e *epochRecord, begin Group) error {
	target, err := s.rootAEAD(ctx, e.intent.target)
	if err != nil {
		return fmt.Errorf("the successor of the current root: %w", err)
	}
	b := &batch{s: s}
	if begin != nil {
		b.add(begin, 0)
	}
	// First every touched shard gets its fresh generation, under the old root. From
	// then on nobody wraps under the one that is being retired.
	pages, err := s.loadPages(ctx)
	if err != nil {
		return err
	}
	for i, p := range pages {
		if p.root != e.current && p.root != e.intent.target {
			return fmt.Errorf("%w: page %d is elsewhere", ErrConflict, i)
		}
		if pages[i], err = s.start(ctx, e, p, b); err != nil {
			return err
		}
	}
	if err := b.flush(ctx); err != nil {
		return err
	}
	// Then the rings move, and with the last of a page the page itself.
	pages = slices.DeleteFunc(pages, func(p *page) bool { return p.root == e.intent.target })
	if s.lease.shared() && e.countTouched() > s.manyShards {
		err = s.rekeyTogether(ctx, e, pages, target)
	} else {
		err = s.rekeyAll(ctx, e, pages, target, b)
	}
	if err != nil {
		return err
	}
	if err := s.complete(ctx, e, b); err != nil {
		return err
	}
	if s.grace > 0 {
		// At grace 0 the old root dies now, and no copy from before opens at all; else
		// the anchor is how such a copy is told from the living keystore.
		roots, err := s.rootsOf(e)
		if err != nil {
			return err
		}
		return roots.Raise(ctx, Anchor{Epoch: e.intent.epoch, Advances: e.advances}, nil)
	}
	return nil
}

// complete names the new root in the record and takes the members off the worklists, by
// their own numbers.
func (s *Store) complete(ctx context.Context, e *epochRecord, b *batch) error {
	next := e.clone()
	next.epoch, next.current, next.intent = e.intent.epoch, e.intent.target, nil
	next.root(e.current).since = s.now()
	group, err := s.recordGroup(ctx, e.rev, next)
	if err != nil {
		return err
	}
	b.add(group, 0)
	covers := next.root(next.current).covers
	for p := range s.layout.pages {
		if covers[p] == 0 {
			continue
		}
		list, err := s.worklist(ctx, uint8(p), 0)
		if err != nil {
			return err
		}
		var done Group
		for _, w := range list {
			if w.kind == workDestroyed && w.tomb.Counter <= covers[p] {
				done = append(done, Write{Op: Delete, Key: workKey(uint8(p), w.tomb.Counter), If: w.rev})
			}
		}
		if len(done) > 0 {
			b.add(done, 0)
		}
	}
	return b.flush(ctx)
}
