package rootfile

import (
	"encoding/binary"
	"fmt"
)

// section is a part of a file: a tag that says what it is, the version of its own
// encoding, and its bytes. Readers refuse tags and versions that they do not know,
// but for tags from optionalTag on, which they keep as they are.
type section struct {
	tag, version uint16
	data         []byte
}

const (
	sectionHeader = 8 // tag, version, length
	optionalTag   = 0x8000
)

func appendSection(b []byte, s section) []byte {
	b = binary.BigEndian.AppendUint16(b, s.tag)
	b = binary.BigEndian.AppendUint16(b, s.version)
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.data)))
	return append(b, s.data...)
}

// parseSections splits b, which must be sections and nothing else. The sections share
// the memory of b.
func parseSections(b []byte) ([]section, error) {
	var out []section
	for len(b) > 0 {
		if len(b) < sectionHeader {
			return nil, fmt.Errorf("a section is cut")
		}
		n := binary.BigEndian.Uint32(b[4:])
		if uint64(n) > uint64(len(b)-sectionHeader) {
			return nil, fmt.Errorf("a section is longer than what holds it")
		}
		end := sectionHeader + int(n)
		out = append(out, section{
			tag:     binary.BigEndian.Uint16(b),
			version: binary.BigEndian.Uint16(b[2:]),
			data:    b[sectionHeader:end:end],
		})
		b = b[end:]
	}
	return out, nil
}

// reader takes fixed and length-prefixed values off the front of a section. After the
// first one that does not fit, it yields zeros and short is set.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.short, r.b = true, nil
		return make([]byte, min(n, 32))
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8() uint8   { return r.take(1)[0] }
func (r *reader) u16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
func (r *reader) text() string {
	n := int(r.u16())
	if n > len(r.b) {
		r.short, r.b = true, nil
		return ""
	}
	return string(r.take(n))
}

// texts reads a list of texts; nil when it is empty.
func (r *reader) texts() []string {
	n := int(r.u16())
	var out []string
	for i := 0; i < n && !r.short; i++ {
		out = append(out, r.text())
	}
	return out
}

// done tells whether everything fitted and nothing is left.
func (r *reader) done() bool { return !r.short && len(r.b) == 0 }

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func appendTexts(b []byte, ss []string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(ss)))
	for _, s := range ss {
		b = appendText(b, s)
	}
	return b
}
