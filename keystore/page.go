package keystore

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/tink"
)

const (
	pageVersion = 1

	// pageShards is the kind of a page that holds shard keys, the only one so far. It
	// stands in the page and in its associated data, so that others can join.
	pageShards = 1
)

// page is the shard keys of a range of shards, opened. It is immutable; changes make
// a new one.
type page struct {
	number uint8
	epoch  uint64
	root   RootID
	rev    Rev
	first  uint16
	gens   [][]generation // by shard - first; one generation, or two in a re-key, the newest last

	ready []readyAEADs // by shard - first; made when first asked for
}

// readyAEADs are those of a shard's generations: of two, the numbers are consecutive, so
// that one is even and the other odd.
type readyAEADs [2]atomic.Pointer[readyAEAD]

type readyAEAD struct {
	gen  uint32
	aead tink.AEAD
}

type generation struct {
	gen uint32
	key Secret
}

func (p *page) newest(shard uint16) generation {
	g := p.gens[shard-p.first]
	return g[len(g)-1]
}

// aead returns the AEAD of a generation of a shard; ok is false if the page does not hold it.
func (p *page) aead(shard uint16, gen uint32) (a tink.AEAD, ok bool, err error) {
	i := shard - p.first
	slot := &p.ready[i][gen%2]
	if r := slot.Load(); r != nil && r.gen == gen {
		return r.aead, true, nil
	}
	for n := range p.gens[i] {
		g := &p.gens[i][n]
		if g.gen == gen {
			if a, err = newAEAD(&g.key); err != nil {
				return nil, true, err
			}
			slot.Store(&readyAEAD{gen: gen, aead: a})
			return a, true, nil
		}
	}
	return nil, false, nil
}

// sealer returns the newest generation of a shard, which is what all writers use.
func (p *page) sealer(shard uint16) (gen uint32, a tink.AEAD, err error) {
	gen = p.newest(shard).gen
	a, _, err = p.aead(shard, gen)
	return gen, a, err
}

// with returns a copy whose shards in fresh have another generation on top.
func (p *page) with(fresh map[uint16]generation) *page {
	c := p.copy()
	for shard, g := range fresh {
		i := shard - p.first
		c.gens[i] = append(slices.Clone(c.gens[i]), g)
	}
	return c
}

// newestOnly returns a copy without the older generations, for another root.
func (p *page) newestOnly(epoch uint64, root RootID) *page {
	c := p.copy()
	c.epoch, c.root = epoch, root
	for i, g := range c.gens {
		if len(g) > 1 {
			c.gens[i] = g[len(g)-1:]
			c.ready[i][g[0].gen%2].Store(nil)
		}
	}
	return c
}

func (p *page) copy() *page {
	c := &page{number: p.number, epoch: p.epoch, root: p.root, first: p.first,
		gens: slices.Clone(p.gens), ready: make([]readyAEADs, len(p.gens))}
	for i := range p.ready {
		c.ready[i][0].Store(p.ready[i][0].Load())
		c.ready[i][1].Store(p.ready[i][1].Load())
	}
	return c
}

// rekeying tells whether some shard has two generations.
func (p *page) rekeying() bool {
	return slices.ContainsFunc(p.gens, func(g []generation) bool { return len(g) > 1 })
}

func newPage(l layout, number uint8, epoch uint64, root RootID) *page {
	p := &page{number: number, epoch: epoch, root: root, first: l.firstShard(number),
		gens: make([][]generation, l.perPage()), ready: make([]readyAEADs, l.perPage())}
	for i := range p.gens {
		p.gens[i] = []generation{{gen: 1, key: newSecret()}}
	}
	return p
}

func pageAD(store StoreID, number uint8, epoch uint64, root RootID) []byte {
	b := append([]byte(nil), "oubli page\x01"...)
	b = append(b, store[:]...)
	b = append(b, pageVersion, pageShards, number)
	b = binary.BigEndian.AppendUint64(b, epoch)
	return append(b, root[:]...)
}

// seal encodes the page and wraps it under its root.
func (p *page) seal(store StoreID, root tink.AEAD) ([]byte, error) {
	plain := make([]byte, 0, 40*len(p.gens))
	for _, gens := range p.gens {
		plain = append(plain, byte(len(gens)))
		for i := range gens {
			plain = binary.AppendUvarint(plain, uint64(gens[i].gen))
			plain = append(plain, gens[i].key[:]...)
		}
	}
	sealed, err := root.Encrypt(plain, pageAD(store, p.number, p.epoch, p.root))
	if err != nil {
		return nil, fmt.Errorf("wrap page %d: %w", p.number, err)
	}
	v := append(make([]byte, 0, 64+len(sealed)), pageVersion, pageShards)
	v = binary.AppendUvarint(v, p.epoch)
	return append(append(v, p.root[:]...), sealed...), nil
}

// pageHeader is what can be read of a page without its root.
type pageHeader struct {
	epoch  uint64
	root   RootID
	sealed []byte
}

func parsePageHeader(number uint8, value []byte) (h pageHeader, err error) {
	r := reader{b: value}
	version, kind := r.byte(), r.byte()
	if !r.bad && (version != pageVersion || kind != pageShards) {
		return h, fmt.Errorf("%w: page %d has version %d and kind %d; a newer oubli may read it", ErrTampered, number, version, kind)
	}
	h.epoch = r.uvarint()
	h.root = RootID(r.fixed(16))
	h.sealed, r.b = r.b, nil
	return h, r.end(fmt.Sprintf("page %d", number))
}

func (h pageHeader) open(store StoreID, l layout, number uint8, rev Rev, root tink.AEAD) (*page, error) {
	plain, err := root.Decrypt(h.sealed, pageAD(store, number, h.epoch, h.root))
	if err != nil {
		return nil, fmt.Errorf("%w: page %d does not authenticate under root %s", ErrTampered, number, h.root)
	}
	p := &page{number: number, epoch: h.epoch, root: h.root, rev: rev, first: l.firstShard(number),
		gens: make([][]generation, l.perPage()), ready: make([]readyAEADs, l.perPage())}
	r := reader{b: plain}
	for i := range p.gens {
		n := int(r.byte())
		if n < 1 || n > 2 {
			r.bad = true
			break
		}
		g := make([]generation, n)
		for j := range g {
			g[j].gen = r.uint32()
			copy(g[j].key[:], r.fixed(32))
		}
		p.gens[i] = g
	}
	return p, r.end(fmt.Sprintf("page %d", number))
}
