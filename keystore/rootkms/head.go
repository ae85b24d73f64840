package rootkms

import (
	"slices"
	"time"

	"github.com/oubli/oubli/keystore"
)

const (
	headName  = "head"
	headMagic = "oubliKH\n"

	maxDestroyed = 1024
)

// head is the document that says what there is. Everything is decided by a
// compare-and-swap on it. Sections:
//
//	1  state: phase (1), sweeps, number of the next page, and of the first that may stand
//	2  roots: their number; each id (16), epoch, created, flags (1), key, wrapped (empty: it
//	   is dying), former keys, and times: asked, until, gone. Flags: 1 = dying,
//	   2 = doomed, 4 = scratch.
//	3  ids remembered as destroyed: their number, 16 bytes each, the latest last, at most 1024
//	4  anchor: epoch, advances, ledger size, ledger head (32), number of counters, counters
//	5  tombstones: their number, each as in a page
//	6  pages of tombstones: their number; each number, tombstones in it, SHA-256 of it (32)
type head struct {
	rev   string // as the shelf gave it; "" for one that is not written yet
	store keystore.StoreID
	phase phase

	// sweeps counts how often keys were given up to be destroyed. A service that only
	// drops its oldest versions destroys with them whatever is older, so that a key that
	// was made before a sweep, and is not in the head that began it, must not be used.
	sweeps uint64

	roots     []entry
	destroyed []keystore.RootID
	anchor    keystore.Anchor
	recent    []keystore.Tombstone // later than those in pages
	pages     []pageRef
	nextPage  uint64
	firstPage uint64 // pages below this have been deleted
	extra     []section
}

// phase is how far a root store has come.
type phase byte

const (
	standing phase = iota
	making         // Create is at work, or was stopped
	removing       // Remove has begun; no way back
)

// entry is a root that is not known to be gone.
type entry struct {
	id      keystore.RootID
	epoch   uint64
	created time.Time
	key     string   // that wraps it
	wrapped []byte   // empty when dying
	former  []string // keys that wrapped it before, and are not known to be gone
	dying   bool
	doomed  bool // a sweep has begun since it is dying: its keys may be gone
	scratch bool // of a rehearsal; nobody is told of it
	asked   time.Time
	until   time.Time // when it will be gone
	gone    time.Time // when its keys were first seen to be gone
}

// names are the keys that wrap, or wrapped, the root.
func (e *entry) names() []string { return append(slices.Clone(e.former), e.key) }

func (h *head) root(id keystore.RootID) *entry {
	if i := slices.IndexFunc(h.roots, func(e entry) bool { return e.id == id }); i >= 0 {
		return &h.roots[i]
	}
	return nil
}

// uses tells whether a key wraps, or wrapped, any root.
func (h *head) uses(key string) bool {
	return slices.ContainsFunc(h.roots, func(e entry) bool { return e.key == key || slices.Contains(e.former, key) })
}

// livingKeys are the keys that must not be destroyed.
func (h *head) livingKeys() (names []string) {
	for i := range h.roots {
		if !h.roots[i].dying {
			names = append(names, h.roots[i].key)
		}
	}
	return names
}

// deadKeys are the keys that are to be destroyed.
func (h *head) deadKeys() (names []string) {
	for i := range h.roots {
		names = append(names, h.roots[i].former...)
		if h.roots[i].dying {
			names = append(names, h.roots[i].key)
		}
	}
	return names
}

// doomedKeys are those that an earlier sweep was about.
func (h *head) doomedKeys() (names []string) {
	for i := range h.roots {
		if e := &h.roots[i]; e.doomed {
			names = append(names, e.names()...)
		} else if !e.dying {
			names = append(names, e.former...)
		}
	}
	return names
}

// spared tells whether something is dying that no sweep was about.
func (h *head) spared() bool {
	return slices.ContainsFunc(h.roots, func(e entry) bool { return e.dying && !e.doomed })
}

// doom begins a sweep for what is dying.
func (h *head) doom() {
	h.sweeps++
	for i := range h.roots {
		h.roots[i].doomed = h.roots[i].dying
	}
}

// remember adds ids to those that were destroyed.
func (h *head) remember(ids ...keystore.RootID) (news bool) {
	for _, id := range ids {
		if !slices.Contains(h.destroyed, id) {
			h.destroyed, news = append(h.destroyed, id), true
		}
	}
	h.destroyed = slices.Clone(h.destroyed[max(0, len(h.destroyed)-maxDestroyed):])
	return news
}

const (
	flagDying   = 1
	flagDoomed  = 2
	flagScratch = 4
)

func (e *entry) flags() (f byte) {
	for _, c := range []struct {
		is   bool
		flag byte
	}{{e.dying, flagDying}, {e.doomed, flagDoomed}, {e.scratch, flagScratch}} {
		if c.is {
			f |= c.flag
		}
	}
	return f
}

func (h *head) encode() []byte {
	state := appendNum(appendNum(appendNum([]byte{byte(h.phase)}, h.sweeps), h.nextPage), h.firstPage)

	roots := appendNum(nil, uint64(len(h.roots)))
	for i := range h.roots {
		e := &h.roots[i]
		roots = appendNum(append(roots, e.id[:]...), e.epoch)
		roots = append(appendTime(roots, e.created), e.flags())
		roots = appendBytes(appendText(roots, e.key), e.wrapped)
		roots = appendTexts(roots, e.former)
		for _, t := range []time.Time{e.asked, e.until, e.gone} {
			roots = appendTime(roots, t)
		}
	}

	destroyed := appendNum(nil, uint64(len(h.destroyed)))
	for _, id := range h.destroyed {
		destroyed = append(destroyed, id[:]...)
	}

	a := &h.anchor
	anchor := appendNum(appendNum(appendNum(nil, a.Epoch), a.Advances), a.LedgerSize)
	anchor = appendNum(append(anchor, a.LedgerHead[:]...), uint64(len(a.Counters)))
	for _, c := range a.Counters {
		anchor = appendNum(anchor, c)
	}

	pages := appendNum(nil, uint64(len(h.pages)))
	for _, p := range h.pages {
		pages = append(appendNum(appendNum(pages, p.number), uint64(p.count)), p.sum[:]...)
	}
	return seal(headMagic, h.store, append([]section{{1, state}, {2, roots}, {3, destroyed}, {4, anchor},
		{5, appendTombstones(nil, h.recent)}, {6, pages}}, h.extra...)...)
}

// decodeHead reads what encode wrote. The error wraps [keystore.ErrTampered].
func decodeHead(b []byte) (*head, error) {
	store, sections, err := unseal(headMagic, b)
	if err != nil {
		return nil, err
	}
	h := &head{store: store}
	var seen int
	for _, s := range sections {
		r := &reader{b: s.data}
		switch s.tag {
		case 1:
			h.phase, h.sweeps, h.nextPage, h.firstPage = phase(r.u8()), r.num(), r.num(), r.num()
			r.bad = r.bad || h.phase > removing || h.firstPage > h.nextPage
		case 2:
			h.roots = decodeEntries(r)
		case 3:
			for n := r.count(); r.more(n); n-- {
				h.destroyed = append(h.destroyed, r.id())
			}
		case 4:
			h.anchor = keystore.Anchor{Epoch: r.num(), Advances: r.num(), LedgerSize: r.num(), LedgerHead: r.sum()}
			for n := r.count(); r.more(n); n-- {
				h.anchor.Counters = append(h.anchor.Counters, r.num())
			}
		case 5:
			h.recent = decodeTombstones(r)
		case 6:
			for n := r.count(); r.more(n); n-- {
				p := pageRef{number: r.num(), count: int(min(r.num(), 1<<20)), sum: r.sum()}
				r.bad = r.bad || p.number < h.firstPage || p.number >= h.nextPage
				h.pages = append(h.pages, p)
			}
		default:
			if s.tag < optionalTag {
				return nil, newer("version (section %d)", s.tag)
			}
			h.extra = append(h.extra, section{s.tag, slices.Clone(s.data)})
			continue
		}
		if !r.done() {
			return nil, altered("section %d does not parse", s.tag)
		}
		seen++
	}
	if seen != 6 {
		return nil, altered("a section is missing")
	}
	return h, nil
}

func decodeEntries(r *reader) (out []entry) {
	for n := r.count(); r.more(n); n-- {
		e := entry{id: r.id(), epoch: r.num(), created: r.time()}
		flags := r.u8()
		e.dying, e.doomed, e.scratch = flags&flagDying != 0, flags&flagDoomed != 0, flags&flagScratch != 0
		e.key, e.wrapped, e.former = r.text(), append([]byte(nil), r.bytes()...), r.texts()
		e.asked, e.until, e.gone = r.time(), r.time(), r.time()
		again := slices.ContainsFunc(out, func(o entry) bool { return o.id == e.id })
		r.bad = r.bad || again || flags != e.flags() || e.dying != (len(e.wrapped) == 0) || e.key == ""
		out = append(out, e)
	}
	return out
}
