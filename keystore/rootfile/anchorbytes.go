package rootfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/oubli/oubli/keystore"
)

// anchorLog is what stands in one mirror's PATH.anchor: a header and records, one for
// each write, so that a single sync makes tombstones and anchor durable together.
// Integers are big-endian:
//
//	offset  size
//	0       8     magic "oubliAN\n"
//	8       2     version, 1
//	10      2     reserved, 0
//	12      16    store id
//	28      32    SHA-256 over the 28 bytes before
//	60            records
//
// A record is: marker "oREC" (4), length of the body (4), body, and SHA-256 (32) over
// store id, offset of the record in the file (8), marker, length and body. The body is
// sections as in the root file. Tags:
//
//	1  anchor: epoch (8), advances (8), ledger size (8), ledger head (32), number of
//	   counters (2), counters (8 each). The largest of each number counts; the head
//	   goes with the larger ledger.
//	2  tombstone: event (16), page (1), flags (1: 1 = the whole subject is erased),
//	   counter (8), time (8 seconds since 1970, 4 nanoseconds), subject, number of keys
//	   (4), key ids (4 each), purposes kept, purposes withdrawn. A text is its length
//	   (2) and its bytes; a list of texts is their number (2) and the texts. An event
//	   that stands twice counts once.
//	3  dropped: events (16 each) whose tombstones are no longer needed
//
// A last record that is not whole is a write that a crash cut off: it does not count,
// and the next write removes it. What is not whole and has a whole record after it was
// altered.
type anchorLog struct {
	store      keystore.StoreID
	anchor     keystore.Anchor
	tombstones []keystore.Tombstone
	extra      []section

	size  int64 // bytes that count
	total int64 // bytes in the file; more than size when the last write was cut off
}

const (
	anchorMagic   = "oubliAN\n"
	anchorVersion = 1
	anchorHeader  = 28 + sha256.Size
	recordMarker  = "oREC"
	recordFrame   = 8 + sha256.Size
	tagAnchor     = 1
	tagTombstone  = 2
	tagDropped    = 3

	recordTombstones = 4096 // tombstones in one record when a log is written anew
)

// encode writes the whole log anew, without what is superseded.
func (l *anchorLog) encode() []byte {
	b := append([]byte(nil), anchorMagic...)
	b = binary.BigEndian.AppendUint16(b, anchorVersion)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = append(b, l.store[:]...)
	sum := sha256.Sum256(b)
	b = append(b, sum[:]...)
	b = appendRecord(b, l.store, int64(len(b)), append([]section{anchorSection(l.anchor)}, l.extra...))
	for ts := range slices.Chunk(l.tombstones, recordTombstones) {
		b = appendRecord(b, l.store, int64(len(b)), tombstoneSections(ts))
	}
	return b
}

// needs estimates the size of encode's result, without making it.
func (l *anchorLog) needs() int64 {
	n := anchorHeader + recordFrame + 2*sectionHeader + 58 + 8*len(l.anchor.Counters)
	for _, s := range l.extra {
		n += sectionHeader + len(s.data)
	}
	for _, t := range l.tombstones {
		n += sectionHeader + 48 + len(t.Subject.String()) + 4*len(t.Keys)
		for _, p := range [][]string{t.Keep, t.Gone} {
			for _, text := range p {
				n += 2 + len(text)
			}
		}
	}
	return int64(n)
}

// appendRecord appends the record that is to stand at this offset of the file.
func appendRecord(b []byte, store keystore.StoreID, offset int64, sections []section) []byte {
	start := len(b)
	b = append(b, recordMarker...)
	b = append(b, 0, 0, 0, 0)
	for _, s := range sections {
		b = appendSection(b, s)
	}
	binary.BigEndian.PutUint32(b[start+4:], uint32(len(b)-start-8))
	sum := recordSum(store, offset, b[start:])
	return append(b, sum[:]...)
}

func recordSum(store keystore.StoreID, offset int64, framed []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(store[:])
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(offset)))
	h.Write(framed)
	return [sha256.Size]byte(h.Sum(nil))
}

// anchorReader reads a log again and again: what it has read before, byte for byte, is
// not taken apart once more. A log with ten thousand tombstones takes 30 ms to read.
type anchorReader struct {
	read []byte // the header and the whole records so far
	log  anchorLog
	at   map[keystore.EventID]int // where in log.tombstones
}

// decodeAnchor reads a log. The error says in which way b is wrong and wraps
// [keystore.ErrTampered].
func decodeAnchor(b []byte) (*anchorLog, error) { return new(anchorReader).decode(b) }

func (r *anchorReader) decode(b []byte) (*anchorLog, error) {
	if len(r.read) == 0 || !bytes.HasPrefix(b, r.read) {
		if err := r.begin(b); err != nil {
			return nil, err
		}
	}
	off := len(r.read)
	for off < len(b) {
		n := recordAt(b, off, r.log.store)
		if n == 0 {
			if wholeRecordAfter(b, off, r.log.store) {
				return nil, r.bad("altered: the record at byte %d is broken, and others follow", off)
			}
			break
		}
		if err := r.log.apply(b[off+8:off+n-sha256.Size], r.at); err != nil {
			return nil, r.bad("%v (record at byte %d)", err, off)
		}
		off += n
	}
	if off == anchorHeader {
		// a log is put in place with its first record
		return nil, r.bad("cut short: it has no record")
	}
	r.read = append(r.read, b[len(r.read):off]...)
	l := r.log
	l.size, l.total = int64(off), int64(len(b))
	l.tombstones = slices.DeleteFunc(slices.Clone(l.tombstones), func(t keystore.Tombstone) bool { return t.Event == keystore.EventID{} })
	l.extra = slices.Clone(l.extra)
	l.anchor.Counters = slices.Clone(l.anchor.Counters)
	return &l, nil
}

// begin reads the header.
func (r *anchorReader) begin(b []byte) error {
	*r = anchorReader{at: make(map[keystore.EventID]int)}
	switch {
	case len(b) == 0:
		return r.bad("empty")
	case len(b) < anchorHeader:
		return r.bad("cut short: %d bytes", len(b))
	case string(b[:8]) != anchorMagic:
		return r.bad("altered, or no anchor at all: it does not begin like one")
	}
	if v := binary.BigEndian.Uint16(b[8:]); v > anchorVersion {
		return r.bad("of the newer version %d: use a newer oubli", v)
	}
	if sum := sha256.Sum256(b[:28]); !bytes.Equal(sum[:], b[28:anchorHeader]) {
		return r.bad("altered: the checksum of its header does not fit")
	}
	if binary.BigEndian.Uint16(b[8:]) != anchorVersion || binary.BigEndian.Uint16(b[10:]) != 0 {
		return r.bad("altered: its header cannot be")
	}
	copy(r.log.store[:], b[12:])
	r.read = slices.Clone(b[:anchorHeader])
	return nil
}

// bad forgets what was read and says in which way the log is wrong.
func (r *anchorReader) bad(format string, a ...any) error {
	*r = anchorReader{}
	return fmt.Errorf("%w: it is %s", keystore.ErrTampered, fmt.Sprintf(format, a...))
}

// recordAt returns the length of the whole record at off, or 0.
func recordAt(b []byte, off int, store keystore.StoreID) int {
	r := b[off:]
	if len(r) < recordFrame || string(r[:4]) != recordMarker {
		return 0
	}
	body := uint64(binary.BigEndian.Uint32(r[4:]))
	if body > uint64(len(r)-recordFrame) {
		return 0
	}
	end := 8 + int(body)
	if sum := recordSum(store, int64(off), r[:end]); !bytes.Equal(sum[:], r[end:end+sha256.Size]) {
		return 0
	}
	return end + sha256.Size
}

func wholeRecordAfter(b []byte, off int, store keystore.StoreID) bool {
	for off++; off < len(b); off++ {
		i := bytes.Index(b[off:], []byte(recordMarker))
		if i < 0 {
			return false
		}
		if off += i; recordAt(b, off, store) > 0 {
			return true
		}
	}
	return false
}

// apply adds what one record says. A tombstone that is dropped loses its event in the
// list, and its place in at.
func (l *anchorLog) apply(body []byte, at map[keystore.EventID]int) error {
	sections, err := parseSections(body)
	if err != nil {
		return fmt.Errorf("altered: %w", err)
	}
	for _, s := range sections {
		if s.tag >= optionalTag {
			l.extra = append(l.extra, section{s.tag, s.version, slices.Clone(s.data)})
			continue
		}
		if s.tag < tagAnchor || s.tag > tagDropped || s.version != sectionVersion {
			return fmt.Errorf("of a newer version (section %d.%d): use a newer oubli", s.tag, s.version)
		}
		switch s.tag {
		case tagAnchor:
			a, ok := decodeAnchorSection(s.data)
			if !ok {
				return fmt.Errorf("altered: an anchor does not parse")
			}
			l.anchor = l.anchor.Higher(a)
		case tagTombstone:
			t, ok := decodeTombstone(s.data)
			if !ok {
				return fmt.Errorf("altered: a tombstone does not parse")
			}
			if _, have := at[t.Event]; !have {
				at[t.Event] = len(l.tombstones)
				l.tombstones = append(l.tombstones, t)
			}
		case tagDropped:
			if len(s.data)%16 != 0 {
				return fmt.Errorf("altered: an event is cut")
			}
			for d := s.data; len(d) > 0; d = d[16:] {
				if i, have := at[keystore.EventID(d)]; have {
					l.tombstones[i].Event = keystore.EventID{}
					delete(at, keystore.EventID(d))
				}
			}
		}
	}
	return nil
}

func anchorSection(a keystore.Anchor) section {
	b := binary.BigEndian.AppendUint64(nil, a.Epoch)
	b = binary.BigEndian.AppendUint64(b, a.Advances)
	b = binary.BigEndian.AppendUint64(b, a.LedgerSize)
	b = append(b, a.LedgerHead[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(a.Counters)))
	for _, c := range a.Counters {
		b = binary.BigEndian.AppendUint64(b, c)
	}
	return section{tagAnchor, sectionVersion, b}
}

func decodeAnchorSection(b []byte) (keystore.Anchor, bool) {
	r := reader{b: b}
	a := keystore.Anchor{Epoch: r.u64(), Advances: r.u64(), LedgerSize: r.u64()}
	copy(a.LedgerHead[:], r.take(32))
	n := int(r.u16())
	if n*8 != len(r.b) {
		return a, false
	}
	for range n {
		a.Counters = append(a.Counters, r.u64())
	}
	return a, r.done()
}

func tombstoneSections(ts []keystore.Tombstone) []section {
	var out []section
	for _, t := range ts {
		b := append([]byte(nil), t.Event[:]...)
		b = append(b, t.Page, 0)
		if t.Erased {
			b[17] = 1
		}
		b = binary.BigEndian.AppendUint64(b, t.Counter)
		b = binary.BigEndian.AppendUint64(b, uint64(t.At.Unix()))
		b = binary.BigEndian.AppendUint32(b, uint32(t.At.Nanosecond()))
		b = appendText(b, t.Subject.String())
		b = binary.BigEndian.AppendUint32(b, uint32(len(t.Keys)))
		for _, k := range t.Keys {
			b = binary.BigEndian.AppendUint32(b, k)
		}
		b = appendTexts(b, t.Keep)
		b = appendTexts(b, t.Gone)
		out = append(out, section{tagTombstone, sectionVersion, b})
	}
	return out
}

func decodeTombstone(b []byte) (keystore.Tombstone, bool) {
	r := reader{b: b}
	var t keystore.Tombstone
	copy(t.Event[:], r.take(16))
	t.Page = r.u8()
	flags := r.u8()
	t.Erased = flags == 1
	t.Counter = r.u64()
	sec, nsec := int64(r.u64()), r.u32()
	t.At = time.Unix(sec, int64(nsec)).UTC()
	subject, err := keystore.ParseSubject(r.text(), keystore.AllowAt())
	t.Subject = subject
	n := uint64(r.u32())
	if err != nil || flags > 1 || nsec >= 1e9 || n*4 > uint64(len(r.b)) || t.Event == (keystore.EventID{}) {
		return t, false
	}
	for range n {
		t.Keys = append(t.Keys, r.u32())
	}
	t.Keep, t.Gone = r.texts(), r.texts()
	return t, r.done()
}

func droppedSection(ts []keystore.Tombstone) section {
	var b []byte
	for _, t := range ts {
		b = append(b, t.Event[:]...)
	}
	return section{tagDropped, sectionVersion, b}
}
