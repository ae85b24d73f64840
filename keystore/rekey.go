package keystore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tink-crypto/tink-go/v2/tink"
)

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

const (
	// manyShards is from where on the pages of an advance are divided among workers, each
	// with transactions of its own: a database works for each of them at the same time.
	manyShards   = 100
	rekeyWorkers = 2
)

// rekeyTogether is rekeyAll by several workers, which commit all of it.
func (s *Store) rekeyTogether(ctx context.Context, e *epochRecord, pages []*page, target tink.AEAD) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, rekeyWorkers)
	var wg sync.WaitGroup
	for i := range errs {
		var mine []*page
		for n := i; n < len(pages); n += rekeyWorkers {
			mine = append(mine, pages[n])
		}
		wg.Go(func() {
			b := &batch{s: s}
			if errs[i] = s.rekeyAll(ctx, e, mine, target, b); errs[i] == nil {
				errs[i] = b.flush(ctx)
			}
			if errs[i] != nil {
				cancel() // what is done stands, and need not be done again
			}
		})
	}
	wg.Wait()
	for _, err := range errs { // the cause, and not that another worker was canceled for it
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return errors.Join(errs...)
}

// rekeyAll takes pages to the target, by way of a batch.
func (s *Store) rekeyAll(ctx context.Context, e *epochRecord, pages []*page, target tink.AEAD, b *batch) error {
	for _, p := range pages {
		if err := s.rekey(ctx, e, p, target, b); err != nil {
			return err
		}
	}
	return nil
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
