package keystore

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// The encoding shared by all records: unsigned varints, and byte strings with their
// length in front. docs/format.md has the layouts.

func appendBytes(b, p []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...)
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendStrings(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

// appendSection adds a tagged part. Readers pass over tags that they do not know, so
// that later versions can add parts.
func appendSection(b []byte, tag byte, body []byte) []byte {
	return appendBytes(append(b, tag), body)
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendUvarint(b, 0)
	}
	return binary.AppendUvarint(b, uint64(max(t.Unix(), 1)))
}

// reader takes a record apart. The first mistake sticks; check err or end once.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fixed(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return make([]byte, n)
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte() byte { return r.fixed(1)[0] }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) uint32() uint32 {
	v := r.uvarint()
	if v > math.MaxUint32 {
		r.bad = true
	}
	return uint32(v)
}

// count reads the number of parts that follow, each of at least size bytes, so that a
// forged number cannot ask for more memory than the record could fill.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	return r.fixed(int(n))
}

func (r *reader) string() string { return string(r.bytes()) }

func (r *reader) strings() []string {
	n := r.count(1)
	var list []string
	for range n {
		list = append(list, r.string())
	}
	return list
}

func (r *reader) time() time.Time {
	v := r.uvarint()
	if v == 0 {
		return time.Time{}
	}
	if v > math.MaxInt64/2 {
		r.bad = true
		return time.Time{}
	}
	return time.Unix(int64(v), 0).UTC()
}

// sections calls f for each tagged part of what is left.
func (r *reader) sections(f func(tag byte, body *reader)) {
	for !r.bad && len(r.b) > 0 {
		tag := r.byte()
		body := reader{b: r.bytes()}
		if r.bad {
			return
		}
		f(tag, &body)
		if body.bad {
			r.bad = true
		}
	}
}

// keep adds a part that this version does not know to those that it writes back: a later
// version's part must outlive an earlier one's write.
func keep(extra []byte, tag byte, body *reader) []byte {
	extra = appendSection(extra, tag, body.b)
	body.b = nil
	return extra
}

// end reports what is wrong with the record: cut short, overlong, or nothing.
func (r *reader) end(what string) error {
	if r.bad || len(r.b) > 0 {
		return fmt.Errorf("%w: %s does not parse", ErrTampered, what)
	}
	return nil
}
