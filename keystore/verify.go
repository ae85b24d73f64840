package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// VerifyReport is what Verify found. No Problems means that all is well.
type VerifyReport struct {
	Pages    int      `json:"pages"`
	Rings    int      `json:"rings"`
	Problems []string `json:"problems"`
}

// Verify reads the whole keystore, with flat memory, and checks that every page and
// ring opens and stands where it belongs, under a generation that its page holds; that
// no generation is left over; that the worklists agree with the rings; and that no root
// lives which should be dead. The error is about what could not be read at all. It looks
// at one place after the other: while other processes advance it can report what is not so,
// and is to be asked again.
func (s *Store) Verify(ctx context.Context) (VerifyReport, error) {
	v := &verifier{s: s, ctx: ctx}
	if err := s.check(false); err != nil {
		return v.report, err
	}
	h, err := s.Health(ctx)
	if err != nil {
		return v.report, err
	}
	if v.record, err = s.record(ctx); err != nil {
		return v.report, err
	}
	if v.record.intent != nil { // h is older: an advance may have ended since
		v.problem("an advance to epoch %d has begun and is not finished; opening the keystore for writing finishes it", v.record.intent.epoch)
	}
	for _, r := range h.Roots {
		if r.Overdue {
			v.problem("root %s should have been destroyed by now; oubli advance does it, or says what is in the way", r.ID)
		}
	}
	if h.Moving != "" {
		v.problem("a move of the root is not finished: %s may hold a copy; run oubli root move", h.Moving)
	}
	for _, m := range h.Away {
		v.problem("a mirror of the root is away: %s", m)
	}
	for p := range s.layout.pages {
		if err := v.page(uint8(p)); err != nil {
			return v.report, err
		}
	}
	from, to := []byte{byte(s.layout.pages)}, []byte{globalPage}
	if len(to) > 0 && from[0] < to[0] {
		err = scanAll(ctx, s.backend, from, to, func(rec Record) error {
			v.problem("a record %x stands outside every page", rec.Key[:min(len(rec.Key), 4)])
			return nil
		})
	}
	return v.report, err
}

type verifier struct {
	s      *Store
	ctx    context.Context
	record *epochRecord
	report VerifyReport
}

// maxProblems bounds a report; more of the same tell nothing new.
const maxProblems = 1000

func (v *verifier) problem(format string, args ...any) {
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, fmt.Sprintf(format, args...))
	}
}

// page checks one page with all that stands in it.
func (v *verifier) page(number uint8) error {
	s := v.s
	p, err := s.loadPage(v.ctx, number, true)
	if errors.Is(err, ErrTampered) || errors.Is(err, ErrMismatch) {
		v.problem("%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	v.report.Pages++
	switch {
	case p.root != v.record.current && (v.record.intent == nil || p.root != v.record.intent.target):
		v.problem("page %d is under root %s, the current one is %s", number, p.root, v.record.current)
	case p.rekeying() && v.record.intent == nil:
		v.problem("page %d holds a generation that should be gone", number)
	}
	counters, err := s.counters(v.ctx)
	if err != nil {
		return err
	}
	if covers := v.record.root(v.record.current).covers; int(number) < len(covers) && counters[number] < covers[number] {
		v.problem("the change counter of page %d is at %d, and an advance has covered %d", number, counters[number], covers[number])
	}
	entries, destroyed := map[uint64]work{}, map[uint64]bool{}
	list, err := s.worklist(v.ctx, number, 0)
	if err != nil {
		v.problem("page %d: %v", number, err)
	}
	for _, w := range list {
		if w.tomb.Counter > counters[number] {
			v.problem("the worklist of page %d has an entry beyond the change counter", number)
		}
		if w.kind != workDestroyed {
			entries[w.tomb.Counter] = w
		} else {
			destroyed[w.tomb.Counter] = true
		}
	}
	err = scanAll(v.ctx, s.backend, []byte{number}, []byte{number + 1}, func(rec Record) error {
		switch {
		case slices.Equal(rec.Key, pageKey(number)), slices.Equal(rec.Key, counterKey(number)):
			return nil
		case len(rec.Key) > 1 && rec.Key[1] == kindWork:
			return nil
		}
		return v.ring(number, rec, entries, destroyed)
	})
	if err != nil {
		return err
	}
	for _, w := range entries {
		v.problem("the worklist of page %d has an entry for %s that its record does not know", number, w.tomb.Subject)
	}
	return nil
}

func (v *verifier) ring(number uint8, rec Record, entries map[uint64]work, destroyed map[uint64]bool) error {
	shard, sub, ok := splitRingKey(rec.Key)
	if !ok {
		v.problem("page %d: a record has a key that names nobody", number)
		return nil
	}
	if v.s.layout.shard(sub) != shard || v.s.layout.page(shard) != number {
		v.problem("the ring of %s stands in shard %d of page %d, where it does not belong", sub, shard, number)
		return nil
	}
	r, err := v.s.decodeRing(v.ctx, sub, shard, rec)
	if errors.Is(err, errStaleGeneration) { // it may have moved since it was scanned
		r, err = v.s.readRing(v.ctx, sub)
	}
	if errors.Is(err, ErrTampered) || errors.Is(err, errStaleGeneration) {
		v.problem("%s: %v", sub, err)
		return nil
	}
	if err != nil {
		return err
	}
	v.report.Rings++
	if r.entry != 0 {
		if w, ok := entries[r.entry]; !ok || w.tomb.Subject != sub {
			v.problem("%s is %s, and the worklist of its page does not have it", sub, r.state)
		}
		delete(entries, r.entry)
	} else if r.state == StateErasing || r.state == StateRestricted {
		v.problem("%s is %s, and not on the worklist of its page", sub, r.state)
	}
	if c := r.last.counter; c != 0 && !destroyed[c] && !v.record.root(v.record.current).covered(number, c) {
		v.problem("keys of %s were destroyed, and the worklist of its page does not have it: no advance will take it in", sub)
	}
	if r.state == StateErased && len(r.keys) > 0 {
		v.problem("%s is erased and still has keys", sub)
	}
	return nil
}
