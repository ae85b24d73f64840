package oracle

import (
	"encoding/binary"
	"slices"

	"github.com/oubli/oubli/keystore"
)

// Epoch is the epoch record, as far as planting faults needs it.
type Epoch struct {
	Current  keystore.RootID
	Advances bool // an intent stands
	Roots    []EpochRoot
	body     []byte
}

// EpochRoot is a root in the epoch record.
type EpochRoot struct {
	ID     keystore.RootID
	Since  uint64   // superseded since; 0: it is not
	Covers []uint64 // by page
}

const (
	sectionEpoch  = 3
	sectionRoots  = 4
	sectionIntent = 6
)

// ParseEpoch reads the value of an epoch record.
func ParseEpoch(value []byte) (*Epoch, error) {
	outer := input{b: value}
	e := &Epoch{body: outer.take(outer.uvarint())}
	in := input{b: e.body}
	in.byte()
	in.sections(func(tag byte, s *input) {
		switch tag {
		case sectionEpoch:
			s.uvarint()
			copy(e.Current[:], s.take(16))
		case sectionRoots:
			for range s.uvarint() {
				r := EpochRoot{ID: keystore.RootID(s.take(16)), Since: s.uvarint()}
				for range s.uvarint() {
					r.Covers = append(r.Covers, s.uvarint())
				}
				e.Roots = append(e.Roots, r)
			}
		case sectionIntent:
			e.Advances = true
		}
	})
	if in.bad || outer.bad {
		return nil, errFormat
	}
	return e, nil
}

// Seal writes the record with e.Roots in place of those that it had, and authenticates it
// with the current root.
func (e *Epoch) Seal(current keystore.Secret) []byte {
	body := slices.Clone(e.body[:1])
	in := input{b: e.body[1:]}
	in.sections(func(tag byte, s *input) {
		if tag == sectionRoots {
			s.b = binary.AppendUvarint(nil, uint64(len(e.Roots)))
			for _, r := range e.Roots {
				s.b = binary.AppendUvarint(append(s.b, r.ID[:]...), r.Since)
				s.b = binary.AppendUvarint(s.b, uint64(len(r.Covers)))
				for _, c := range r.Covers {
					s.b = binary.AppendUvarint(s.b, c)
				}
			}
		}
		body = appendText(append(body, tag), s.b)
	})
	return append(appendText(nil, body), wrap(current, nil, append([]byte("oubli epoch\x01"), body...))...)
}
