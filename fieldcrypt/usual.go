package fieldcrypt

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"reflect"
	"strings"
	"unsafe"

	"github.com/oubli/oubli/keystore"
)

// The usual row: its personal fields stand in place and in the struct itself, and its
// person is active. It is sealed and opened here without the slots of the general way,
// which took twice as long; docs/decisions.md has the figures. Whatever is not usual,
// errors included, makes these functions return false with nothing changed, and the
// general way decides.

// usual is what a plan knows for this. Fields are reached by their offset, which
// reflection gave when the tags were read: those of a usual row have an underlying type
// of string, *string or []byte.
type usual struct {
	fields   bool // the personal fields and the Status can be reached
	ids      bool // so can the subject's id and the row's key
	subject  place
	key      place
	status   uintptr
	noStatus bool
}

// place is where an id stands in a row.
type place struct {
	offset uintptr
	kind   reflect.Kind
}

// findUsual finds out what is usual about a plan.
func (p *plan) findUsual(row reflect.Type) {
	u, ok := usual{noStatus: p.statusAt == nil}, true
	reach := func(path []int) (offset uintptr, t reflect.Type) {
		offset, t, direct := offsetOf(row, path)
		ok = ok && direct
		return offset, t
	}
	for i := range p.fields {
		f := &p.fields[i]
		f.offset, _ = reach(f.path)
		ok = ok && f.kind != kindPrivate
	}
	u.status, _ = reach(p.statusAt)
	if u.fields = ok; !ok {
		return
	}
	id := func(path []int) (p place) {
		offset, t := reach(path)
		ok = ok && !t.Implements(marshalText)
		return place{offset, t.Kind()}
	}
	u.subject = id(p.subjectAt)
	if p.keyed {
		u.key = id(p.keyAt)
	}
	u.ids = ok
	p.usual = u
}

// offsetOf finds a field in a struct, unless it stands behind a pointer.
func offsetOf(t reflect.Type, path []int) (offset uintptr, field reflect.Type, direct bool) {
	for _, x := range path {
		if t.Kind() != reflect.Struct {
			return 0, t, false
		}
		f := t.Field(x)
		offset, t = offset+f.Offset, f.Type
	}
	return offset, t, true
}

// read reads an id. Those of other types take the general way.
func (p place) read(row unsafe.Pointer) (id plainID, ok bool) {
	switch at := unsafe.Add(row, p.offset); p.kind {
	case reflect.Int64:
		return plainID{n: uint64(*(*int64)(at))}, true
	case reflect.Int:
		return plainID{n: uint64(*(*int)(at))}, true
	case reflect.Int32:
		return plainID{n: uint64(*(*int32)(at))}, true
	case reflect.Uint64:
		return plainID{n: *(*uint64)(at)}, true
	case reflect.Uint:
		return plainID{n: uint64(*(*uint)(at))}, true
	case reflect.Uint32:
		return plainID{n: uint64(*(*uint32)(at))}, true
	case reflect.String:
		return plainID{s: *(*string)(at)}, true
	}
	return plainID{}, false
}

// subject makes the subject of an id that was read.
func (place place) subject(p *plan, id plainID) (keystore.Subject, error) {
	switch place.kind {
	case reflect.String:
		return p.table.subject(id.s)
	case reflect.Uint64, reflect.Uint, reflect.Uint32:
		return p.table.subject(id.n)
	}
	return p.table.subject(int64(id.n))
}

// text is rowKey for the key that stands there.
func (p place) text(row unsafe.Pointer) (key string, ok bool) {
	id, ok := p.read(row)
	if !ok {
		return "", false
	}
	var err error
	switch p.kind {
	case reflect.String:
		key, err = rowKey(id.s)
	case reflect.Uint64, reflect.Uint, reflect.Uint32:
		key, err = rowKey(id.n)
	default:
		key, err = rowKey(int64(id.n))
	}
	return key, err == nil
}

// beginUsual gets what a row of a known and active person needs, if it is at hand.
func (p *plan) beginUsual(row unsafe.Pointer) (sc *scratch, keys keystore.Keys, ok bool) {
	if !p.usual.ids {
		return nil, keys, false
	}
	if id, ok := p.usual.subject.read(row); !ok || p.subjects.seen(id) == nil {
		return nil, keys, false // the general way will remember it
	}
	sc = p.scratch.Get().(*scratch)
	if keys, ok = p.atHand(sc, row); !ok {
		p.scratch.Put(sc)
	}
	return sc, keys, ok
}

// atHand finds the keys of a row's person, and begins the associated data in sc.
func (p *plan) atHand(sc *scratch, row unsafe.Pointer) (keys keystore.Keys, ok bool) {
	id, ok := p.usual.subject.read(row)
	if !ok {
		return keys, false
	}
	if e := p.subjects.seen(id); e != nil {
		if keys, ok = p.store.Cached(e.subject); !ok {
			return keys, false
		}
		sc.aad = append(sc.aad[:0], e.aad...)
	} else {
		s, err := p.usual.subject.subject(p, id)
		if err != nil {
			return keys, false
		}
		if keys, ok = p.store.Cached(s); !ok {
			return keys, false
		}
		sc.aad = appendSubjectAAD(sc.aad[:0], s.String())
	}
	var key string
	if p.keyed {
		if key, ok = p.usual.key.text(row); !ok {
			return keys, false
		}
	}
	sc.aad = appendKeyAAD(sc.aad, key, p.keyed)
	return keys, true
}

// quick tells whether rows can be opened without the general way at all.
func (p *plan) quick() bool { return p.usual.ids && p.usual.fields }

// openAtHand opens a row in place if its person's keys are at hand. The caller finds them
// to be fresh afterwards, or puts the row back.
func (p *plan) openAtHand(sc *scratch, row unsafe.Pointer) (keys keystore.Keys, ok bool) {
	if keys, ok = p.atHand(sc, row); ok {
		ok = p.openAt(sc, row, &keys, false)
	}
	return keys, ok
}

// openOne opens a row in place.
func (p *plan) openOne(row unsafe.Pointer) bool {
	sc, keys, ok := p.beginUsual(row)
	if !ok {
		return false
	}
	ok = p.openAt(sc, row, &keys, true)
	p.scratch.Put(sc)
	return ok
}

// sealOne seals a row in place, which must be a copy of the caller's.
func (p *plan) sealOne(row unsafe.Pointer) bool {
	if !p.usual.ids || !p.usual.noStatus && *(*Status)(unsafe.Add(row, p.usual.status)) == StatusWithheld {
		return false
	}
	sc, keys, ok := p.beginUsual(row)
	if !ok {
		return false
	}
	ok = p.sealAt(sc, row, &keys, true)
	p.scratch.Put(sc)
	return ok
}

// openUsual opens a row in place with the keys of its subject.
func (p *plan) openUsual(sc *scratch, row reflect.Value, keys keystore.Keys) bool {
	if !p.usual.fields || keys.State() != keystore.StateActive {
		return false
	}
	key, err := p.rowKey(row)
	if err != nil {
		return false
	}
	sc.aad = appendRowAAD(sc.aad[:0], keys.Subject().String(), key, p.keyed)
	return p.openAt(sc, row.Addr().UnsafePointer(), &keys, false)
}

// sealUsual seals a row in place, which must be a copy of the caller's, with the keys
// of its subject.
func (p *plan) sealUsual(sc *scratch, row reflect.Value, keys keystore.Keys) bool {
	if !p.usual.fields || keys.State() != keystore.StateActive {
		return false
	}
	key, err := p.rowKey(row)
	if err != nil {
		return false
	}
	sc.aad = appendRowAAD(sc.aad[:0], keys.Subject().String(), key, p.keyed)
	return p.sealAt(sc, row.Addr().UnsafePointer(), &keys, false)
}

// openAt opens a row in place. Unless it is alone, the caller finds the keys to be fresh
// afterwards, together with those of other rows, or puts the row back as it was.
func (p *plan) openAt(sc *scratch, row unsafe.Pointer, keys *keystore.Keys, alone bool) bool {
	n := 0
	sc.sizes = sc.sizes[:0]
	for i := range p.fields {
		size := p.fields[i].openSize(row)
		if size >= 0 {
			n += size
		} else if size != absent {
			return false
		}
		sc.sizes = append(sc.sizes, size)
	}
	plain := make([]byte, n) // leaves with the row, as its strings and bytes
	if !p.openFields(sc, row, keys, plain) || alone && !keystore.Fresh(*keys) {
		clear(plain)
		return false
	}
	p.setAll(sc, row, plain)
	if !p.usual.noStatus {
		*(*Status)(unsafe.Add(row, p.usual.status)) = StatusOpen
	}
	return true
}

// openFields opens the fields of a row into plain, one after the other. It refuses a
// row without any.
func (p *plan) openFields(sc *scratch, row unsafe.Pointer, keys *keystore.Keys, plain []byte) bool {
	rowAAD := len(sc.aad)
	var last uint32
	var purpose string
	var aead cipher.AEAD
	for i := range p.fields {
		f := &p.fields[i]
		text, envelope, _ := f.inPlace(row)
		if len(text)+len(envelope) == 0 {
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
			setAADHeader(sc.aad, envelope)
		}
		if purpose != f.Purpose {
			return false
		}
		sc.aad = append(sc.aad[:rowAAD], f.suffix...)
		if _, err = aead.Open(plain[:0], nonce, ciphertext, sc.aad); err != nil {
			return false
		}
		plain = plain[len(ciphertext)-tagSize:]
	}
	return last != 0
}

// sealAt is the reverse of openAt.
func (p *plan) sealAt(sc *scratch, row unsafe.Pointer, keys *keystore.Keys, alone bool) bool {
	n, nonces := 0, 0
	sc.sizes = sc.sizes[:0]
	for i := range p.fields {
		size := p.fields[i].sealSize(row)
		if size >= 0 {
			n += size
			nonces += nonceSize
		} else if size != absent {
			return false
		}
		sc.sizes = append(sc.sizes, size)
	}
	sc.nonces = grow(sc.nonces[:0], nonces)
	rand.Read(sc.nonces)
	sealed := make([]byte, n) // leaves with the row, as its strings and bytes
	if !p.sealFields(sc, row, keys, sealed) || alone && !keystore.Fresh(*keys) {
		return false
	}
	p.setAll(sc, row, sealed)
	return true
}

// sealFields seals the fields of a row into sealed, one after the other.
func (p *plan) sealFields(sc *scratch, row unsafe.Pointer, keys *keystore.Keys, sealed []byte) bool {
	rowAAD, nonces := len(sc.aad), sc.nonces
	var last int // 1 + the purpose's index
	var id uint32
	var aead cipher.AEAD
	for i := range p.fields {
		f := &p.fields[i]
		text, data, null := f.inPlace(row)
		if null {
			continue
		}
		if last != 1+f.purpose {
			var err error
			if id, aead, err = keys.Primary(f.Purpose); err != nil {
				return false
			}
			last = 1 + f.purpose
		}
		nonce := nonces[:nonceSize]
		nonces = nonces[nonceSize:]
		dst := sc.bin[:0]
		if f.kind == kindBytes {
			dst = sealed[:0]
		}
		dst = append(appendHeader(dst, id), nonce...)
		dst = append(append(dst, text...), data...)
		setAADHeader(sc.aad, dst)
		sc.aad = append(sc.aad[:rowAAD], f.suffix...)
		const body = headerSize + nonceSize
		dst = aead.Seal(dst[:body], nonce, dst[body:], sc.aad)
		if f.kind != kindBytes {
			sc.bin = dst
			dst = appendText(sealed[:0], dst)
		}
		sealed = sealed[len(dst):]
	}
	return true
}

// What openSize and sealSize give for a field that holds nothing, and for one that
// holds something that is not usual.
const (
	absent     = -1
	noEnvelope = -2
	envelope   = -2
)

// openSize is how long what an envelope in the field holds is, if it is one.
func (f *field) openSize(row unsafe.Pointer) int {
	text, data, null := f.inPlace(row)
	n := len(data)
	if f.kind != kindBytes {
		n = base64url.DecodedLen(max(0, len(text)-len(sealedText)))
	}
	switch {
	case n >= Overhead:
		return n - Overhead
	case len(text)+len(data) == 0 && (null || !f.adopting()):
		return absent
	}
	return noEnvelope
}

// sealSize is how long the envelope of what the field holds will be, unless that looks
// like one.
func (f *field) sealSize(row unsafe.Pointer) int {
	text, data, null := f.inPlace(row)
	switch {
	case null:
		return absent
	case f.kind == kindBytes:
		if len(data) > 0 && (data[0] == kindSealed || data[0] == word[0] && bytes.HasPrefix(data, []byte(sealedText))) {
			return envelope
		}
		return Overhead + len(data)
	case text != "" && text[0] == kindSealed, strings.HasPrefix(text, sealedText):
		return envelope
	}
	return len(sealedText) + base64url.EncodedLen(Overhead+len(text))
}

// inPlace is what stands in a field of a usual row; null tells whether it is nil.
func (f *field) inPlace(row unsafe.Pointer) (text string, data []byte, null bool) {
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

// setAll makes b, which is the row's from now on, what stands in its fields, divided
// as sc.sizes says.
func (p *plan) setAll(sc *scratch, row unsafe.Pointer, b []byte) {
	for i, n := range sc.sizes {
		if n == absent {
			continue
		}
		f, part := &p.fields[i], b[:n:n]
		b = b[n:]
		switch at := unsafe.Add(row, f.offset); f.kind {
		case kindString:
			*(*string)(at) = unsafe.String(unsafe.SliceData(part), n)
		case kindBytes:
			*(*[]byte)(at) = part
		default:
			text := unsafe.String(unsafe.SliceData(part), n)
			*(**string)(at) = &text
		}
	}
}
