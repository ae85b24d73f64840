package oracle

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/oubli/oubli/keystore"
)

// The records of a keystore, read and written from docs/format.md alone. Nothing here
// calls the package that is under test.

var errFormat = errors.New("the record does not parse")

// Layout is what the epoch record says in the clear about the whole.
type Layout struct {
	Store  keystore.StoreID
	Shards int
}

func (l Layout) perPage() int { return l.Shards / min(l.Shards, 32) }

// ParseLayout reads it from the value of an epoch record.
func ParseLayout(value []byte) (l Layout, err error) {
	outer := input{b: value}
	body := input{b: outer.take(outer.uvarint())}
	if body.byte() != 1 {
		return l, errFormat
	}
	body.sections(func(tag byte, in *input) {
		if tag == 1 {
			copy(l.Store[:], in.take(16))
			l.Shards = int(in.uvarint())
		}
	})
	if body.bad || outer.bad || l.Shards < 1 {
		return l, errFormat
	}
	return l, nil
}

// Generation is one key of a shard.
type Generation struct {
	Number uint32
	Key    keystore.Secret
}

// Page is the record of a page, opened.
type Page struct {
	Number uint8
	Epoch  uint64
	Root   keystore.RootID
	Shards [][]Generation // from the page's first shard on
}

func (l Layout) pageAD(p *Page) []byte {
	b := slices.Concat([]byte("oubli page\x01"), l.Store[:], []byte{1, 1, p.Number})
	return append(binary.BigEndian.AppendUint64(b, p.Epoch), p.Root[:]...)
}

// OpenPage opens the record of a page with a root key.
func (l Layout) OpenPage(number uint8, value []byte, root keystore.Secret) (*Page, error) {
	in := input{b: value}
	if version, kind := in.byte(), in.byte(); version != 1 || kind != 1 {
		return nil, errFormat
	}
	p := &Page{Number: number, Epoch: in.uvarint()}
	copy(p.Root[:], in.take(16))
	plain, err := unwrap(root, in.b, l.pageAD(p))
	if err != nil || in.bad {
		return nil, errors.Join(err, errFormat)
	}
	in = input{b: plain}
	for range l.perPage() {
		var gens []Generation
		for range in.byte() {
			g := Generation{Number: uint32(in.uvarint())}
			copy(g.Key[:], in.take(32))
			gens = append(gens, g)
		}
		p.Shards = append(p.Shards, gens)
	}
	if in.bad || len(in.b) > 0 {
		return nil, errFormat
	}
	return p, nil
}

// SealPage is the reverse of OpenPage.
func (l Layout) SealPage(p *Page, root keystore.Secret) []byte {
	var plain []byte
	for _, gens := range p.Shards {
		plain = append(plain, byte(len(gens)))
		for _, g := range gens {
			plain = append(binary.AppendUvarint(plain, uint64(g.Number)), g.Key[:]...)
		}
	}
	b := append(binary.AppendUvarint([]byte{1, 1}, p.Epoch), p.Root[:]...)
	return append(b, wrap(root, plain, l.pageAD(p))...)
}

// Ring is the record of a subject, opened.
type Ring struct {
	Subject    string
	Shard      uint16
	State      byte
	Generation uint32
	Clear      []byte // the part that stands unencrypted
	Keys       []DataKey
	rest       []byte // the wrapped sections behind the keys
}

// DataKey is one of a subject's keys.
type DataKey struct {
	ID      uint32
	Purpose string
	Created uint64
	Key     keystore.Secret
}

func (l Layout) ringAD(r *Ring) []byte {
	b := slices.Concat([]byte("oubli ring\x01"), l.Store[:])
	b = appendText(b, []byte(r.Subject))
	b = binary.BigEndian.AppendUint16(b, r.Shard)
	b = binary.BigEndian.AppendUint32(b, r.Generation)
	return appendText(append(b, r.State, 1), r.Clear)
}

// OpenRing opens the record under key with the key of a shard.
func (l Layout) OpenRing(key, value []byte, shardKey keystore.Secret) (*Ring, error) {
	if len(key) < 6 {
		return nil, errFormat
	}
	in := input{b: value}
	if in.byte() != 1 {
		return nil, errFormat
	}
	r := &Ring{Subject: string(key[4:]), Shard: binary.BigEndian.Uint16(key[2:4]), State: in.byte(), Generation: uint32(in.uvarint())}
	r.Clear = in.take(in.uvarint())
	plain, err := unwrap(shardKey, in.b, l.ringAD(r))
	if err != nil || in.bad {
		return nil, errors.Join(err, errFormat)
	}
	in = input{b: plain}
	in.sections(func(tag byte, s *input) {
		if tag != 1 {
			r.rest = appendText(append(r.rest, tag), s.b)
			return
		}
		for range s.uvarint() {
			k := DataKey{ID: binary.BigEndian.Uint32(s.take(4))}
			k.Purpose, k.Created = string(s.take(s.uvarint())), s.uvarint()
			copy(k.Key[:], s.take(32))
			if r.Keys = append(r.Keys, k); s.bad {
				return
			}
		}
	})
	if in.bad {
		return nil, errFormat
	}
	return r, nil
}

// SealRing is the reverse of OpenRing.
func (l Layout) SealRing(r *Ring, shardKey keystore.Secret) []byte {
	var plain []byte
	if len(r.Keys) > 0 {
		s := binary.AppendUvarint(nil, uint64(len(r.Keys)))
		for _, k := range r.Keys {
			s = appendText(binary.BigEndian.AppendUint32(s, k.ID), []byte(k.Purpose))
			s = append(binary.AppendUvarint(s, k.Created), k.Key[:]...)
		}
		plain = appendText([]byte{1}, s)
	}
	b := binary.AppendUvarint([]byte{1, r.State}, uint64(r.Generation))
	return append(appendText(b, r.Clear), wrap(shardKey, append(plain, r.rest...), l.ringAD(r))...)
}

// AES-256-GCM: a nonce of 12 bytes, the ciphertext, a tag of 16 bytes.

// GCM returns the AEAD of a key.
func GCM(key keystore.Secret) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the length is right
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return a
}

func wrap(key keystore.Secret, plain, ad []byte) []byte {
	nonce := make([]byte, 12)
	rand.Read(nonce)
	return GCM(key).Seal(nonce, nonce, plain, ad)
}

func unwrap(key keystore.Secret, sealed, ad []byte) ([]byte, error) {
	if len(sealed) < 12 {
		return nil, errFormat
	}
	return GCM(key).Open(nil, sealed[:12], sealed[12:], ad)
}

func appendText(b, text []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// input takes bytes apart; after the first mistake it returns zeros.
type input struct {
	b   []byte
	bad bool
}

func (in *input) take(n uint64) []byte {
	if in.bad || n > uint64(len(in.b)) {
		in.bad, in.b = true, nil
		return make([]byte, min(n, 32))
	}
	p := in.b[:n:n]
	in.b = in.b[n:]
	return p
}

func (in *input) byte() byte { return in.take(1)[0] }

func (in *input) uvarint() uint64 {
	v, n := binary.Uvarint(in.b)
	if n <= 0 {
		in.bad, in.b = true, nil
		return 0
	}
	in.b = in.b[n:]
	return v
}

func (in *input) sections(f func(tag byte, s *input)) {
	for !in.bad && len(in.b) > 0 {
		tag := in.byte()
		s := input{b: in.take(in.uvarint())}
		if f(tag, &s); s.bad {
			in.bad = true
		}
	}
}
