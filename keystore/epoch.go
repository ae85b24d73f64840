package keystore

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"
)

const epochVersion = 1

// epochRecord says what every root is. It is the one record that decides: an advance
// begins and ends by a compare-and-swap on it.
type epochRecord struct {
	rev     Rev
	store   StoreID
	layout  layout
	grace   time.Duration
	lease   time.Duration // 0: made before others could share it, or for one process
	created time.Time
	place   Place

	epoch    uint64
	current  RootID
	advances uint64 // advances begun
	touched  []byte // the shards that the advance under way, or the last one, re-keys: a bit each
	intent   *intent
	roots    []rootInfo // current, successor, superseded; each once
	other    string     // while the root is moved: the place, besides the recorded one, that may hold roots
	extra    []byte     // sections of later versions
}

// intent is an advance that has begun: from here there is only forward.
type intent struct {
	epoch  uint64
	target RootID
}

// rootInfo is what the record knows of a root that may still live.
type rootInfo struct {
	id     RootID
	since  time.Time // superseded since; zero for the current root and the successor
	covers []uint64  // by page: erasures with a counter up to this are out of its reach; nil: none
}

func (i *rootInfo) superseded() bool { return !i.since.IsZero() }

// covered tells whether the root, if it lives, does not reach an event of a page.
func (i *rootInfo) covered(page uint8, counter uint64) bool {
	return int(page) < len(i.covers) && i.covers[page] >= counter
}

func (e *epochRecord) root(id RootID) *rootInfo {
	if i := slices.IndexFunc(e.roots, func(r rootInfo) bool { return r.id == id }); i >= 0 {
		return &e.roots[i]
	}
	return nil
}

func (e *epochRecord) clone() *epochRecord {
	c := *e
	c.touched, c.roots = slices.Clone(e.touched), slices.Clone(e.roots)
	if e.intent != nil {
		i := *e.intent
		c.intent = &i
	}
	return &c
}

func (e *epochRecord) isTouched(shard uint16) bool {
	return int(shard/8) < len(e.touched) && e.touched[shard/8]>>(shard%8)&1 == 1
}

func (e *epochRecord) countTouched() (n int) {
	for _, b := range e.touched {
		n += bits.OnesCount8(b)
	}
	return n
}

func (e *epochRecord) touch(shard uint16) {
	if len(e.touched) == 0 {
		e.touched = make([]byte, (e.layout.shards+7)/8)
	}
	e.touched[shard/8] |= 1 << (shard % 8)
}

// dead are the roots that count as destroyed: those that every mirror has confirmed,
// and none while a move is not finished, since another place may hold them, too.
func (e *epochRecord) dead(c RootContents) []RootID {
	if e.other != "" {
		return nil
	}
	return c.Destroyed
}

// final tells whether an event is out of reach of every root that may still live;
// destroyed are the roots that every mirror has confirmed destroyed.
func (e *epochRecord) final(page uint8, counter uint64, destroyed []RootID) bool {
	return !slices.ContainsFunc(e.roots, func(r rootInfo) bool {
		return !r.covered(page, counter) && !slices.Contains(destroyed, r.id)
	})
}

// finalAt is the earliest time at which an event is final; zero where that can't be told:
// an advance has yet to begin, or a move of the root to be finished.
func (e *epochRecord) finalAt(page uint8, counter uint64, c RootContents, delay time.Duration, now time.Time) (at time.Time) {
	if e.other != "" {
		return time.Time{}
	}
	for i := range e.roots {
		r := &e.roots[i]
		if r.covered(page, counter) || slices.Contains(c.Destroyed, r.id) {
			continue
		}
		if !r.superseded() {
			return time.Time{}
		}
		if due := e.dies(r, c, delay, now); due.After(at) {
			at = due
		}
	}
	return at
}

// due tells whether a root is superseded and its grace is over.
func (e *epochRecord) due(r *rootInfo, now time.Time) bool {
	return r.superseded() && !r.since.Add(e.grace).After(now)
}

// dies is the earliest time at which a superseded root is gone. Where a destruction that is
// due was not asked for yet, the delay counts from now; where there is no delay, the time
// stays what it was, and shows that it is over.
func (e *epochRecord) dies(r *rootInfo, c RootContents, delay time.Duration, now time.Time) time.Time {
	if d := c.dying(r.id); d != nil {
		return d.Until
	}
	due := r.since.Add(e.grace)
	if delay > 0 && due.Before(now) {
		due = now.UTC().Truncate(time.Second)
	}
	return due.Add(delay)
}

const (
	secStore   = 1
	secPlace   = 2
	secEpoch   = 3
	secRoots   = 4
	secTouched = 5
	secIntent  = 6
	secMove    = 7
	secLease   = 8
)

// encode writes the record, and behind it a tag made with the current root, so that
// nobody who can write to the database can have a root destroyed.
func (e *epochRecord) encode(root tink.AEAD) ([]byte, error) {
	b := []byte{epochVersion}
	p := append([]byte(nil), e.store[:]...)
	p = binary.AppendUvarint(p, uint64(e.layout.shards))
	p = binary.AppendUvarint(p, uint64(e.grace/time.Second))
	b = appendSection(b, secStore, appendTime(p, e.created))

	p = appendString(nil, e.place.URL)
	p = appendString(p, e.place.Host)
	b = appendSection(b, secPlace, appendString(p, e.place.Class))

	p = binary.AppendUvarint(nil, e.epoch)
	p = append(p, e.current[:]...)
	b = appendSection(b, secEpoch, binary.AppendUvarint(p, e.advances))

	p = binary.AppendUvarint(nil, uint64(len(e.roots)))
	for i := range e.roots {
		r := &e.roots[i]
		p = appendTime(append(p, r.id[:]...), r.since)
		p = binary.AppendUvarint(p, uint64(len(r.covers)))
		for _, c := range r.covers {
			p = binary.AppendUvarint(p, c)
		}
	}
	b = appendSection(b, secRoots, p)
	if len(e.touched) > 0 {
		b = appendSection(b, secTouched, e.touched)
	}
	if e.intent != nil {
		b = appendSection(b, secIntent, binary.AppendUvarint(slices.Clone(e.intent.target[:]), e.intent.epoch))
	}
	if e.other != "" {
		b = appendSection(b, secMove, appendString(nil, e.other))
	}
	if e.lease != 0 {
		b = appendSection(b, secLease, binary.AppendUvarint(nil, uint64(e.lease/time.Millisecond)))
	}
	b = append(b, e.extra...)
	tag, err := root.Encrypt(nil, epochAD(b))
	if err != nil {
		return nil, fmt.Errorf("authenticate the epoch record: %w", err)
	}
	return append(appendBytes(nil, b), tag...), nil
}

func epochAD(body []byte) []byte { return append([]byte("oubli epoch\x01"), body...) }

// parseEpoch reads the record without its root; check authenticates it afterwards.
func parseEpoch(rec Record) (e *epochRecord, check func(root tink.AEAD) error, err error) {
	outer := reader{b: rec.Value}
	body := outer.bytes()
	tag := outer.b
	r := reader{b: body}
	if v := r.byte(); v != epochVersion && !r.bad && !outer.bad {
		return nil, nil, fmt.Errorf("%w: epoch record of version %d; a newer oubli may read it", ErrTampered, v)
	}
	e = &epochRecord{rev: rec.Rev}
	seen := 0
	r.sections(func(sec byte, p *reader) {
		if sec <= secRoots {
			seen |= 1 << sec
		}
		switch sec {
		case secStore:
			e.store = StoreID(p.fixed(16))
			shards := p.uvarint()
			if shards == 0 || shards > maxShards || shards&(shards-1) != 0 {
				p.bad = true
				return
			}
			e.layout = newLayout(int(shards))
			e.grace = time.Duration(p.uvarint()) * time.Second
			e.created = p.time()
			p.bad = p.bad || e.grace < 0
		case secPlace:
			e.place = Place{URL: p.string(), Host: p.string(), Class: p.string()}
		case secEpoch:
			e.epoch, e.current, e.advances = p.uvarint(), RootID(p.fixed(16)), p.uvarint()
		case secRoots:
			for range p.count(18) {
				i := rootInfo{id: RootID(p.fixed(16)), since: p.time()}
				if n := p.count(1); n > 0 {
					i.covers = make([]uint64, n)
					for j := range i.covers {
						i.covers[j] = p.uvarint()
					}
				}
				e.roots = append(e.roots, i)
			}
		case secTouched:
			e.touched = slices.Clone(p.b)
			p.b = nil
		case secIntent:
			e.intent = &intent{target: RootID(p.fixed(16)), epoch: p.uvarint()}
		case secMove:
			e.other = p.string()
		case secLease:
			ms := p.uvarint()
			e.lease = time.Duration(ms) * time.Millisecond
			p.bad = p.bad || ms > uint64(maxLease/time.Millisecond) || checkLease(e.lease) != nil
		default:
			e.extra = keep(e.extra, sec, p)
		}
	})
	if err := r.end("the epoch record"); err != nil || outer.bad || seen != 1<<secStore|1<<secPlace|1<<secEpoch|1<<secRoots {
		return nil, nil, fmt.Errorf("%w: the epoch record does not parse", ErrTampered)
	}
	if e.root(e.current) == nil || e.intent != nil && e.root(e.intent.target) == nil {
		return nil, nil, fmt.Errorf("%w: the epoch record does not list its own roots", ErrTampered)
	}
	return e, func(root tink.AEAD) error {
		if _, err := root.Decrypt(tag, epochAD(body)); err != nil {
			return fmt.Errorf("%w: the epoch record does not authenticate", ErrTampered)
		}
		return nil
	}, nil
}
