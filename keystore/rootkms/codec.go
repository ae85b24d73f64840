package rootkms

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/oubli/oubli/keystore"
)

// Every document is: magic (8), version (2), store id (16), sections, and SHA-256 (32)
// over all that precedes. A section is a tag (1), its length, its bytes. Numbers are
// uvarints, fixed-size values stand as they are, texts and lists have their length in
// front. Times are seconds since 1970, 0 for none.
const (
	docVersion = 1
	docHeader  = 8 + 2 + 16
)

// seal writes the frame of a document around its sections.
func seal(magic string, store keystore.StoreID, sections ...section) []byte {
	b := binary.BigEndian.AppendUint16([]byte(magic), docVersion)
	b = append(b, store[:]...)
	for _, s := range sections {
		b = appendBytes(append(b, s.tag), s.data)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// section is a part of a document. Unknown ones from optionalTag on are kept as they are,
// others refused as being of a newer version.
type section struct {
	tag  byte
	data []byte
}

const optionalTag = 0x80

// unseal takes the frame off. The error says in which way b is wrong and wraps
// [keystore.ErrTampered].
func unseal(magic string, b []byte) (store keystore.StoreID, sections []section, err error) {
	if len(b) < docHeader+sha256.Size || string(b[:8]) != magic {
		return store, nil, altered("it does not begin like what should stand there, or is cut short at %d bytes", len(b))
	}
	if v := binary.BigEndian.Uint16(b[8:]); v > docVersion {
		return store, nil, newer("version %d", v)
	}
	body, end := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], end) || binary.BigEndian.Uint16(b[8:]) != docVersion {
		return store, nil, altered("its checksum does not fit")
	}
	copy(store[:], body[10:])
	var seen [256]bool
	for r := (reader{b: body[docHeader:]}); len(r.b) > 0; {
		s := section{r.u8(), r.bytes()}
		if r.bad || seen[s.tag] {
			return store, nil, altered("section %d is cut, or stands twice", s.tag)
		}
		seen[s.tag] = true
		sections = append(sections, s)
	}
	return store, sections, nil
}

func altered(format string, a ...any) error {
	return fmt.Errorf("%w: %s", keystore.ErrTampered, fmt.Sprintf(format, a...))
}

func newer(format string, a ...any) error {
	return fmt.Errorf("%w: it is of a newer %s: use a newer oubli", keystore.ErrTampered, fmt.Sprintf(format, a...))
}

// reader takes values off the front. After the first that does not fit it yields zeros,
// and bad is set.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return make([]byte, min(n, 32))
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8() byte { return r.take(1)[0] }

// flag reads 0 or 1.
func (r *reader) flag() bool {
	b := r.u8()
	r.bad = r.bad || b > 1
	return b == 1
}

func (r *reader) num() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 { // one encoding for each number
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes() []byte   { return r.take(r.num()) }
func (r *reader) text() string    { return string(r.bytes()) }
func (r *reader) id() [16]byte    { return [16]byte(r.take(16)) }
func (r *reader) sum() [32]byte   { return [32]byte(r.take(32)) }
func (r *reader) done() bool      { return !r.bad && len(r.b) == 0 }
func (r *reader) more(n int) bool { return n > 0 && !r.bad }

// count reads the length of a list whose elements take at least one byte each.
func (r *reader) count() int {
	n := r.num()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

func (r *reader) texts() (out []string) {
	for n := r.count(); r.more(n); n-- {
		out = append(out, r.text())
	}
	return out
}

func (r *reader) time() time.Time {
	n := r.num()
	if n == 0 {
		return time.Time{}
	}
	if n > 1<<40 {
		r.bad = true
		return time.Time{}
	}
	return time.Unix(int64(n), 0).UTC()
}

func appendNum(b []byte, n uint64) []byte { return binary.AppendUvarint(b, n) }

func appendBytes(b, v []byte) []byte { return append(appendNum(b, uint64(len(v))), v...) }

func appendText(b []byte, v string) []byte { return append(appendNum(b, uint64(len(v))), v...) }

func appendTexts(b []byte, vs []string) []byte {
	b = appendNum(b, uint64(len(vs)))
	for _, v := range vs {
		b = appendText(b, v)
	}
	return b
}

func appendFlag(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	return appendNum(b, uint64(t.Unix()))
}

// rootAD is what a wrapped root is bound to: it opens for this root of this keystore,
// under the key that it was wrapped by, and for nothing else.
func rootAD(store keystore.StoreID, root keystore.RootID, epoch uint64, key string) []byte {
	b := []byte("oubli wrapped root\x01")
	b = appendBytes(b, store[:])
	b = appendBytes(b, root[:])
	b = binary.BigEndian.AppendUint64(append(b, 8), epoch)
	return appendText(b, key)
}
