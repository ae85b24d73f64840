package keystore

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// ListQuery says which subjects List reads.
type ListQuery struct {
	// State is StateUnknown for everybody, in storage order; StateErasing or
	// StateRestricted for those, in the order of the worklists; or StateErased for those
	// whose erasure is not final yet. Others are not looked up by state.
	State State
	After string // what List returned as next for the page before; empty: from the beginning
	Limit int    // how many at most: 1 to MaxList
}

// MaxList is how many subjects List reads at most.
const MaxList = 1000

// List reads a page of subjects, with flat memory. Keys, Dropped and Gone are left out, as
// in All. next is where the next page begins, empty if there is none: printable, and
// ErrInvalid where it was not made by List for the same State. Each page shows what is so
// when it is read: who changes meanwhile may be missed, and nobody comes twice who stays
// as they are.
//
// Where a subject's record can't be read, err wraps ErrTampered and names it; list then has
// all others of the page, and next is where to go on. With other errors there is no list.
func (s *Store) List(ctx context.Context, q ListQuery) (list []Status, next string, err error) {
	if err := s.check(false); err != nil {
		return nil, "", err
	}
	if q.Limit < 1 || q.Limit > MaxList {
		return nil, "", fmt.Errorf("%w: a limit of %d: 1 to %d are listed at a time", ErrInvalid, q.Limit, MaxList)
	}
	l := &lister{s: s, ctx: ctx, limit: q.Limit, state: q.State}
	after, err := s.layout.parseCursor(q.State, q.After)
	if err != nil {
		return nil, "", err
	}
	switch q.State {
	case StateUnknown:
		err = l.everybody(after)
	case StateErasing, StateRestricted:
		err = l.worklists(after, nil)
	case StateErased:
		err = l.notFinal(after)
	default:
		return nil, "", fmt.Errorf("%w: nobody keeps a list of who is %s", ErrInvalid, q.State)
	}
	if err != nil && !errors.Is(err, errPageFull) {
		return nil, "", err
	}
	if err != nil {
		next = encodeCursor(q.State, l.last)
	}
	return l.list, next, errors.Join(l.broken...)
}

// lister gathers a page.
type lister struct {
	s     *Store
	ctx   context.Context
	state State
	limit int

	fin    *finality // read when the first needs it
	list   []Status
	broken []error
	last   []byte // key of the last record that the page took or passed over
}

// errPageFull says that there is more than the page takes.
var errPageFull = errors.New("the page is full")

func (l *lister) full() bool { return len(l.list)+len(l.broken) >= l.limit }

// everybody lists the rings behind after.
func (l *lister) everybody(after []byte) error {
	return l.scan(ringRange, after, func(recs []Record) error {
		for _, rec := range recs {
			if err := l.add(rec, nil); err != nil {
				return err
			}
			l.last = rec.Key
		}
		return nil
	})
}

// scan reads a range of each page from behind after, as much at a time as fills the page
// and one more.
func (l *lister) scan(of func(uint8) (from, to []byte), after []byte, f func([]Record) error) error {
	page := 0
	if len(after) > 0 {
		page = int(after[0])
	}
	for ; page < l.s.layout.pages; page++ {
		from, to := of(uint8(page))
		if len(after) > 0 {
			from, after = append(slices.Clone(after), 0), nil
		}
		for {
			n := l.limit - len(l.list) - len(l.broken) + 1
			recs, err := l.s.backend.Scan(l.ctx, from, to, n)
			if err != nil {
				return err
			}
			if err := f(recs); err != nil {
				return err
			}
			if len(recs) < n {
				break
			}
			from = append(slices.Clone(recs[len(recs)-1].Key), 0)
		}
	}
	return nil
}

// add puts the subject of a ring on the page, if want says so.
func (l *lister) add(rec Record, want func(*ring) bool) error {
	r, broken := headerRing(rec)
	if broken == nil && want != nil && !want(r) {
		return nil
	}
	if l.full() {
		return errPageFull
	}
	if broken != nil {
		l.broken = append(l.broken, broken)
		return nil
	}
	if r.last.counter != 0 {
		if err := l.needFinality(); err != nil {
			return err
		}
	}
	l.list = append(l.list, l.finality().status(l.s.layout, r))
	return nil
}

// finality is all that is known; without any, nobody's keys were destroyed.
func (l *lister) finality() finality {
	if l.fin == nil {
		return finality{}
	}
	return *l.fin
}

// needFinality reads what decides it: the root store and the epoch record, which a page
// of people who were never erased does not need.
func (l *lister) needFinality() error {
	if l.fin != nil {
		return nil
	}
	fin, err := l.s.finality(l.ctx)
	l.fin = &fin
	return err
}

// candidate is an entry of a worklist, or a tombstone of the root store.
type candidate struct {
	key   []byte // of the entry, or where it would stand
	tomb  Tombstone
	kind  workKind
	entry bool // as against a tombstone
}

// worklists lists the subjects on the worklists behind after, and those in tombs, which are
// in the order of the keys that their entries had.
func (l *lister) worklists(after []byte, tombs []candidate) error {
	for page := range l.s.layout.pages {
		if len(after) > 0 && page < int(after[0]) {
			continue
		}
		own := slices.IndexFunc(tombs, func(c candidate) bool { return c.key[0] > byte(page) })
		if own < 0 {
			own = len(tombs)
		}
		if err := l.worklist(uint8(page), after, tombs[:own]); err != nil {
			return err
		}
		after, tombs = nil, tombs[own:]
	}
	return nil
}

// worklist is worklists for one page.
func (l *lister) worklist(page uint8, after []byte, tombs []candidate) error {
	from, to := workRange(page)
	if len(after) > 0 {
		from = append(slices.Clone(after), 0)
	}
	for more := true; more; {
		n := scanBatch
		if left := l.limit - len(l.list) - len(l.broken) + 1; left < n {
			n = left
		}
		recs, err := l.s.backend.Scan(l.ctx, from, to, n)
		if err != nil {
			return err
		}
		more = len(recs) == n
		var entries []candidate
		for _, rec := range recs {
			w, err := parseWork(rec)
			if err != nil {
				return err
			}
			entries = append(entries, candidate{key: rec.Key, tomb: w.tomb, kind: w.kind, entry: true})
			from = append(slices.Clone(rec.Key), 0)
		}
		own := len(tombs)
		if more { // those further on come with the entries further on
			own = 0
			for own < len(tombs) && slices.Compare(tombs[own].key, from) < 0 {
				own++
			}
		}
		both := append(entries, tombs[:own]...)
		slices.SortStableFunc(both, func(a, b candidate) int { return slices.Compare(a.key, b.key) })
		tombs = tombs[own:]
		if err := l.candidates(both); err != nil {
			return err
		}
	}
	return nil
}

// candidates lists those whose rings still say what the entry does.
func (l *lister) candidates(list []candidate) error {
	list = slices.DeleteFunc(list, func(c candidate) bool { return !l.may(&c) })
	for len(list) > 0 {
		some := list[:min(len(list), l.limit-len(l.list)-len(l.broken)+1)]
		list = list[len(some):]
		keys := make([][]byte, len(some))
		for i := range some {
			sub := some[i].tomb.Subject
			keys[i] = l.s.layout.ringKey(l.s.layout.shard(sub), sub)
		}
		recs, err := l.s.backend.Get(l.ctx, keys)
		if err != nil {
			return err
		}
		for i, rec := range recs {
			if rec.Rev == 0 {
				continue
			}
			if err := l.add(rec, func(r *ring) bool { return l.is(r, &some[i]) }); err != nil {
				return err
			}
			l.last = some[i].key
		}
	}
	return nil
}

// may tells whether an entry is of the state that is asked for.
func (l *lister) may(c *candidate) bool {
	switch l.state {
	case StateErasing:
		return c.kind == workPending
	case StateRestricted:
		return c.kind == workRestricted
	}
	return c.kind == workDestroyed && c.tomb.Erased
}

// is tells whether a ring still is what an entry says, or has moved on.
func (l *lister) is(r *ring, c *candidate) bool {
	if r.state != l.state {
		return false
	}
	if l.state != StateErased {
		return r.entry == c.tomb.Counter
	}
	// What the current root covers is on its way from the worklist, and stands beside the
	// root; the rest does not stand there yet, or not only.
	e, page := l.fin.record, l.s.layout.page(r.shard)
	covered := e.root(e.current).covered(page, r.last.counter)
	return r.last.id == c.tomb.Event && covered != c.entry && !e.final(page, r.last.counter, e.dead(l.fin.contents))
}

// notFinal lists who is erased but not yet finally.
func (l *lister) notFinal(after []byte) error {
	if err := l.needFinality(); err != nil {
		return err
	}
	var tombs []candidate
	seen := map[EventID]bool{}
	dead := l.fin.record.dead(l.fin.contents)
	for _, t := range l.fin.contents.Tombstones {
		c := candidate{key: workKey(t.Page, t.Counter), tomb: t, kind: workDestroyed}
		if seen[t.Event] || slices.Compare(c.key, after) <= 0 || l.fin.record.final(t.Page, t.Counter, dead) {
			continue
		}
		seen[t.Event] = true
		tombs = append(tombs, c)
	}
	slices.SortFunc(tombs, func(a, b candidate) int { return slices.Compare(a.key, b.key) })
	return l.worklists(after, tombs)
}

// A cursor is a version, the state and the key of the last record, in base64url.
const cursorVersion = 1

func encodeCursor(state State, key []byte) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{cursorVersion, byte(state)}, key...))
}

func (l layout) parseCursor(state State, text string) (key []byte, err error) {
	if text == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	ok := err == nil && len(b) > 4 && b[0] == cursorVersion && State(b[1]) == state
	if ok {
		key = b[2:]
		if state == StateUnknown {
			shard, sub, isRing := splitRingKey(key)
			ok = isRing && slices.Equal(key, l.ringKey(shard, sub)) && int(shard) < l.shards
		} else {
			ok = len(key) == 10 && int(key[0]) < l.pages && slices.Equal(key, workKey(key[0], binary.BigEndian.Uint64(key[2:])))
		}
	}
	if !ok {
		return nil, fmt.Errorf("%w: this is no place to go on with the list of %s; begin at its first page",
			ErrInvalid, cmp.Or(map[State]string{StateUnknown: "everybody"}[state], "who is "+state.String()))
	}
	return key, nil
}
