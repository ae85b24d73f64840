package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tink-crypto/tink-go/v2/tink"
)

const (
	// maxSuperseded bounds how many superseded roots live at a time, and with them the
	// epoch record. When it is reached an advance waits until the oldest is due.
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
	select {
	case s.advancing <- struct{}{}:
		defer func() { <-s.advancing }()
	case <-ctx.Done():
		return ctx.Err()
	}
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
	if e.intent != nil {
		return true, s.finish(ctx, e, nil)
	}
	next, begin, err := s.begin(ctx, e, force)
	if err != nil || next == nil {
		return false, err
	}
	return false, s.finish(ctx, next, begin)
}

// begin prepares the intent: a fresh root on all mirrors, the tombstones and the anchor
// beside it, and the record that names them. next is nil when there is nothing to do.
func (s *Store) begin(ctx context.Context, e *epochRecord, force bool) (next *epochRecord, begin Group, err error) {
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
		if p < len(covered) && c <= covered[p] {
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
	before, err := s.rootStore().Load(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(e.roots) > maxSuperseded {
		if err := s.destroyDue(ctx); err != nil {
			return nil, nil, err
		}
		if before, err = s.rootStore().Load(ctx); err != nil {
			return nil, nil, err
		}
	}
	next.roots = slices.DeleteFunc(next.roots, func(r rootInfo) bool { return slices.Contains(before.Destroyed, r.id) })
	if n := len(next.roots); n > maxSuperseded && !force {
		s.log.Info("an advance waits for superseded roots to die", "superseded", n-1)
		return nil, nil, nil
	}

	// A root that is found is never used again: it may be somebody's who was given up.
	root := Root{ID: newID(), Epoch: max(e.epoch, before.Anchor.Epoch) + 1, Created: s.now(), Key: newSecret()}
	if err := s.rootStore().Add(ctx, root); err != nil {
		return nil, nil, err
	}
	if _, err := s.rememberRoot(&root); err != nil {
		return nil, nil, err
	}
	next.advances = max(e.advances, before.Anchor.Advances) + 1
	if err := s.rootStore().Raise(ctx, Anchor{Epoch: e.epoch, Advances: next.advances, Counters: counters}, tombs); err != nil {
		return nil, nil, err
	}
	found, err := s.rootStore().Load(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range found.Living {
		if r.ID != root.ID && next.root(r.ID) == nil {
			next.roots = append(next.roots, rootInfo{id: r.ID, since: s.now()})
		}
	}
	next.roots = append(next.roots, rootInfo{id: root.ID, covers: counters})
	next.intent = &intent{epoch: root.Epoch, target: root.ID}
	begin, err = s.recordGroup(ctx, e.rev, next)
	return next, begin, err
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
	pages := make([]*page, s.layout.pages)
	for i := range pages {
		p, err := s.loadPage(ctx, uint8(i), true)
		if err != nil {
			return err
		}
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
	for _, p := range pages {
		if p.root != e.intent.target {
			if err := s.rekey(ctx, e, p, target, b); err != nil {
				return err
			}
		}
	}
	if err := s.complete(ctx, e, b); err != nil {
		return err
	}
	if s.grace > 0 {
		// At grace 0 the old root dies now, and no copy from before opens at all; else
		// the anchor is how such a copy is told from the living keystore.
		return s.rootStore().Raise(ctx, Anchor{Epoch: e.intent.epoch, Advances: e.advances}, nil)
	}
	return nil
}

// start gives the touched shards of a page a second generation, unless they have it.
func (s *Store) start(ctx context.Context, e *epochRecord, p *page, b *batch) (*page, error) {
	if p.root == e.intent.target {
		return p, nil
	}
	fresh := map[uint16]generation{}
	for i, gens := range p.gens {
		shard := p.first + uint16(i)
		if e.isTouched(shard) && len(gens) == 1 {
			fresh[shard] = generation{gen: gens[0].gen + 1, key: newSecret()}
		}
	}
	if len(fresh) == 0 {
		return p, nil
	}
	root, err := s.rootAEAD(ctx, p.root)
	if err != nil {
		return nil, err
	}
	started := p.with(fresh)
	value, err := started.seal(s.id, root)
	if err != nil {
		return nil, err
	}
	started.rev = newRev()
	b.add(Group{{Op: Put, Key: pageKey(p.number), If: p.rev, Rev: started.rev, Value: value}}, 0)
	return started, nil
}

// rekey moves the rings of a page's shards that have two generations, and wraps the
// page under the target with only the newest: a generation that ever wrapped the ring
// of somebody who is erased is never wrapped under the new root. Since the page has held
// the newest generation before the rings are scanned, none under the old can appear.
func (s *Store) rekey(ctx context.Context, e *epochRecord, p *page, target tink.AEAD, b *batch) error {
	var last Group
	for i, gens := range p.gens {
		if len(gens) == 1 {
			continue
		}
		shard := p.first + uint16(i)
		from, to := s.layout.shardRange(shard)
		err := scanAll(ctx, s.backend, from, to, func(rec Record) error {
			w, err := s.move(ctx, p, shard, rec)
			if err != nil || w.Key == nil {
				return err
			}
			if last = append(last, w); len(last)+b.moved >= s.moveBudget {
				// Too many for one commit: moves may go first, the page goes last.
				b.add(append(last, Write{Op: Guard, Key: pageKey(p.number), If: p.rev}), len(last))
				last = nil
				return b.flush(ctx)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	wrapped := p.newestOnly(e.intent.epoch, e.intent.target)
	value, err := wrapped.seal(s.id, target)
	if err != nil {
		return err
	}
	moved := len(last)
	last = append(last, Write{Op: Put, Key: pageKey(p.number), If: p.rev, Rev: newRev(), Value: value})
	b.add(last, moved)
	return nil
}

// move wraps a ring again under the newest generation of its shard. The zero Write says
// that it is there already.
func (s *Store) move(ctx context.Context, p *page, shard uint16, rec Record) (w Write, err error) {
	_, sub, ok := splitRingKey(rec.Key)
	if !ok {
		return w, fmt.Errorf("%w: a record among the rings of shard %d has a key that names nobody", ErrTampered, shard)
	}
	h, err := parseRingHeader(rec.Value)
	if err != nil {
		return w, fmt.Errorf("%s: %w", sub, err)
	}
	gen, newest, err := p.sealer(shard)
	if err != nil || h.gen == gen {
		return w, err
	}
	old, ok, err := p.aead(shard, h.gen)
	if err != nil {
		return w, err
	}
	if !ok {
		// Another advancer may be far ahead, and this page a memory.
		recs, err := s.backend.Get(ctx, [][]byte{pageKey(p.number)})
		if err != nil {
			return w, err
		}
		if recs[0].Rev != p.rev {
			return w, fmt.Errorf("%w: page %d has moved on", ErrConflict, p.number)
		}
		return w, fmt.Errorf("%w: the ring of %s is under generation %d of shard %d, which its page does not hold", ErrTampered, sub, h.gen, shard)
	}
	plain, err := h.unwrap(s.id, sub, shard, old)
	if err != nil {
		return w, err
	}
	value, err := wrapRing(s.id, sub, shard, gen, newest, h.state, h.clear, plain)
	return Write{Op: Put, Key: rec.Key, If: rec.Rev, Rev: newRev(), Value: value}, err
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

// destroyDue destroys the superseded roots whose grace is over, once it is certain that
// the keystore opens without them.
func (s *Store) destroyDue(ctx context.Context) error {
	e, err := s.record(ctx)
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
	due = slices.DeleteFunc(due, func(id RootID) bool { return slices.Contains(c.Destroyed, id) })
	if len(due) == 0 {
		return nil
	}
	if err := s.opensWithout(ctx, e); err != nil {
		return fmt.Errorf("superseded roots are kept: %w", err)
	}
	if err := s.rootStore().Destroy(ctx, due); err != nil {
		return fmt.Errorf("destroy superseded roots: %w", err)
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
	for i := range s.layout.pages {
		p, err := s.loadPage(ctx, uint8(i), true)
		if err != nil {
			return err
		}
		if p.root != e.current {
			return fmt.Errorf("%w: page %d is under root %s, not the current one", ErrConflict, i, p.root)
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
