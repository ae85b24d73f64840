package rootkms

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/oubli/oubli/keystore"
)

// Tombstones stand in the head until they are many; then they go to a page of their own,
// which never changes. A page has its number in the head before anybody reads it, and
// numbers are never given out twice.
const (
	pageMagic = "oubliKT\n"
	recentMax = 32 << 10  // bytes of tombstones in the head
	pageMax   = 128 << 10 // bytes of tombstones in a page
)

// page holds tombstones. Sections: 1, its number; 2, the tombstones.
type page []keystore.Tombstone

// pageRef names a page as it must be.
type pageRef struct {
	number uint64
	count  int
	sum    [sha256.Size]byte
}

func pageName(number uint64) string { return "tombstones-" + strconv.FormatUint(number, 10) }

func encodePage(store keystore.StoreID, number uint64, ts []keystore.Tombstone) []byte {
	return seal(pageMagic, store, section{1, appendNum(nil, number)}, section{2, appendTombstones(nil, ts)})
}

// decodePage reads the page that ref names.
func decodePage(b []byte, store keystore.StoreID, ref pageRef) (page, error) {
	is, sections, err := unseal(pageMagic, b)
	if err != nil {
		return nil, err
	}
	if is != store || sha256.Sum256(b) != ref.sum || len(sections) != 2 || sections[0].tag != 1 || sections[1].tag != 2 {
		return nil, altered("it is not the page that the head names")
	}
	number, r := &reader{b: sections[0].data}, &reader{b: sections[1].data}
	p := page(decodeTombstones(r))
	if number.num() != ref.number || !number.done() || !r.done() || len(p) != ref.count {
		return nil, altered("it does not parse")
	}
	return p, nil
}

// A tombstone is: event (16), page (1), counter, time (seconds, and nanoseconds), whether
// the whole subject is erased (1), subject, number of keys, key ids, purposes kept, purposes
// withdrawn. A list of them has their number in front.
func appendTombstones(b []byte, ts []keystore.Tombstone) []byte {
	b = appendNum(b, uint64(len(ts)))
	for i := range ts {
		b = appendTombstone(b, &ts[i])
	}
	return b
}

func appendTombstone(b []byte, t *keystore.Tombstone) []byte {
	b = append(append(b, t.Event[:]...), t.Page)
	b = appendNum(appendNum(b, t.Counter), uint64(t.At.Unix()))
	b = appendFlag(appendNum(b, uint64(t.At.Nanosecond())), t.Erased)
	b = appendNum(appendText(b, t.Subject.String()), uint64(len(t.Keys)))
	for _, k := range t.Keys {
		b = appendNum(b, uint64(k))
	}
	return appendTexts(appendTexts(b, t.Keep), t.Gone)
}

func decodeTombstones(r *reader) (out []keystore.Tombstone) {
	for n := r.count(); r.more(n); n-- {
		t := keystore.Tombstone{Event: r.id(), Page: r.u8(), Counter: r.num()}
		sec, nsec := r.num(), r.num()
		t.At = time.Unix(int64(sec), int64(nsec)).UTC()
		t.Erased = r.flag()
		subject, err := keystore.ParseSubject(r.text(), keystore.AllowAt())
		t.Subject = subject
		for n := r.count(); r.more(n); n-- {
			k := r.num()
			r.bad = r.bad || k > 1<<32-1
			t.Keys = append(t.Keys, uint32(k))
		}
		t.Keep, t.Gone = r.texts(), r.texts()
		r.bad = r.bad || err != nil || nsec >= 1e9 || t.Event == keystore.EventID{}
		out = append(out, t)
	}
	return out
}

// tombstones returns all that h names, oldest first.
func (s *Store) tombstones(ctx context.Context, h *head) ([]keystore.Tombstone, error) {
	pages, err := s.readPages(ctx, h)
	if err != nil {
		return nil, err
	}
	var out []keystore.Tombstone
	for _, p := range pages {
		out = append(out, p...)
	}
	return append(out, h.recent...), nil
}

// readPages reads the pages that h names, but for those that were read before.
func (s *Store) readPages(ctx context.Context, h *head) ([]page, error) {
	s.mu.Lock()
	known := s.pages
	s.mu.Unlock()
	var out []page
	now := make(map[pageRef]page, len(h.pages))
	for _, ref := range h.pages {
		p, ok := known[ref]
		if !ok {
			name := pageName(ref.number)
			b, rev, err := s.shelf.Get(ctx, name)
			if err != nil {
				return nil, err
			}
			if rev == "" {
				return nil, altered("%s: %s, which %s names, is not there", s.shelf.Name(), name, headName)
			}
			if p, err = decodePage(b, h.store, ref); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", s.shelf.Name(), name, err)
			}
		}
		now[ref] = p
		out = append(out, p)
	}
	s.mu.Lock()
	s.pages = now
	s.mu.Unlock()
	return out, nil
}

// add puts tombstones behind those that h has, each event once, and writes pages where
// they get too many. The head that names the pages is yet to be written.
func (s *Store) add(ctx context.Context, h *head, ts []keystore.Tombstone) error {
	have, err := s.tombstones(ctx, h)
	if err != nil {
		return err
	}
	known := make(map[keystore.EventID]bool, len(have))
	for i := range have {
		known[have[i].Event] = true
	}
	for _, t := range ts {
		if !known[t.Event] {
			known[t.Event] = true
			h.recent = append(h.recent, t)
		}
	}
	return s.spill(ctx, h)
}

// spill writes pages until the rest fits in the head.
func (s *Store) spill(ctx context.Context, h *head) error {
	sizes, total := make([]int, len(h.recent)), 0
	for i := range h.recent {
		sizes[i] = len(appendTombstone(nil, &h.recent[i]))
		total += sizes[i]
	}
	if total <= recentMax {
		return nil
	}
	for len(h.recent) > 0 {
		n, size := 0, 0
		for n < len(h.recent) && (n == 0 || size+sizes[n] <= pageMax) {
			size += sizes[n]
			n++
		}
		if err := s.writePage(ctx, h, h.recent[:n]); err != nil {
			return err
		}
		h.recent, sizes = h.recent[n:], sizes[n:]
	}
	return nil
}

// writePage writes a page under the next free number. A page that stands there already
// is of somebody who died, or who works at this moment: the head decides between us, and
// a number that is in no head is nobody's. Many that died leave so many pages that the head
// is told to look past them; then it is to be read again, as after a conflict.
func (s *Store) writePage(ctx context.Context, h *head, ts []keystore.Tombstone) error {
	for range tries {
		number := h.nextPage
		h.nextPage++
		b := encodePage(h.store, number, ts)
		_, err := s.shelf.Put(ctx, pageName(number), b, "")
		if errors.Is(err, keystore.ErrConflict) {
			continue
		}
		if err == nil {
			h.pages = append(h.pages, pageRef{number: number, count: len(ts), sum: sha256.Sum256(b)})
		}
		return err
	}
	past := h.nextPage
	err := s.change(ctx, "look past pages that nobody named", func(h *head) (bool, error) {
		changed := h.nextPage < past
		h.nextPage = max(h.nextPage, past)
		return changed, nil
	})
	if err == nil {
		err = keystore.ErrConflict
	}
	return fmt.Errorf("%s: the next free number for a page of tombstones: %w", s.shelf.Name(), err)
}

// checkTombstones refuses what could be written but not read again.
func checkTombstones(ts []keystore.Tombstone) error {
	for i := range ts {
		b := appendTombstones(nil, ts[i:i+1])
		r := &reader{b: b}
		if decodeTombstones(r); !r.done() || len(b) > pageMax {
			return fmt.Errorf("tombstone of %q, event %s: %w: it has no event, no subject or too long a list", ts[i].Subject, ts[i].Event, keystore.ErrInvalid)
		}
	}
	return nil
}

// Raise implements [keystore.RootStore]: one read and one write of the head.
func (s *Store) Raise(ctx context.Context, a keystore.Anchor, ts []keystore.Tombstone) error {
	if err := checkTombstones(ts); err != nil {
		return err
	}
	return s.change(ctx, "raise the anchor", func(h *head) (bool, error) {
		h.anchor = h.anchor.Higher(a)
		return true, s.add(ctx, h, ts)
	})
}

// Trim implements [keystore.RootStore]. Pages go when all they hold may go. From the first
// one on of which half may go, what is left is written anew; until then a page keeps what
// may go, which does no harm.
func (s *Store) Trim(ctx context.Context, final func(keystore.Tombstone) bool) error {
	var garbage []uint64
	err := s.change(ctx, "trim the tombstones", func(h *head) (bool, error) {
		garbage = nil
		pages, err := s.readPages(ctx, h)
		if err != nil {
			return false, err
		}
		var stay []pageRef
		var rest []keystore.Tombstone
		thin := false
		for i, p := range pages {
			left := slices.DeleteFunc(slices.Clone(p), final)
			if thin = thin || len(left) > 0 && 2*len(left) <= len(p); thin {
				rest = append(rest, left...)
			} else if len(left) > 0 {
				stay = append(stay, h.pages[i])
			}
		}
		recent := slices.DeleteFunc(slices.Clone(h.recent), final)
		changed := len(stay) < len(h.pages) || len(recent) < len(h.recent)
		h.pages, h.recent = stay, append(rest, recent...)
		if err := s.spill(ctx, h); err != nil {
			return false, err
		}
		for n := h.firstPage; n < h.nextPage; n++ {
			if !slices.ContainsFunc(h.pages, func(p pageRef) bool { return p.number == n }) {
				garbage = append(garbage, n)
			}
		}
		return changed, nil
	})
	if err != nil || len(garbage) == 0 {
		return err
	}
	for _, n := range garbage { // no head names them, nor will
		if err := s.dropPage(ctx, n); err != nil {
			return err
		}
	}
	return s.change(ctx, "trim the tombstones", func(h *head) (bool, error) {
		first := h.nextPage
		for _, p := range h.pages {
			first = min(first, p.number)
		}
		if len(h.pages) == 0 { // what was written since garbage was listed is looked at next time
			first = min(first, garbage[len(garbage)-1]+1)
		}
		changed := first > h.firstPage
		h.firstPage = max(first, h.firstPage)
		return changed, nil
	})
}

// dropPage deletes a page, if it is there.
func (s *Store) dropPage(ctx context.Context, number uint64) error {
	name := pageName(number)
	_, rev, err := s.shelf.Get(ctx, name)
	if err == nil && rev != "" {
		err = s.shelf.Delete(ctx, name, rev)
	}
	return err
}
