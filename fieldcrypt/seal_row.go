package fieldcrypt

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/oubli/oubli/keystore"
)

var errSealedTwice = fmt.Errorf("%w: the value is sealed already", keystore.ErrInvalid)

// sealRow turns the slots of one row from what was given into what is stored: done,
// kept, or NULL. Nothing else is written. keys belongs to the row's subject.
func (t *table) sealRow(sc *scratch, keys keystore.Keys, key string) (bad *field, id uint32, err error) {
	t.primes(sc, keys)
	sc.aad = appendRowAAD(sc.aad[:0], keys.Subject().String(), key, t.keyed)
	rowAAD := len(sc.aad)

	for i := range t.fields {
		f, s, p := &t.fields[i], &sc.slots[i], &sc.prime[t.fields[i].purpose]
		if s.state == slotKeep {
			continue
		}
		if p.err != nil || s.state == slotStored {
			if id, err := t.sealSpecial(sc, keys, f, s, p, rowAAD); err != nil {
				return f, id, err
			}
			continue
		}
		if s.inClear() && t.sealedAlready(sc, keys, f, s, rowAAD) {
			return f, 0, errSealedTwice
		}
	}
	t.sealSlots(sc, rowAAD)
	return nil, 0, nil
}

// inClear tells whether the slot is to be sealed.
func (s *slot) inClear() bool { return s.state == slotPlain || s.state == slotEncoded }

// sealSlots seals the slots that are in the clear, with the primes and the associated
// data that stand in the scratch. It draws the nonces of a row at once.
func (t *table) sealSlots(sc *scratch, rowAAD int) {
	nText, nBin, nNonces := 0, 0, 0
	for i := range sc.slots {
		s := &sc.slots[i]
		if !s.inClear() {
			continue
		}
		nNonces++
		if n := Overhead + max(len(s.text), len(s.data)); s.bin {
			nBin += n
		} else {
			nText += n
		}
	}
	if nNonces == 0 {
		return
	}
	sc.nonces = grow(sc.nonces[:0], nNonces*nonceSize)
	rand.Read(sc.nonces)
	nonces := sc.nonces
	// Binary envelopes leave with the row, so their memory is new. Texts leave as
	// parts of one string.
	var out []byte
	if nBin > 0 {
		out = make([]byte, 0, nBin)
	}
	sc.bin = grow(sc.bin[:0], nText)[:0]
	sc.text = sc.text[:0]
	for i := range t.fields {
		f, s := &t.fields[i], &sc.slots[i]
		if !s.inClear() {
			continue
		}
		p := &sc.prime[f.purpose]
		nonce := nonces[:nonceSize]
		nonces = nonces[nonceSize:]
		if s.bin {
			from := len(out)
			out = t.appendSealed(out, sc, f, s, p, nonce, rowAAD)
			s.state, s.data = slotDone, out[from:len(out):len(out)]
			continue
		}
		sc.bin = t.appendSealed(sc.bin[:0], sc, f, s, p, nonce, rowAAD)
		s.from = len(sc.text)
		sc.text = appendText(sc.text, sc.bin)
		s.to = len(sc.text)
	}
	if len(sc.text) > 0 {
		all := string(sc.text)
		for i := range sc.slots {
			if s := &sc.slots[i]; s.inClear() {
				s.state, s.text = slotDone, all[s.from:s.to]
			}
		}
	}
}

// primes finds out how each purpose is sealed for this subject.
func (t *table) primes(sc *scratch, keys keystore.Keys) {
	for i, purpose := range t.purposes {
		p := &sc.prime[i]
		p.id, p.aead, p.err = keys.Primary(purpose)
		if p.err == nil {
			p.err = keys.WriteErr()
		} else if keys.State() == keystore.StateErased {
			p.err = keystore.ErrErased
		} else if keys.Withdrawn(purpose) {
			p.err = keystore.ErrWithdrawn
		}
	}
}

// appendSealed appends the envelope of a slot that is in the clear.
func (t *table) appendSealed(dst []byte, sc *scratch, f *field, s *slot, p *prime, nonce []byte, rowAAD int) []byte {
	from := len(dst)
	dst = append(appendHeader(dst, p.id), nonce...)
	body := len(dst)
	if s.state == slotPlain {
		dst = append(dst, s.text...)
	} else {
		dst = append(dst, s.data...)
	}
	setAADHeader(sc.aad, dst[from:])
	sc.aad = append(sc.aad[:rowAAD], f.suffix...)
	return p.aead.Seal(dst[:body], nonce, dst[body:], sc.aad)
}

// sealedAlready tells whether what would be sealed is an envelope of this very field.
// Something that merely looks like one is content like any other.
func (t *table) sealedAlready(sc *scratch, keys keystore.Keys, f *field, s *slot, rowAAD int) bool {
	if s.state == slotEncoded && !s.bin {
		return false // a Private knows
	}
	r := s.read(sc)
	if r.form != formSealed {
		return false
	}
	_, err := t.check(sc, keys, f, r.envelope, rowAAD)
	return err == nil
}

// check authenticates an envelope for a field and throws the plaintext away.
func (t *table) check(sc *scratch, keys keystore.Keys, f *field, envelope []byte, rowAAD int) (id uint32, err error) {
	from := len(sc.plain)
	sc.plain, id, err = t.appendOpened(sc.plain, sc, keys, f, envelope, rowAAD)
	sc.plain = sc.plain[:from]
	return id, err
}

// sealSpecial decides on a slot that cannot simply be sealed: because its key is
// destroyed or withheld, or because it still holds what is stored.
func (t *table) sealSpecial(sc *scratch, keys keystore.Keys, f *field, s *slot, p *prime, rowAAD int) (id uint32, err error) {
	if s.state == slotAbsent {
		if isWithheld(p.err) && f.kind != kindPrivate {
			return 0, withheldError(p.err) // an empty value may stand for one that was withheld
		}
		return 0, nil // NULL stays NULL
	}
	if p.err != nil && !isDead(p.err) && !isWithheld(p.err) {
		return 0, p.err
	}
	text := s.text
	if s.state == slotEncoded {
		text = string(s.data)
	}
	if s.state == slotStored || f.kind != kindPrivate {
		kept, id, err := t.keepStored(sc, keys, f, s, rowAAD)
		if kept || err != nil && s.state == slotStored {
			return id, err
		}
	}
	switch {
	case s.state == slotStored && p.err == nil:
		s.state = slotPlain // a Private that still holds what is being adopted
		return 0, nil
	case s.state == slotStored && isDead(p.err):
		s.blank(f.replacement(keys.Subject())) // it was read as erased
		return 0, nil
	case isWithheld(p.err):
		return 0, withheldError(p.err)
	case f.readsErased(text, keys.Subject()):
		// Open gave this, or nothing: it goes back as a blank that reads the same.
		s.blank(text)
		return 0, nil
	}
	hint := "an erased field takes no new content: write back what was read"
	if errors.Is(p.err, keystore.ErrErased) {
		hint += ", or readmit the subject first"
	}
	return 0, &keystore.Error{Err: p.err, Hint: hint}
}

func withheldError(err error) error {
	return &keystore.Error{Err: err, Hint: "what is withheld would be lost: write the other columns alone, as SealFor does"}
}

// keepStored leaves a slot as it is stored if it holds an envelope of this field, or a
// blank where one may stand. It leaves plaintext that is being adopted to the caller.
func (t *table) keepStored(sc *scratch, keys keystore.Keys, f *field, s *slot, rowAAD int) (kept bool, id uint32, err error) {
	r := s.read(sc)
	switch r.form {
	case formNewer:
		return false, 0, ErrVersion
	case formSealed:
		id, err = t.check(sc, keys, f, r.envelope, rowAAD)
		if err != nil && !isDead(err) && !isWithheld(err) {
			return false, id, err
		}
		s.state = slotKeep
		return true, 0, nil
	case formBlank:
		if !blankAllowed(keys, f) {
			return false, 0, errForged
		}
		if reads := f.blankReads(r.value, keys.Subject()); reads != r.value {
			s.blank(reads) // the tag's replacement has changed, or somebody wrote a value in the clear
		} else {
			s.state = slotKeep
		}
		return true, 0, nil
	}
	if f.adopting() {
		return false, 0, nil
	}
	return false, 0, r.err
}

// blank makes the slot a new blank.
func (s *slot) blank(value string) {
	s.state = slotDone
	b := appendBlank(nil, value)
	if s.bin {
		s.data = b
	} else {
		s.text = string(b)
	}
}

var (
	errForged     = fmt.Errorf("%w: a blank, for a person who is not erased", keystore.ErrTampered)
	errNoEnvelope = fmt.Errorf("%w: not an envelope", keystore.ErrTampered)
)
