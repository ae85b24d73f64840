package keystore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// outcome is what a change did to a ring.
type outcome struct {
	changed bool   // the ring is to be written
	works   []work // changes of state; kind, and for workDestroyed Keys, Erased, Keep, Gone
	err     error  // the change is refused; the ring stands as it was
}

// conflictTries bounds how often a write that lost is tried again. Each loss means
// that somebody else won, so that the bound is only reached when something is wrong.
const conflictTries = 200

// backoff waits a little longer after each loss, so that writers do not march in step.
func backoff(ctx context.Context, try int) error {
	if try < 2 {
		return ctx.Err()
	}
	limit := time.Millisecond << min(try, 6)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(rand.N(limit)):
		return nil
	}
}

// change applies f to the rings of subjects, in one commit of one group per page. All
// writers of rings go through it: it reads the page before the ring, wraps under the
// newest generation that the page holds, and names the revision of the page, so that no
// ring is ever wrapped under a generation that is being retired.
//
// f may be called again, with the ring read anew, after a conflict. It must not keep
// what it is given. errs is parallel to subjects and holds what f refused, or what kept
// the subject's page from being written; err is about the call as a whole. done, if not
// nil, is called with each ring that f did not refuse, as it stands now, and the stamp
// that its shard had before it was read.
func (s *Store) change(ctx context.Context, subjects []Subject, f func(*ring) outcome, done func(*ring, stamp)) (errs []error, err error) {
	return s.changePresuming(ctx, false, subjects, f, done)
}

// changePresuming is change; with fresh, the first try takes it that none of the subjects
// has a ring yet, and reads nothing: if one has, the commit is a conflict. f must then
// change no state.
func (s *Store) changePresuming(ctx context.Context, fresh bool, subjects []Subject, f func(*ring) outcome, done func(*ring, stamp)) (errs []error, err error) {
	if err := s.check(true); err != nil {
		return nil, err
	}
	if err := s.renew(ctx); err != nil {
		return nil, err
	}
	errs = make([]error, len(subjects))
	byPage := make(map[uint8][]member)
	seen := make(map[Subject]int, len(subjects))
	twins := map[int]int{}
	for i, sub := range subjects {
		if sub.IsZero() {
			errs[i] = fmt.Errorf("%w: the zero subject", ErrInvalid)
			continue
		}
		if first, twice := seen[sub]; twice {
			twins[i] = first
			continue
		}
		seen[sub] = i
		shard := s.layout.shard(sub)
		page := s.layout.page(shard)
		byPage[page] = append(byPage[page], member{at: i, subject: sub, shard: shard, key: s.layout.ringKey(shard, sub)})
	}
	for _, list := range byPage {
		slices.SortFunc(list, func(a, b member) int { return slices.Compare(a.key, b.key) })
	}
	told := false // a state was changed, so others are to be told
	for try := 0; len(byPage) > 0; try++ {
		if try == conflictTries {
			return errs, fmt.Errorf("write keys: %w: %w after %d tries", ErrUnavailable, ErrConflict, try)
		}
		if err := backoff(ctx, try); err != nil {
			return errs, err
		}
		if err := s.changeOnce(ctx, look{again: try > 0, fresh: fresh && try == 0}, byPage, f, done, errs, &told); err != nil {
			return errs, err
		}
	}
	if told {
		s.tell(ctx)
	}
	for i, first := range twins {
		errs[i] = errs[first]
	}
	return errs, nil
}

// member is one subject of a change.
type member struct {
	at      int // its place in the caller's list
	subject Subject
	shard   uint16
	key     []byte
}

// stamp is what a shard's stamp was before its rings were read.
type stamp uint64

// look is what changeOnce reads. A page that is remembered is read only where a revision
// did not hold: it is the larger part of what would be read, and the commit names its
// revision.
type look struct {
	again bool // a revision did not hold
	fresh bool // the rings are taken to be absent
}

// changeOnce reads, changes and commits all pages that are left, and takes those that
// are done out of byPage. A conflict is no error: the page stays.
func (s *Store) changeOnce(ctx context.Context, look look, byPage map[uint8][]member, f func(*ring) outcome, done func(*ring, stamp), errs []error, told *bool) error {
	pages := make([]uint8, 0, len(byPage))
	var keys [][]byte
	for p := range byPage {
		pages = append(pages, p)
	}
	slices.Sort(pages)
	stamps := map[uint16]stamp{}
	remembered := make([]*page, len(pages))
	last := make([]*seenCounter, len(pages))
	for i, p := range pages {
		last[i] = s.lease.lastSeen(p)
		if remembered[i] = s.pages[p].Load(); look.again || remembered[i] == nil {
			remembered[i], look.fresh = nil, false
			keys = append(keys, pageKey(p))
		}
		keys = append(keys, counterKey(p))
		for _, m := range byPage[p] {
			keys = append(keys, m.key)
			stamps[m.shard] = stamp(s.stamps[m.shard].Load())
		}
	}
	recs := make([]Record, len(keys))
	var err error
	if !look.fresh {
		if recs, err = s.backend.Get(ctx, keys); err != nil {
			return err
		}
	}
	var groups []Group
	var plans []*pagePlan
	for i, number := range pages {
		list := byPage[number]
		plan := &pagePlan{number: number, page: remembered[i]}
		if plan.page == nil {
			plan.page, err = s.openPage(ctx, number, recs[0])
			recs = recs[1:]
		}
		if err == nil && !look.fresh {
			err = s.follows(number, last[i], recs[0])
		}
		if err == nil {
			err = s.plan(ctx, plan, list, recs[:1+len(list)], f, errs)
		}
		recs = recs[1+len(list):]
		if errors.Is(err, errStaleGeneration) {
			continue // read again
		}
		if err != nil {
			return err
		}
		if len(plan.group) == 0 {
			plan.finish(byPage, stamps, done)
			continue
		}
		groups, plans = append(groups, plan.group), append(plans, plan)
	}
	if len(groups) == 0 {
		return nil
	}
	n, err := s.backend.Commit(ctx, groups)
	// Whatever the answer was: from here on nothing that was read before is used.
	for i, plan := range plans {
		if i < n || err != nil && !errors.Is(err, ErrConflict) {
			*told = *told || plan.raised
			for _, r := range plan.bump {
				s.stamps[r.shard].Add(1)
				s.cache.Invalidate(r.subject) // after the stamp: see keep
			}
		}
	}
	for _, plan := range plans[:n] {
		plan.finish(byPage, stamps, done)
	}
	if err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	return nil
}

// pagePlan is what a change writes to one page.
type pagePlan struct {
	number uint8
	page   *page
	group  Group
	raised bool // the change counter
	rings  []*ring
	bump   []*ring // whose cached entries, and those of their shards, are outdated by it
}

// finish takes a page that is done off the list, and hands out its rings.
func (p *pagePlan) finish(byPage map[uint8][]member, stamps map[uint16]stamp, done func(*ring, stamp)) {
	delete(byPage, p.number)
	if done != nil {
		for _, r := range p.rings {
			done(r, stamps[r.shard])
		}
	}
}

func (s *Store) plan(ctx context.Context, plan *pagePlan, list []member, recs []Record, f func(*ring) outcome, errs []error) error {
	counterRec, ringRecs, p := recs[0], recs[1:], plan.page
	counter, err := parseCounter(counterRec)
	if err != nil {
		return err
	}
	raised := counter
	if int(plan.number) < len(s.floor) {
		raised = max(counter, s.floor[plan.number])
	}
	var changed []changedRing
	var entries [][]byte // on the worklist, of the states that end
	for i, m := range list {
		errs[m.at] = nil
		r := &ring{subject: m.subject, shard: m.shard}
		if rec := ringRecs[i]; rec.Rev != 0 {
			r, err = s.decodeRing(ctx, m.subject, m.shard, rec)
			if errors.Is(err, ErrTampered) {
				errs[m.at] = err
				continue
			}
			if err != nil {
				return err
			}
		}
		oldEntry, oldRev := r.entry, r.rev
		o := f(r)
		if errs[m.at] = o.err; o.err != nil {
			continue
		}
		plan.rings = append(plan.rings, r)
		if !o.changed {
			continue
		}
		c := changedRing{ring: r, key: m.key, was: oldRev, works: o.works}
		if len(o.works) > 0 && oldEntry != 0 {
			entries = append(entries, workKey(plan.number, oldEntry))
			c.ends = true
		}
		changed = append(changed, c)
	}
	var ended []Record
	if len(entries) > 0 {
		if ended, err = s.backend.Get(ctx, entries); err != nil {
			return err
		}
	}
	for _, c := range changed {
		if c.ends {
			if ended[0].Rev != 0 {
				plan.group = append(plan.group, Write{Op: Delete, Key: ended[0].Key, If: ended[0].Rev})
			}
			ended, c.ring.entry = ended[1:], 0
		}
		s.planWorks(plan, c.ring, &raised, c.works)
		gen, aead, err := p.sealer(c.ring.shard)
		if err != nil {
			return err
		}
		value, err := c.ring.seal(s.id, gen, aead)
		if err != nil {
			return err
		}
		c.ring.gen, c.ring.rev = gen, newRev()
		plan.group = append(plan.group, Write{Op: Put, Key: c.key, If: c.was, Rev: c.ring.rev, Value: value})
		if c.was != 0 {
			plan.bump = append(plan.bump, c.ring)
		}
	}
	if len(plan.group) == 0 {
		return nil
	}
	plan.group = append(plan.group, Write{Op: Guard, Key: pageKey(plan.number), If: p.rev})
	if raised != counter {
		plan.raised = true
		plan.group = append(plan.group, Write{Op: Put, Key: counterKey(plan.number), If: counterRec.Rev, Rev: newRev(), Value: encodeCounter(raised)})
	}
	return nil
}

// changedRing is a ring that is to be written.
type changedRing struct {
	ring  *ring
	key   []byte
	was   Rev // what its revision was
	works []work
	ends  bool // its old state has an entry on the worklist, which goes
}

// planWorks numbers a ring's events and enters them into the worklist.
func (s *Store) planWorks(plan *pagePlan, r *ring, counter *uint64, works []work) {
	for _, w := range works {
		*counter++
		w.shard = r.shard
		w.tomb.Subject, w.tomb.Page, w.tomb.Counter, w.tomb.At = r.subject, plan.number, *counter, s.now()
		if w.tomb.Event == (EventID{}) {
			w.tomb.Event = newID()
		}
		switch w.kind {
		case workNote:
			continue
		case workDestroyed:
			r.last = event{id: w.tomb.Event, counter: *counter}
		default:
			r.entry = *counter
		}
		plan.group = append(plan.group, Write{Op: Put, Key: workKey(plan.number, *counter), Rev: newRev(), Value: w.encode()})
	}
}

// changeEach is change; its errors say what was tried.
func (s *Store) changeEach(ctx context.Context, op string, subjects []Subject, f func(*ring) outcome) (errs []error, err error) {
	errs, err = s.change(ctx, subjects, f, nil)
	for i := range errs {
		errs[i] = wrapOp(op, subjects[i], errs[i])
	}
	return errs, err
}

// changeOne is change for a single subject.
func (s *Store) changeOne(ctx context.Context, op string, sub Subject, f func(*ring) outcome) error {
	errs, err := s.change(ctx, []Subject{sub}, f, nil)
	if err == nil {
		err = errs[0]
	}
	return wrapOp(op, sub, err)
}

func wrapOp(op string, sub Subject, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) && e.Subject == sub {
		return err
	}
	return &Error{Op: op, Subject: sub, Err: err}
}
