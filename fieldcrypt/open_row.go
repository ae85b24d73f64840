package fieldcrypt

import (
	"fmt"

	"github.com/oubli/oubli/keystore"
)

// openRow reads the stored slots of one row: each gets its status, and the place of its
// plaintext in the scratch or the text that an erased one reads as. Nothing leaves the
// scratch before the caller has found keys to be fresh. keys belongs to the row's subject.
func (t *table) openRow(sc *scratch, keys keystore.Keys, key string) (status Status, bad *field, id uint32, err error) {
	sc.aad = appendRowAAD(sc.aad[:0], keys.Subject().String(), key, t.keyed)
	rowAAD := len(sc.aad)
	sc.plain = sc.plain[:0]
	for i := range t.fields {
		f, s := &t.fields[i], &sc.slots[i]
		if s.state != slotStored {
			continue
		}
		s.from = len(sc.plain)
		id, err = t.openSlot(sc, keys, f, s, rowAAD)
		s.to = len(sc.plain)
		if err == nil && t.strict && s.status != StatusOpen {
			err = refusal(keys, f)
		}
		if err != nil {
			return "", f, id, err
		}
	}
	status = t.rowStatus(sc, keys)
	if t.strict && status != StatusOpen {
		return "", nil, 0, refusal(keys, nil)
	}
	return status, nil, 0, nil
}

// openSlot opens one stored value.
func (t *table) openSlot(sc *scratch, keys keystore.Keys, f *field, s *slot, rowAAD int) (id uint32, err error) {
	r := s.read(sc)
	switch r.form {
	case formNewer:
		return 0, ErrVersion
	case formOther:
		if f.adopting() {
			return 0, openPlain(sc, keys, f, s)
		}
		return 0, r.err
	case formBlank:
		if !blankAllowed(keys, f) {
			return 0, errForged
		}
		s.status, s.text = StatusErased, f.blankReads(r.value, keys.Subject())
		return 0, nil
	}
	sc.plain, id, err = t.appendOpened(sc.plain, sc, keys, f, r.envelope, rowAAD)
	switch {
	case err == nil:
		s.status = StatusOpen
	case isDead(err):
		s.status, s.text = StatusErased, f.replacement(keys.Subject())
	case isWithheld(err):
		s.status, s.text = StatusWithheld, ""
	default:
		return id, err
	}
	return id, nil
}

// appendOpened opens a binary envelope for a field.
func (t *table) appendOpened(dst []byte, sc *scratch, keys keystore.Keys, f *field, envelope []byte, rowAAD int) ([]byte, uint32, error) {
	id, nonce, ciphertext, err := parseSealed(envelope)
	if err != nil {
		return dst, id, err
	}
	purpose, aead, err := keys.Key(id)
	if err != nil {
		return dst, id, err
	}
	if purpose != f.Purpose {
		return dst, id, fmt.Errorf("%w: sealed for purpose %q, the field has %q", keystore.ErrTampered, purpose, f.Purpose)
	}
	setAADHeader(sc.aad, envelope)
	sc.aad = append(sc.aad[:rowAAD], f.suffix...)
	out, err := aead.Open(dst, nonce, ciphertext, sc.aad)
	if err != nil {
		return dst, id, fmt.Errorf("%w: does not authenticate", keystore.ErrTampered)
	}
	return out, id, nil
}

// blankAllowed tells whether a blank may stand in the field: only where the person is
// erased, or was before being readmitted, or is being erased, or where the field's
// purpose was withdrawn. Elsewhere somebody put it there.
func blankAllowed(keys keystore.Keys, f *field) bool {
	s := keys.State()
	return s == keystore.StateErased || s == keystore.StateErasing || keys.WasErased() || keys.Withdrawn(f.Purpose)
}

// fieldStatus is how a field of this person would read, whatever stands in it.
func fieldStatus(keys keystore.Keys, f *field) Status {
	switch {
	case keys.State() == keystore.StateErased || keys.Withdrawn(f.Purpose):
		return StatusErased
	case isWithheld(keys.Err()):
		return StatusWithheld
	}
	return StatusOpen
}

// rowStatus sums up: withheld if anything is or would be; erased if something is, or
// all would be.
func (t *table) rowStatus(sc *scratch, keys keystore.Keys) Status {
	erased, absentErased, absent := 0, 0, 0
	for i := range t.fields {
		f, s := &t.fields[i], &sc.slots[i]
		status := s.status
		if s.state != slotStored {
			absent++
			if status = fieldStatus(keys, f); status == StatusErased {
				absentErased++
				continue
			}
		}
		switch status {
		case StatusWithheld:
			return StatusWithheld
		case StatusErased:
			erased++
		}
	}
	if erased > 0 || absent == len(t.fields) && absentErased == absent && absent > 0 {
		return StatusErased
	}
	return StatusOpen
}

// refusal is the error of strict mode.
func refusal(keys keystore.Keys, f *field) error {
	if err := keys.Err(); err != nil {
		return err
	}
	if f != nil && keys.Withdrawn(f.Purpose) {
		return keystore.ErrWithdrawn
	}
	return keystore.ErrErased
}
