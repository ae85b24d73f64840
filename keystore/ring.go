package keystore

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"
)

const ringVersion = 1

// ring is one subject's record, opened.
type ring struct {
	subject Subject
	shard   uint16
	gen     uint32 // the shard key's generation that wraps it
	rev     Rev    // 0: there is no record yet

	state State
	clearPart
	keys    []ringKey // in the order in which they were made: the last of a purpose is primary
	dropped []droppedKey
	gone    []string // withdrawn purposes
	extra   []byte   // sections of later versions, wrapped with the keys
}

// clearPart stands unencrypted beside the wrapped keys, and is authenticated with them.
type clearPart struct {
	purposes []string // restricted: listed purposes
	kept     bool     // restricted by an erasure that kept these purposes
	hold     string
	journal  *Journal
	entry    uint64 // the counter of this subject's entry on the worklist, 0 if none
	last     event  // the last destruction
	history  []byte // as stored: few who open a ring look at it; see changes and enter
	extra    []byte // sections of later versions
}

// event is a destruction of keys; the page's counter orders it.
type event struct {
	id      EventID
	counter uint64
}

type ringKey struct {
	id      uint32
	purpose string
	created int64 // Unix seconds
	key     Secret
}

type droppedKey struct {
	id     uint32
	erased bool // with the whole subject, as against its purpose alone
}

// knows tells whether id is or was a key of this ring.
func (r *ring) knows(id uint32) bool {
	return slices.ContainsFunc(r.keys, func(k ringKey) bool { return k.id == id }) ||
		slices.ContainsFunc(r.dropped, func(d droppedKey) bool { return d.id == id })
}

func (r *ring) has(purpose string) bool {
	return slices.ContainsFunc(r.keys, func(k ringKey) bool { return k.purpose == purpose })
}

func (r *ring) withdrawn(purpose string) bool {
	return slices.Contains(r.gone, purpose) || r.kept && !slices.Contains(r.purposes, purpose)
}

// addKey gives the ring a new primary key for a purpose.
func (r *ring) addKey(purpose string, now time.Time) {
	r.keys = append(r.keys, ringKey{id: newKeyID(r.knows), purpose: purpose, created: now.Unix(), key: newSecret()})
}

// drop destroys the keys for which which says true, and returns their ids.
func (r *ring) drop(erased bool, which func(ringKey) bool) (ids []uint32) {
	r.keys = slices.DeleteFunc(slices.Clone(r.keys), func(k ringKey) bool {
		if which(k) {
			ids = append(ids, k.id)
			r.dropped = append(r.dropped, droppedKey{id: k.id, erased: erased})
			return true
		}
		return false
	})
	return ids
}

// sections of the clear part, and of the wrapped part.
const (
	secRestriction = 1
	secJournal     = 2
	secEntry       = 3
	secLast        = 4
	secHistory     = 5

	secKeys    = 1
	secDropped = 2
	secGone    = 3
)

func (c *clearPart) encode() []byte {
	var b []byte
	if len(c.purposes) > 0 || c.kept || c.hold != "" {
		p := append([]byte(nil), boolByte(c.kept))
		p = appendString(appendStrings(p, c.purposes), c.hold)
		b = appendSection(b, secRestriction, p)
	}
	if j := c.journal; j != nil {
		p := append([]byte(nil), j.Event[:]...)
		p = append(p, byte(j.before), boolByte(j.Blanking))
		p = appendTime(appendTime(p, j.Requested), j.Destroyed)
		p = appendString(p, j.Actor)
		p = appendStrings(appendStrings(appendStrings(p, j.Receivers), j.Acked), j.Keep)
		p = appendTime(appendString(p, j.Claim), j.ClaimUntil)
		b = appendSection(b, secJournal, p)
	}
	if c.entry != 0 {
		b = appendSection(b, secEntry, binary.AppendUvarint(nil, c.entry))
	}
	if c.last.counter != 0 {
		b = appendSection(b, secLast, binary.AppendUvarint(c.last.id[:len(c.last.id):len(c.last.id)], c.last.counter))
	}
	if len(c.history) > 0 {
		b = appendSection(b, secHistory, c.history)
	}
	return append(b, c.extra...)
}

func (c *clearPart) decode(b []byte) error {
	r := reader{b: b}
	r.sections(func(tag byte, p *reader) {
		switch tag {
		case secRestriction:
			c.kept = p.byte() == 1
			c.purposes, c.hold = p.strings(), p.string()
		case secJournal:
			j := &Journal{Event: EventID(p.fixed(16)), before: State(p.byte()), Blanking: p.byte() == 1}
			j.Requested, j.Destroyed = p.time(), p.time()
			j.Actor = p.string()
			j.Receivers, j.Acked, j.Keep = p.strings(), p.strings(), p.strings()
			j.Claim, j.ClaimUntil = p.string(), p.time()
			c.journal = j
		case secEntry:
			c.entry = p.uvarint()
		case secLast:
			c.last = event{id: EventID(p.fixed(16)), counter: p.uvarint()}
		case secHistory:
			for c.history = p.b; p.change(nil); {
			}
		default:
			c.extra = keep(c.extra, tag, p)
		}
	})
	return r.end("the journal")
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// ringHeader is what can be read of a ring without its shard's key.
type ringHeader struct {
	state  State
	gen    uint32
	clear  []byte
	sealed []byte
}

func parseRingHeader(value []byte) (h ringHeader, err error) {
	r := reader{b: value}
	if v := r.byte(); v != ringVersion && !r.bad {
		return h, fmt.Errorf("%w: ring of version %d; a newer oubli may read it", ErrTampered, v)
	}
	h.state, h.gen = State(r.byte()), r.uint32()
	h.clear = r.bytes()
	h.sealed, r.b = r.b, nil
	if h.state == StateUnknown || h.state > StateErased {
		r.bad = true
	}
	return h, r.end("ring")
}

// ringAD binds a ring to its place: nobody can move it to another subject, shard,
// generation, state or journal.
func ringAD(store StoreID, s Subject, shard uint16, gen uint32, state State, clear []byte) []byte {
	b := make([]byte, 0, 64+len(s.text)+len(clear))
	b = append(b, "oubli ring\x01"...)
	b = append(b, store[:]...)
	b = appendString(b, s.text)
	b = binary.BigEndian.AppendUint16(b, shard)
	b = binary.BigEndian.AppendUint32(b, gen)
	b = append(b, byte(state), ringVersion)
	return appendBytes(b, clear)
}

// seal encodes the ring and wraps its keys under the shard key key of generation gen.
func (r *ring) seal(store StoreID, gen uint32, key tink.AEAD) ([]byte, error) {
	b := make([]byte, 0, 64+64*len(r.keys)+8*len(r.dropped))
	if len(r.keys) > 0 {
		p := make([]byte, 0, 48*len(r.keys)+4)
		p = binary.AppendUvarint(p, uint64(len(r.keys)))
		for i := range r.keys {
			k := &r.keys[i]
			p = binary.BigEndian.AppendUint32(p, k.id)
			p = binary.AppendUvarint(appendString(p, k.purpose), uint64(k.created))
			p = append(p, k.key[:]...)
		}
		b = appendSection(b, secKeys, p)
	}
	if len(r.dropped) > 0 {
		p := binary.AppendUvarint(nil, uint64(len(r.dropped)))
		for _, d := range r.dropped {
			p = append(binary.BigEndian.AppendUint32(p, d.id), boolByte(d.erased))
		}
		b = appendSection(b, secDropped, p)
	}
	if len(r.gone) > 0 {
		b = appendSection(b, secGone, appendStrings(nil, r.gone))
	}
	b = append(b, r.extra...)
	clear := r.clearPart.encode()
	return wrapRing(store, r.subject, r.shard, gen, key, r.state, clear, b)
}

func wrapRing(store StoreID, s Subject, shard uint16, gen uint32, key tink.AEAD, state State, clear, plain []byte) ([]byte, error) {
	sealed, err := key.Encrypt(plain, ringAD(store, s, shard, gen, state, clear))
	if err != nil {
		return nil, fmt.Errorf("wrap the ring of %s: %w", s, err)
	}
	v := make([]byte, 0, 12+len(clear)+len(sealed))
	v = binary.AppendUvarint(append(v, ringVersion, byte(state)), uint64(gen))
	return append(appendBytes(v, clear), sealed...), nil
}

// unwrap returns the ring's wrapped part.
func (h ringHeader) unwrap(store StoreID, s Subject, shard uint16, key tink.AEAD) ([]byte, error) {
	plain, err := key.Decrypt(h.sealed, ringAD(store, s, shard, h.gen, h.state, h.clear))
	if err != nil {
		return nil, fmt.Errorf("%w: the ring of %s does not authenticate", ErrTampered, s)
	}
	return plain, nil
}

// openRing is the reverse of seal.
func openRing(store StoreID, s Subject, shard uint16, rec Record, key tink.AEAD) (*ring, error) {
	h, err := parseRingHeader(rec.Value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	plain, err := h.unwrap(store, s, shard, key)
	if err != nil {
		return nil, err
	}
	r := &ring{subject: s, shard: shard, gen: h.gen, rev: rec.Rev, state: h.state}
	if len(h.clear) > 0 {
		if err := r.clearPart.decode(h.clear); err != nil {
			return nil, fmt.Errorf("%s: %w", s, err)
		}
	}
	if err := r.decodeKeys(plain); err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	return r, nil
}

func (r *ring) decodeKeys(plain []byte) error {
	d := reader{b: plain}
	d.sections(func(tag byte, p *reader) {
		switch tag {
		case secKeys:
			n := p.count(38)
			r.keys = make([]ringKey, n)
			for i := range r.keys {
				k := &r.keys[i]
				k.id = binary.BigEndian.Uint32(p.fixed(4))
				k.purpose, k.created = p.string(), int64(p.uvarint())
				copy(k.key[:], p.fixed(32))
				if k.id == 0 {
					p.bad = true
				}
			}
		case secDropped:
			n := p.count(5)
			r.dropped = make([]droppedKey, n)
			for i := range r.dropped {
				r.dropped[i] = droppedKey{id: binary.BigEndian.Uint32(p.fixed(4)), erased: p.byte() == 1}
			}
		case secGone:
			r.gone = p.strings()
		default:
			r.extra = keep(r.extra, tag, p)
		}
	})
	return d.end("ring")
}
