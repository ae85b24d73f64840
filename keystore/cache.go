package keystore

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/maypok86/otter/v2"
)

// entry is a subject's ring in the cache, ready for use. It is immutable. stamp is that
// of the subject's shard, read before the ring was: an entry with an older stamp is not
// used, so that a load which began before a change can never put a key back.
type entry struct {
	shard uint16
	state State
	stamp uint64
	one   [1]dataKey // the usual case, without another allocation
	keys  []dataKey
	*special
}

// special is what few entries have; all others share the zero one.
type special struct {
	kept    bool
	listed  []string
	dropped []droppedKey
	gone    []string
	bad     error // the ring does not authenticate; nothing else is set, and it is never used from the cache
}

var plain special // never written

type dataKey struct {
	id      uint32
	purpose string
	*lazyAEAD
}

// lazyAEAD makes a key's cipher when it is first used: most of a batch that is created
// or of a ring that was rotated never is.
type lazyAEAD struct {
	once sync.Once
	key  Secret
	aead cipher.AEAD
}

func (l *lazyAEAD) cipher() cipher.AEAD {
	l.once.Do(func() {
		l.aead = newDataAEAD(&l.key)
		l.key = Secret{}
	})
	return l.aead
}

func newEntry(r *ring, stamp uint64) *entry {
	e := &entry{shard: r.shard, state: r.state, stamp: stamp, special: &plain}
	if r.state != StateActive || len(r.dropped)+len(r.gone) > 0 {
		e.special = &special{kept: r.kept, listed: r.purposes, dropped: r.dropped, gone: r.gone}
	}
	if len(r.keys) == 1 {
		e.keys = e.one[:]
	} else {
		e.keys = make([]dataKey, len(r.keys))
	}
	for i := range r.keys {
		k := &r.keys[i]
		e.keys[i] = dataKey{id: k.id, purpose: k.purpose, lazyAEAD: &lazyAEAD{key: k.key}}
	}
	return e
}

func (e *entry) withdrawn(purpose string) bool {
	return slices.Contains(e.gone, purpose) || e.kept && !slices.Contains(e.listed, purpose)
}

// valid tells whether an entry is what the subject's record says now, as far as this
// process knows.
func (s *Store) valid(e *entry) bool { return s.stamps[e.shard].Load() == e.stamp }

// keep puts an entry into the cache, unless it is outdated. A change raises the stamp
// before it drops the entry, so that after an erasure no key is left there: what is put
// in too late for the one is seen by the other.
func (s *Store) keep(sub Subject, e *entry) {
	s.cache.Set(sub, e)
	if !s.valid(e) || s.closed.Load() {
		s.cache.ComputeIfPresent(sub, func(now *entry) (*entry, otter.ComputeOp) {
			if now == e {
				return nil, otter.InvalidateOp
			}
			return now, otter.CancelOp
		})
	}
}

// flight is a load under way. Who needs one of its subjects meanwhile waits for it.
type flight struct{ done chan struct{} }

// fetch loads the subjects at the given places, into found at the same places; an
// unknown one stays nil. One flight per miss; an entry that is outdated by the time it
// arrives is loaded again. joined are the places that another's flight answered, which
// may have read before this call began.
//
// The cache's own loader is not used: for a batch it costs more than the unwrapping.
func (s *Store) fetch(ctx context.Context, subjects []Subject, at []int, found []*entry) (joined []int, err error) {
	for range staleTries {
		mine, others, f := s.takeOff(subjects, at)
		again := at[:0:0]
		if len(mine) > 0 {
			err := s.fly(ctx, f, subjects, mine, found)
			if err != nil {
				return nil, err
			}
			for _, i := range mine {
				if e := found[i]; e != nil && e.bad == nil && !s.valid(e) {
					found[i] = nil
					again = append(again, i)
				}
			}
		}
		for _, i := range others {
			if err := s.await(ctx, subjects[i]); err != nil {
				return nil, err
			}
			if e, ok := s.cache.GetIfPresent(subjects[i]); ok && s.valid(e) {
				found[i] = e
				joined = append(joined, i)
			} else { // unknown, evicted, outdated, or its load failed
				again = append(again, i)
			}
		}
		if len(again) == 0 {
			return joined, nil
		}
		at = again
	}
	return nil, fmt.Errorf("%w: subjects kept changing while they were read", ErrUnavailable)
}

// takeOff divides what is to be loaded into what this call loads, entered as one
// flight, and what others are loading.
func (s *Store) takeOff(subjects []Subject, at []int) (mine, others []int, f *flight) {
	f = &flight{done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range at {
		if other, ok := s.flights[subjects[i]]; ok && other != f {
			others = append(others, i)
			continue
		}
		s.flights[subjects[i]] = f
		mine = append(mine, i)
	}
	return mine, others, f
}

func (s *Store) fly(ctx context.Context, f *flight, subjects []Subject, mine []int, found []*entry) error {
	defer func() {
		s.mu.Lock()
		for _, i := range mine {
			delete(s.flights, subjects[i])
		}
		s.mu.Unlock()
		close(f.done)
	}()
	if err := s.load(ctx, subjects, mine, found); err != nil {
		return err
	}
	for _, i := range mine {
		if e := found[i]; e != nil && e.bad == nil && s.valid(e) && !s.closed.Load() {
			s.keep(subjects[i], e)
		}
	}
	return nil
}

// await waits until nobody is loading the subject.
func (s *Store) await(ctx context.Context, sub Subject) error {
	s.mu.Lock()
	f, ok := s.flights[sub]
	s.mu.Unlock()
	if !ok {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.done:
		return nil
	}
}

// load reads rings and makes entries of them. Unknown subjects stay nil, and so are
// never cached.
func (s *Store) load(ctx context.Context, subjects []Subject, at []int, found []*entry) error {
	for range staleTries {
		shards := make([]uint16, len(at))
		stamps := make([]uint64, len(at))
		keys := make([][]byte, len(at))
		for n, i := range at {
			if subjects[i].IsZero() {
				return fmt.Errorf("%w: the zero subject", ErrInvalid)
			}
			shards[n] = s.layout.shard(subjects[i])
			stamps[n] = s.stamps[shards[n]].Load()
			keys[n] = s.layout.ringKey(shards[n], subjects[i])
		}
		// The counters of their pages come along.
		var pages []uint8
		var last [256]*seenCounter
		if s.lease.shared() {
			for _, shard := range shards {
				p := s.layout.page(shard)
				if last[p] != nil {
					continue
				}
				if last[p] = s.lease.lastSeen(p); last[p] != nil {
					pages, keys = append(pages, p), append(keys, counterKey(p))
				}
			}
		}
		recs, err := s.readRings(ctx, keys, subjects, at, shards, stamps, found)
		if err != nil {
			return err
		}
		for n, p := range pages {
			if err := s.follows(p, last[p], recs[len(at)+n]); err != nil {
				return err
			}
		}
		again := at[:0:0]
		for n, i := range at {
			if found[i] != nil || recs[n].Rev == 0 {
				continue
			}
			r, err := s.decodeRing(ctx, subjects[i], shards[n], recs[n])
			switch {
			case errors.Is(err, errStaleGeneration):
				again = append(again, i)
			case errors.Is(err, ErrTampered): // one bad ring keeps nobody else from reading
				found[i] = badEntry(err)
			case err != nil:
				return err
			default:
				found[i] = newEntry(r, stamps[n])
			}
		}
		if len(again) == 0 {
			return nil
		}
		at = again
	}
	for _, i := range at {
		found[i] = badEntry(fmt.Errorf("%w: %w", ErrTampered, errStaleGeneration))
	}
	return nil
}

// readRings reads the records of keys, of which the first are rings of subjects. Where the
// backend hands them out as they come, and their pages are remembered, entries are made of
// rings meanwhile, into found: those have no value among the records.
func (s *Store) readRings(ctx context.Context, keys [][]byte, subjects []Subject, at []int, shards []uint16, stamps []uint64, found []*entry) (recs []Record, err error) {
	for _, i := range at {
		found[i] = nil
	}
	b, ok := s.backend.(Streamer)
	if !ok || len(at) == 1 {
		return s.backend.Get(ctx, keys)
	}
	recs = make([]Record, len(keys))
	err = b.Each(ctx, keys, func(n int, rec Record) {
		recs[n] = Record{Rev: rec.Rev}
		if n < len(at) {
			found[at[n]] = nil // the read may have been repeated
			if r := s.decodeAtOnce(subjects[at[n]], shards[n], rec); r != nil {
				e := newEntry(r, stamps[n])
				for i := range e.keys {
					e.keys[i].cipher() // nearly all will be used, and there is time now
				}
				found[at[n]] = e
				return
			}
		}
		recs[n].Value = slices.Clone(rec.Value)
	})
	return recs, err
}

// decodeAtOnce opens a ring if that takes nothing but what is remembered; else it is nil.
func (s *Store) decodeAtOnce(sub Subject, shard uint16, rec Record) *ring {
	p := s.pages[s.layout.page(shard)].Load()
	if rec.Rev == 0 || p == nil {
		return nil
	}
	h, err := parseRingHeader(rec.Value)
	if err != nil {
		return nil
	}
	a, ok, err := p.aead(shard, h.gen)
	if err != nil || !ok {
		return nil
	}
	r, err := openRing(s.id, sub, shard, rec, a)
	if err != nil {
		return nil // decodeRing will say what is the matter
	}
	return r
}

func badEntry(err error) *entry { return &entry{stamp: ^uint64(0), special: &special{bad: err}} }
