package fieldcrypt

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/oubli/oubli/keystore"
)

// Overhead is what sealing adds to a value, in bytes, before base64.
const Overhead = headerSize + nonceSize + tagSize

// ErrVersion: the envelope was written by a newer version of oubli than this one.
var ErrVersion = errors.New("sealed by a newer version of oubli")

const (
	kindSealed = 0xB1 // the first byte of a sealed envelope, version 1
	kindNewest = 0xBF // 0xB2 to 0xBF are later versions of it

	headerSize = 5 // kind and version, key id
	nonceSize  = 12
	tagSize    = 16

	word       = "oubli" // text forms: oubli, version, mark
	sealedText = "oubli1."
	blankText  = "oubli1~"
)

// base64url is strict: bits that say nothing must be zero, so that each envelope has
// one text.
var base64url = base64.RawURLEncoding.Strict()

// form is what a stored value looks like. Only authentication tells whether it is.
type form uint8

const (
	formOther form = iota
	formSealed
	formBlank
	formNewer
)

// formOf looks at the beginning of a stored text, no further.
func formOf(s string) form {
	if !strings.HasPrefix(s, word) {
		return formOther
	}
	if strings.HasPrefix(s, sealedText) {
		return formSealed
	}
	if strings.HasPrefix(s, blankText) {
		return formBlank
	}
	rest := strings.TrimLeft(s[len(word):], "0123456789")
	digits := len(s) - len(word) - len(rest)
	if digits > 0 && digits < 6 && s[len(word)] != '0' && rest != "" && (rest[0] == '.' || rest[0] == '~') {
		return formNewer
	}
	return formOther
}

// reading is a stored value taken apart, as far as that goes without keys.
type reading struct {
	form     form
	envelope []byte // formSealed: in binary; it aliases the slot or the scratch
	value    string // formBlank: what it carries
	err      error  // formOther: why it is none of these
}

// read takes the slot's value apart. Envelopes are read in both forms wherever they
// stand: a column of bytes may be a Private to one program and a []byte to another.
func (s *slot) read(sc *scratch) reading {
	text, binary := s.text, s.data
	switch {
	case s.bin && bytes.HasPrefix(s.data, []byte(word)):
		text = string(s.data)
	case s.bin:
		return readBinary(binary)
	case text != "" && text[0] >= kindSealed && text[0] <= kindNewest:
		sc.bin = append(sc.bin[:0], text...)
		return readBinary(sc.bin)
	}
	switch formOf(text) {
	case formNewer:
		return reading{form: formNewer}
	case formBlank:
		value, err := parseBlank(text)
		if err != nil {
			return reading{err: err}
		}
		return reading{form: formBlank, value: value}
	case formSealed:
		var err error
		if sc.bin, err = appendBinary(sc.bin[:0], text); err != nil {
			return reading{err: err}
		}
		return readBinary(sc.bin)
	}
	return reading{err: errNoEnvelope}
}

// readBinary is read for what may be a binary envelope.
func readBinary(b []byte) reading {
	switch _, _, _, err := parseSealed(b); {
	case err == nil:
		return reading{form: formSealed, envelope: b}
	case err == ErrVersion && len(b) >= Overhead:
		return reading{form: formNewer}
	default:
		return reading{err: err}
	}
}

// isStored tells whether a text has the form of an envelope or a blank of some version,
// all of it.
func isStored(text string) bool {
	s := slot{text: text}
	return s.read(&scratch{}).form != formOther
}

// asText gives the text of what may be a binary envelope, and anything else as it is.
func asText(s string) string {
	if s == "" || s[0] != kindSealed || !isStored(s) {
		return s
	}
	return string(appendText(nil, []byte(s)))
}

// parseSealed takes a binary envelope apart. The parts alias b.
func parseSealed(b []byte) (id uint32, nonce, ciphertext []byte, err error) {
	if len(b) > 0 && b[0] > kindSealed && b[0] <= kindNewest {
		return 0, nil, nil, ErrVersion
	}
	if len(b) == 0 || b[0] != kindSealed {
		return 0, nil, nil, errNoEnvelope
	}
	if len(b) < Overhead {
		return 0, nil, nil, fmt.Errorf("%w: the envelope is cut short: %d bytes", keystore.ErrTampered, len(b))
	}
	id = binary.BigEndian.Uint32(b[1:])
	if id == 0 {
		return 0, nil, nil, fmt.Errorf("%w: the envelope names key 0", keystore.ErrTampered)
	}
	return id, b[headerSize : headerSize+nonceSize], b[headerSize+nonceSize:], nil
}

// appendBinary appends the binary envelope that the text s stands for.
func appendBinary(dst []byte, s string) ([]byte, error) {
	switch formOf(s) {
	case formSealed:
	case formNewer:
		return dst, ErrVersion
	default:
		return dst, errNoEnvelope
	}
	body := s[len(sealedText):]
	want := base64url.DecodedLen(len(body))
	at := len(dst)
	dst = grow(dst, want)
	n, err := base64url.Decode(dst[at:], []byte(body))
	// The decoder skips line breaks, which shows as too few bytes.
	if err != nil || n != want || len(body)%4 == 1 {
		return dst[:at], fmt.Errorf("%w: the envelope is not base64url", keystore.ErrTampered)
	}
	return dst, nil
}

// appendText appends the text of a binary envelope.
func appendText(dst, envelope []byte) []byte {
	dst = append(dst, sealedText...)
	return base64url.AppendEncode(dst, envelope)
}

// appendHeader appends kind, version and key id.
func appendHeader(dst []byte, id uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, kindSealed), id)
}

// grow makes dst longer by n bytes of any content.
func grow(dst []byte, n int) []byte {
	if need := len(dst) + n; need > cap(dst) {
		bigger := make([]byte, len(dst), max(need, 2*cap(dst)))
		copy(bigger, dst)
		dst = bigger
	}
	return dst[:len(dst)+n]
}
