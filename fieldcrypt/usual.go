package fieldcrypt

import (
	"crypto/cipher"
	"crypto/rand"
	"reflect"
	"unsafe"

	"github.com/oubli/oubli/keystore"
)

// The usual row: its personal fields stand in place and directly in the struct, and its
// person is active. It is sealed and opened here in one pass, without the slots of the
// general way, which took twice as long; docs/decisions.md has the figures. Whatever is
// not usual, errors included, makes these functions return false with nothing changed,
// and the general way decides.

// Fields are reached by their offset, which reflection gave when the tags were read:
// the fields of a direct plan have an underlying type of string, *string or []byte.

// span is a part of a buffer.
type span struct{ from, to int }

var absent = span{-1, -1}

// openUsual opens a row in place.
func (p *plan) openUsual(sc *scratch, row reflect.Value, keys keystore.Keys) bool {
	if !p.direct || keys.State() != keystore.StateActive || !p.beginUsual(sc, row, keys) {
		return false
	}
	at, rowAAD := row.Addr().UnsafePointer(), len(sc.aad)
	var bytes []byte // leaves with the row, so its memory is new
	if p.inBytes {
		n := 0
		for i := range p.fields {
			if f := &p.fields[i]; f.kind == kindBytes {
				_, data, _ := inPlace(f, at)
				n += max(0, len(data)-Overhead)
			}
		}
		bytes = make([]byte, 0, n)
	}
	sc.plain, sc.spans = sc.plain[:0], sc.spans[:0]
	var last uint32
	var purpose string
	var aead cipher.AEAD
	opened := false
	for i := range p.fields {
		f := &p.fields[i]
		text, envelope, _ := inPlace(f, at)
		if len(text)+len(envelope) == 0 {
			sc.spans = append(sc.spans, absent)
			continue
		}
		var err error
		if f.kind != kindBytes {
			if sc.bin, err = appendBinary(sc.bin[:0], text); err != nil {
				return false
			}
			envelope = sc.bin
		}
		id, nonce, ciphertext, err := parseSealed(envelope)
		if err != nil {
			return false
		}
		if id != last {
			if purpose, aead, err = keys.Key(id); err != nil {
				return false
			}
			last = id
		}
		if purpose != f.Purpose {
			return false
		}
		setAADHeader(sc.aad, envelope)
		sc.aad = append(sc.aad[:rowAAD], f.suffix...)
		dst := sc.plain
		if f.kind == kindBytes {
			dst = bytes
		}
		from := len(dst)
		if dst, err = aead.Open(dst, nonce, ciphertext, sc.aad); err != nil {
			return false
		}
		sc.spans = append(sc.spans, span{from, len(dst)})
		if f.kind == kindBytes {
			bytes = dst
		} else {
			sc.plain = dst
		}
		opened = true
	}
	if !opened || !keys.Fresh() {
		return false
	}
	p.storeUsual(sc, at, bytes, string(sc.plain))
	if p.statusAt != nil {
		row.Field(p.statusAt[0]).SetString(string(StatusOpen))
	}
	return true
}

// sealUsual seals a row in place, which must be a copy of the caller's.
func (p *plan) sealUsual(sc *scratch, row reflect.Value, keys keystore.Keys) bool {
	if !p.direct || keys.State() != keystore.StateActive || !p.beginUsual(sc, row, keys) {
		return false
	}
	at, rowAAD := row.Addr().UnsafePointer(), len(sc.aad)
	sc.spans = sc.spans[:0]
	nonces, nBytes := 0, 0
	for i := range p.fields {
		f := &p.fields[i]
		text, data, null := inPlace(f, at)
		if null {
			sc.spans = append(sc.spans, absent)
			continue
		}
		if formOf(text) == formSealed || len(data) > 0 && data[0] == kindSealed {
			return false // perhaps it is sealed already
		}
		sc.spans = append(sc.spans, span{})
		nonces += nonceSize
		if f.kind == kindBytes {
			nBytes += Overhead + len(data)
		}
	}
	for i, purpose := range p.purposes {
		pr := &sc.prime[i]
		if pr.id, pr.aead, pr.err = keys.Primary(purpose); pr.err != nil {
			return false
		}
	}
	sc.nonces = grow(sc.nonces[:0], nonces)
	rand.Read(sc.nonces)
	var bytes []byte
	if nBytes > 0 {
		bytes = make([]byte, 0, nBytes)
	}
	sc.text = sc.text[:0]
	for i, n := 0, 0; i < len(p.fields); i++ {
		if sc.spans[i] == absent {
			continue
		}
		f := &p.fields[i]
		pr := &sc.prime[f.purpose]
		text, data, _ := inPlace(f, at)
		dst := sc.bin[:0]
		if f.kind == kindBytes {
			dst = bytes
		}
		from := len(dst)
		dst = append(appendHeader(dst, pr.id), sc.nonces[n:n+nonceSize]...)
		body := len(dst)
		dst = append(append(dst, text...), data...)
		setAADHeader(sc.aad, dst[from:])
		sc.aad = append(sc.aad[:rowAAD], f.suffix...)
		dst = pr.aead.Seal(dst[:body], dst[body-nonceSize:body], dst[body:], sc.aad)
		n += nonceSize
		if f.kind == kindBytes {
			bytes = dst
			sc.spans[i] = span{from, len(dst)}
			continue
		}
		sc.bin = dst
		from = len(sc.text)
		sc.text = appendText(sc.text, dst)
		sc.spans[i] = span{from, len(sc.text)}
	}
	if !keys.Fresh() {
		return false
	}
	p.storeUsual(sc, at, bytes, string(sc.text))
	return true
}

// beginUsual begins the associated data of a row.
func (p *plan) beginUsual(sc *scratch, row reflect.Value, keys keystore.Keys) bool {
	key, err := p.rowKey(row)
	if err != nil {
		return false
	}
	sc.aad = appendRowAAD(sc.aad[:0], keys.Subject().String(), key, p.keyed)
	return true
}

// inPlace is what stands in a field of a direct plan; null tells whether it is nil.
func inPlace(f *field, row unsafe.Pointer) (text string, data []byte, null bool) {
	switch at := unsafe.Add(row, f.offset); f.kind {
	case kindString:
		return *(*string)(at), nil, false
	case kindBytes:
		data = *(*[]byte)(at)
		return "", data, data == nil
	default:
		s := *(**string)(at)
		if s == nil {
			return "", nil, true
		}
		return *s, nil, false
	}
}

// storeUsual writes the spans of texts and bytes into the row.
func (p *plan) storeUsual(sc *scratch, row unsafe.Pointer, bytes []byte, texts string) {
	for i := range p.fields {
		f, s := &p.fields[i], sc.spans[i]
		if s == absent {
			continue
		}
		switch at := unsafe.Add(row, f.offset); f.kind {
		case kindString:
			*(*string)(at) = texts[s.from:s.to]
		case kindBytes:
			*(*[]byte)(at) = bytes[s.from:s.to:s.to]
		default:
			text := texts[s.from:s.to]
			*(**string)(at) = &text
		}
	}
}
