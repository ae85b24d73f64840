package keystore

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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
// in All. next is where the next page begins, empty if there is none: printable, encoding a
// subject's text, and ErrInvalid where it was not made by List for the same State. Each page shows what is so
// when it is read: who changes meanwhile may be missed, or, if their erasure is not final,
// whom an advance takes in just then; and nobody comes twice who stays as they are.
//
// Where a subject's record can't be read, err wraps ErrTampered and names it; list then has
// all others of the page, and next is where to go on. There is no list where the backend
// can't read, nor with other errors.
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
	ring   ring   // the one that is looked at
	last   []byte // key behind which the next page begins
}

// errPageFull says that there is more than the page takes.
var errPageFull = errors.New("the page is full")

// left is how many the page still takes.
func (l *lister) left() int { return l.limit - len(l.list) - len(l.broken) }

// everybody lists the rings behind after. It reads one more than the page takes, to know
// whether there are more.
func (l *lister) everybody(after []byte) error {
	for page := range l.s.layout.pages {
		from, to := ringRange(uint8(page))
		if len(after) > 0 {
			if page < int(after[0]) {
				continue
			}
			from, after = behind(after), nil
		}
		recs, err := l.s.backend.Scan(l.ctx, from, to, l.left()+1)
		if err != nil {
			return err
		}
		l.list = slices.Grow(l.list, min(len(recs), l.left()))
		for _, rec := range recs {
			if err := l.add(rec, nil); err != nil {
				return err
			}
			l.last = rec.Key
		}
	}
	return nil
}

// behind is the first key after key.
func behind(key []byte) []byte { return append(slices.Clone(key), 0) }

// add puts the subject of a ring on the page, if want says so.
func (l *lister) add(rec Record, want func(*ring) bool) error {
	r := &l.ring
	if err := r.decodeHeader(rec); err != nil {
		return l.addBroken(err)
	}
	if want != nil && !want(r) {
		return nil
	}
	if l.left() == 0 {
		return errPageFull
	}
	var fin finality
	if r.last.counter != 0 { // or else nothing of it was destroyed
		var err error
		if fin, err = l.finality(); err != nil {
			return err
		}
	}
	l.list = append(l.list, fin.status(l.s.layout, r))
	return nil
}

// addBroken puts a record that can't be read in somebody's place.
func (l *lister) addBroken(err error) error {
	if l.left() == 0 {
		return errPageFull
	}
	l.broken = append(l.broken, err)
	return nil
}

// finality reads the root store and the epoch record, once, and not for a page of people
// who were never erased.
func (l *lister) finality() (finality, error) {
	if l.fin == nil {
		fin, err := l.s.finality(l.ctx)
		if err != nil {
			return finality{}, err
		}
		l.fin = &fin
	}
	return *l.fin, nil
}

// candidate is an entry of a worklist, or a tombstone beside the root.
type candidate struct {
	key    []byte // of the entry, or where that of the tombstone stood
	kind   workKind
	tomb   *Tombstone
	beside bool  // a tombstone beside the root
	broken error // the entry can't be read
}

// worklists lists the subjects on the worklists behind after, and those in tombs, which are
// in the order of their keys.
func (l *lister) worklists(after []byte, tombs []candidate) error {
	for page := range l.s.layout.pages {
		from, to := workRange(uint8(page))
		if len(after) > 0 {
			if page < int(after[0]) {
				continue
			}
			from, after = behind(after), nil
		}
		n := l.left() + 1
		for more := true; more; n = min(2*n, scanBatch) { // few of the entries may be of this state
			recs, err := l.s.backend.Scan(l.ctx, from, to, n)
			if err != nil {
				return err
			}
			list := make([]candidate, len(recs))
			for i, rec := range recs {
				w, err := parseWork(rec)
				if err != nil {
					err = fmt.Errorf("%w (under %x)", err, rec.Key)
				}
				list[i] = candidate{key: rec.Key, kind: w.kind, tomb: &w.tomb, broken: err}
			}
			until := to
			if more = len(recs) == n; more {
				from = behind(recs[n-1].Key)
				until = from
			}
			own := 0
			for own < len(tombs) && bytes.Compare(tombs[own].key, until) < 0 {
				own++
			}
			list = append(list, tombs[:own]...)
			tombs = tombs[own:]
			slices.SortFunc(list, func(a, b candidate) int { return bytes.Compare(a.key, b.key) })
			if err := l.candidates(list); err != nil {
				return err
			}
		}
	}
	return nil
}

// candidates lists those whose rings say what the entries do.
func (l *lister) candidates(list []candidate) error {
	list = slices.DeleteFunc(list, func(c candidate) bool { return c.broken == nil && c.kind != l.kind() })
	for len(list) > 0 {
		some := list[:min(len(list), l.left()+1)]
		list = list[len(some):]
		keys := make([][]byte, 0, len(some))
		for i := range some {
			if sub := some[i].tomb.Subject; some[i].broken == nil {
				keys = append(keys, l.s.layout.ringKey(l.s.layout.shard(sub), sub))
			}
		}
		var recs []Record
		if len(keys) > 0 {
			var err error
			if recs, err = l.s.backend.Get(l.ctx, keys); err != nil {
				return err
			}
		}
		for i := range some {
			c, full := &some[i], l.left() == 0
			var err error
			if c.broken != nil {
				err = l.addBroken(c.broken)
			} else {
				rec := recs[0]
				if recs = recs[1:]; rec.Rev != 0 {
					err = l.add(rec, func(r *ring) bool { return l.is(r, c) })
				}
			}
			if err != nil {
				return err
			}
			if !full { // else who comes next may have the same key, beside the root
				l.last = c.key
			}
		}
	}
	return nil
}

// kind is that of the entries of the state that is asked for.
func (l *lister) kind() workKind {
	switch l.state {
	case StateErasing:
		return workPending
	case StateRestricted:
		return workRestricted
	}
	return workDestroyed
}

// is tells whether a ring still is what an entry says, or has moved on.
func (l *lister) is(r *ring, c *candidate) bool {
	if r.state != l.state || l.state != StateErased {
		return r.state == l.state && r.entry == c.tomb.Counter
	}
	// An advance puts tombstones beside the root before it covers them, and takes them off
	// the worklist afterwards: what is covered says where the last one counts.
	e, page := l.fin.record, l.s.layout.page(r.shard)
	if covered := e.root(e.current).covered(page, r.last.counter); covered != c.beside || !covered && r.last.counter != c.tomb.Counter {
		return false
	}
	return !e.final(page, r.last.counter, e.dead(l.fin.contents))
}

// notFinal lists who is erased but not yet finally.
func (l *lister) notFinal(after []byte) error {
	fin, err := l.finality()
	if err == nil {
		err = fin.away // or people would be missing without a word
	}
	if err != nil {
		return err
	}
	latest := map[Subject]*Tombstone{}
	for i := range fin.contents.Tombstones {
		t := &fin.contents.Tombstones[i]
		if o := latest[t.Subject]; o == nil || o.Counter < t.Counter {
			latest[t.Subject] = t
		}
	}
	var tombs []candidate
	for _, t := range latest {
		if key := workKey(t.Page, t.Counter); bytes.Compare(key, after) > 0 {
			tombs = append(tombs, candidate{key: key, kind: workDestroyed, tomb: t, beside: true})
		}
	}
	slices.SortFunc(tombs, func(a, b candidate) int { return bytes.Compare(a.key, b.key) })
	return l.worklists(after, tombs)
}

// A cursor is a version, the state, the key of the last record, and a checksum against cuts
// and slips, in base64url. The key may be that of a record that can't be read, and so any.
const cursorVersion = 1

func encodeCursor(state State, key []byte) string {
	b := append([]byte{cursorVersion, byte(state)}, key...)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)))
}

func (l layout) parseCursor(state State, text string) (key []byte, err error) {
	if text == "" {
		return nil, nil
	}
	kind := byte(kindWork)
	if state == StateUnknown {
		kind = kindRing
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	ok := err == nil && len(b) >= 8
	if ok {
		var sum []byte
		b, sum = b[:len(b)-4], b[len(b)-4:]
		key = b[2:]
		ok = binary.BigEndian.Uint32(sum) == crc32.ChecksumIEEE(b) && b[0] == cursorVersion && State(b[1]) == state &&
			int(key[0]) < l.pages && key[1] == kind
	}
	if !ok {
		return nil, fmt.Errorf("%w: the list does not go on from there; begin at its first page", ErrInvalid)
	}
	return key, nil
}
