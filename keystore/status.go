package keystore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
)

// Status tells about subjects, in their order; unknown ones have StateUnknown. While the
// root store is away no root counts as destroyed, and so what is final may seem not to be.
func (s *Store) Status(ctx context.Context, subjects ...Subject) ([]Status, error) {
	if err := s.check(false); err != nil {
		return nil, err
	}
	fin, err := s.finality(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Status, len(subjects))
	err = s.eachRing(ctx, subjects, func(i int, r *ring, err error) error {
		if err != nil {
			return err
		}
		list[i] = fin.status(s.layout, r)
		for n := range r.keys {
			k := &r.keys[n]
			later := slices.ContainsFunc(r.keys[n+1:], func(o ringKey) bool { return o.purpose == k.purpose })
			list[i].Keys = append(list[i].Keys, KeyInfo{ID: k.id, Purpose: k.purpose, Created: time.Unix(k.created, 0).UTC(), Primary: !later})
		}
		for _, d := range r.dropped {
			list[i].Dropped = append(list[i].Dropped, d.id)
		}
		list[i].Gone = r.gone
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// eachRing calls f with the ring of each subject, or with what is the matter with it, in
// their order, as readRing reads them: many in one round trip.
func (s *Store) eachRing(ctx context.Context, subjects []Subject, f func(i int, r *ring, err error) error) error {
	i := 0
	for some := range slices.Chunk(subjects, scanBatch) {
		keys := make([][]byte, len(some))
		for n, sub := range some {
			keys[n] = s.layout.ringKey(s.layout.shard(sub), sub)
		}
		recs, err := s.backend.Get(ctx, keys)
		if err != nil {
			return err
		}
		for n, sub := range some {
			r := &ring{subject: sub, shard: s.layout.shard(sub)}
			var err error
			if recs[n].Rev != 0 {
				if r, err = s.decodeRing(ctx, sub, r.shard, recs[n]); errors.Is(err, errStaleGeneration) {
					r, err = s.readRing(ctx, sub) // re-keyed since it was read
				}
			}
			if err := f(i, r, err); err != nil {
				return err
			}
			i++
		}
	}
	return nil
}

// readRing reads one ring from the backend, past the cache. An unknown subject has a
// ring in StateUnknown.
func (s *Store) readRing(ctx context.Context, sub Subject) (*ring, error) {
	shard := s.layout.shard(sub)
	var err error
	for range staleTries {
		var recs []Record
		if recs, err = s.backend.Get(ctx, [][]byte{s.layout.ringKey(shard, sub)}); err != nil {
			return nil, err
		}
		if recs[0].Rev == 0 {
			return &ring{subject: sub, shard: shard}, nil
		}
		var r *ring
		if r, err = s.decodeRing(ctx, sub, shard, recs[0]); !errors.Is(err, errStaleGeneration) {
			return r, err
		}
	}
	return nil, err
}

// finality is what decides whether destructions are final.
type finality struct {
	record   *epochRecord
	contents RootContents
	away     error // the root store could not be read
	delay    time.Duration
	now      time.Time
}

// finality reads it. While the root store is away, nothing counts as destroyed.
func (s *Store) finality(ctx context.Context) (finality, error) {
	e, c, err := s.survey(ctx)
	if err != nil && (e == nil || !errors.Is(err, ErrUnavailable)) {
		return finality{}, err
	}
	return finality{record: e, contents: c, away: err, delay: s.rootStore().Place().Delay, now: s.clock()}, nil
}

// survey reads the roots, and then the record that says what they are. A root store that
// the keystore has left meanwhile says nothing about what lives. The record is there also
// where the roots can't be read.
func (s *Store) survey(ctx context.Context) (e *epochRecord, c RootContents, err error) {
	for {
		at := s.roots.Load()
		c, lost := (*at).Load(ctx)
		e, err := s.record(ctx)
		if err == nil {
			_, err = s.rootsOf(e)
		}
		if s.roots.Load() != at {
			continue // the root was moved meanwhile
		}
		if err != nil {
			return nil, c, err
		}
		return e, c, lost
	}
}

// status fills in all that needs no shard key.
func (f finality) status(l layout, r *ring) Status {
	st := Status{Subject: r.subject, State: r.state, Purposes: r.purposes, Kept: r.kept, Hold: r.hold, Journal: r.journal,
		History: r.changes()}
	if c := r.last.counter; c != 0 {
		page := l.page(r.shard)
		if st.Final = f.record.final(page, c, f.record.dead(f.contents)); !st.Final {
			st.FinalAt = f.record.finalAt(page, c, f.contents, f.delay, f.now)
		}
	}
	return st
}

// erasures reports how far erasures have come.
func (s *Store) erasures(ctx context.Context, subjects []Subject) ([]Erasure, error) {
	fin, err := s.finality(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Erasure, len(subjects))
	err = s.eachRing(ctx, subjects, func(i int, r *ring, err error) error {
		sub := subjects[i]
		list[i].Subject = sub
		if sub.IsZero() {
			return nil
		}
		if err != nil {
			list[i].Err = wrapOp("read the state of", sub, err)
			return nil
		}
		st := fin.status(s.layout, r)
		list[i] = Erasure{Subject: sub, State: r.state, Final: st.Final, FinalAt: st.FinalAt}
		if r.kept {
			list[i].Kept = slices.Clone(r.purposes)
		}
		if r.state == StateErasing {
			list[i].Waiting = r.journal.Waiting()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// All walks over every subject in storage order, with flat memory. Keys, Dropped and
// Gone are left out: they need each subject's keys unwrapped; see Status.
func (s *Store) All(ctx context.Context) iter.Seq2[Status, error] {
	return s.walk(ctx, ringRange, func(fin finality, rec Record) (Status, bool, error) {
		st, err := fin.header(s.layout, rec)
		return st, true, err
	})
}

// walk yields what read makes of the records in a range of each page; ok is false for a
// record to pass over. A record that cannot be read is yielded with its error, and the
// walk goes on.
func (s *Store) walk(ctx context.Context, of func(page uint8) (from, to []byte), read func(finality, Record) (st Status, ok bool, err error)) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		if err := s.check(false); err != nil {
			yield(Status{}, err)
			return
		}
		fin, err := s.finality(ctx)
		if err != nil {
			yield(Status{}, err)
			return
		}
		stop := errors.New("stop")
		for p := range s.layout.pages {
			from, to := of(uint8(p))
			err := scanAll(ctx, s.backend, from, to, func(rec Record) error {
				if st, ok, err := read(fin, rec); ok && !yield(st, err) {
					return stop
				}
				return nil
			})
			if err == stop {
				return
			}
			if err != nil {
				yield(Status{}, err)
				return
			}
		}
	}
}

// header makes a status of what stands unencrypted in a ring.
func (f finality) header(l layout, rec Record) (Status, error) {
	var r ring
	if err := r.decodeHeader(rec); err != nil {
		return Status{Subject: r.subject}, err
	}
	return f.status(l, &r), nil
}

// decodeHeader reads all but the keys: what stands unencrypted, and is not authenticated
// without them. With an error, the ring has the subject at most.
func (r *ring) decodeHeader(rec Record) error {
	shard, sub, ok := splitRingKey(rec.Key)
	if !ok {
		*r = ring{}
		return fmt.Errorf("%w: the record %x among the rings names nobody", ErrTampered, rec.Key)
	}
	*r = ring{subject: sub, shard: shard}
	h, err := parseRingHeader(rec.Value)
	if err == nil && len(h.clear) > 0 {
		err = r.clearPart.decode(h.clear)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", sub, err)
	}
	r.state = h.state
	return nil
}

// Pending walks over the subjects that are erasing, from the worklists, the oldest
// request of each page first.
func (s *Store) Pending(ctx context.Context) iter.Seq2[Status, error] {
	return s.listed(ctx, workPending, StateErasing)
}

// Restricted walks over the subjects that are restricted, from the worklists.
func (s *Store) Restricted(ctx context.Context) iter.Seq2[Status, error] {
	return s.listed(ctx, workRestricted, StateRestricted)
}

func (s *Store) listed(ctx context.Context, kind workKind, state State) iter.Seq2[Status, error] {
	return s.walk(ctx, workRange, func(fin finality, rec Record) (Status, bool, error) {
		w, err := parseWork(rec)
		if err != nil || w.kind != kind {
			return Status{}, err != nil, err
		}
		r, err := s.readRing(ctx, w.tomb.Subject)
		if err != nil {
			return Status{Subject: w.tomb.Subject}, true, err
		}
		current := r.state == state && r.entry == w.tomb.Counter // or it has moved on meanwhile
		return fin.status(s.layout, r), current, nil
	})
}

// Health is the state of the keystore as a whole.
type Health struct {
	Root       Place        `json:"root"`
	Epoch      uint64       `json:"epoch"`
	Advancing  bool         `json:"advancing"` // an advance has begun and is to be finished
	Roots      []RootStatus `json:"roots"`
	Unnamed    []RootID     `json:"unnamed,omitempty"` // living and dying roots that the record does not name; the next advance supersedes them
	Away       []string     `json:"away,omitempty"`    // parts of the root store that can't be read
	Moving     string       `json:"moving,omitempty"`  // a move of the root is not finished: this place may hold a copy, and nothing is final
	Overdue    int          `json:"overdue"`           // superseded roots that should be gone, or dying, and are not
	Pending    int          `json:"pending"`           // subjects that are erasing
	Restricted int          `json:"restricted"`
	Unadvanced int          `json:"unadvanced"` // destroyed, but no advance has taken them in yet
	NotFinal   []Tombstone  `json:"-"`          // erased, not yet final
}

// Health reads the state of the keystore as a whole.
func (s *Store) Health(ctx context.Context) (Health, error) {
	var h Health
	if err := s.check(false); err != nil {
		return h, err
	}
	e, c, err := s.survey(ctx)
	if err != nil {
		return h, err
	}
	h.Epoch, h.Advancing, h.Away = e.epoch, e.intent != nil, c.Away
	dead := e.dead(c)
	h.Moving = e.other
	h.Root = s.rootStore().Place()
	h.Roots, h.Unnamed = e.rootStatuses(c, h.Root.Delay, s.clock())
	for i := range h.Roots {
		if h.Roots[i].Overdue {
			h.Overdue++
		}
	}
	for p := range s.layout.pages {
		from, to := workRange(uint8(p))
		err := scanAll(ctx, s.backend, from, to, func(rec Record) error {
			w, err := parseWork(rec)
			switch w.kind {
			case workPending:
				h.Pending++
			case workRestricted:
				h.Restricted++
			case workDestroyed:
				if !e.root(e.current).covered(w.tomb.Page, w.tomb.Counter) {
					h.Unadvanced++
					h.NotFinal = append(h.NotFinal, w.tomb)
				}
			}
			return err
		})
		if err != nil {
			return h, err
		}
	}
	for _, t := range c.Tombstones {
		if !e.final(t.Page, t.Counter, dead) && !slices.ContainsFunc(h.NotFinal, func(n Tombstone) bool { return n.Event == t.Event }) {
			h.NotFinal = append(h.NotFinal, t)
		}
	}
	return h, nil
}
