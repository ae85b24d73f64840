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

// rootFile is what stands in one mirror's PATH. Integers are big-endian:
//
//	offset  size
//	0       8     magic "oubliRT\n"
//	8       2     version, 1
//	10      2     reserved, 0
//	12      4     length of the whole file in bytes, a multiple of 4096
//	16      16    store id
//	32            sections, to the end of the file less 32 bytes
//	-32     32    SHA-256 over all that precedes
//
// A section is: tag (2), version of the section (2), length (4), bytes. Tags:
//
//	1       roots, in the order in which they were added; each id (16), epoch (8),
//	        created (8, seconds since 1970), key (32)
//	2       ids remembered as destroyed, 16 each, the latest last, at most 1024
//	0xffff  padding, zeros
//
// Unknown tags from 0x8000 on are kept; others, and unknown versions, are refused as
// being of a newer version.
type rootFile struct {
	store     keystore.StoreID
	living    []keystore.Root
	destroyed []keystore.RootID
	extra     []section
}

const (
	rootMagic      = "oubliRT\n"
	rootVersion    = 1
	rootHeader     = 32
	rootBlock      = 4096 // sizes are multiples of it, so that overwriting leaves no slack
	rootSize       = 64   // one root
	maxDestroyed   = 1024
	maxRootFile    = 64 << 20
	tagRoots       = 1
	tagDestroyed   = 2
	tagPadding     = 0xffff
	sectionVersion = 1
)

// encode returns the bytes of f, at least atLeast of them.
func (f *rootFile) encode(atLeast int) []byte {
	need := rootHeader + 2*sectionHeader + rootSize*len(f.living) + 16*len(f.destroyed) + sectionHeader + sha256.Size
	for _, s := range f.extra {
		need += sectionHeader + len(s.data)
	}
	size := (max(need, atLeast) + rootBlock - 1) / rootBlock * rootBlock

	b := make([]byte, 0, size) // never grown: a copy left behind would hold keys
	b = append(b, rootMagic...)
	b = binary.BigEndian.AppendUint16(b, rootVersion)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	b = append(b, f.store[:]...)

	b = appendSection(b, section{tag: tagRoots, version: sectionVersion})
	binary.BigEndian.PutUint32(b[len(b)-4:], uint32(rootSize*len(f.living)))
	for i := range f.living {
		r := &f.living[i]
		b = append(b, r.ID[:]...)
		b = binary.BigEndian.AppendUint64(b, r.Epoch)
		b = binary.BigEndian.AppendUint64(b, uint64(r.Created.Unix()))
		b = append(b, r.Key[:]...)
	}
	b = appendSection(b, section{tag: tagDestroyed, version: sectionVersion})
	binary.BigEndian.PutUint32(b[len(b)-4:], uint32(16*len(f.destroyed)))
	for _, id := range f.destroyed {
		b = append(b, id[:]...)
	}
	for _, s := range f.extra {
		b = appendSection(b, s)
	}
	pad := size - len(b) - sectionHeader - sha256.Size
	b = appendSection(b, section{tag: tagPadding, version: sectionVersion, data: make([]byte, pad)})
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// decodeRoot reads what encode wrote. The error says in which way b is wrong and wraps
// [keystore.ErrTampered].
func decodeRoot(b []byte) (*rootFile, error) {
	bad := func(format string, a ...any) (*rootFile, error) {
		return nil, fmt.Errorf("%w: it is %s", keystore.ErrTampered, fmt.Sprintf(format, a...))
	}
	switch {
	case len(b) == 0:
		return bad("empty")
	case len(b) < rootHeader:
		return bad("cut short: %d bytes", len(b))
	case string(b[:8]) != rootMagic:
		return bad("altered, or no root file at all: it does not begin like one")
	}
	if v := binary.BigEndian.Uint16(b[8:]); v > rootVersion {
		return bad("of the newer version %d: use a newer oubli", v)
	}
	size := uint64(binary.BigEndian.Uint32(b[12:]))
	switch {
	case uint64(len(b)) < size:
		return bad("cut short: %d of %d bytes", len(b), size)
	case uint64(len(b)) > size || size < rootHeader+sha256.Size:
		return bad("altered: %d bytes, where it says %d", len(b), size)
	}
	body := b[:size-sha256.Size]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[size-sha256.Size:]) {
		return bad("altered: its checksum does not fit")
	}
	if binary.BigEndian.Uint16(b[8:]) != rootVersion || binary.BigEndian.Uint16(b[10:]) != 0 {
		return bad("altered: its header cannot be")
	}
	sections, err := parseSections(body[rootHeader:])
	if err != nil {
		return bad("altered: %v", err)
	}
	f := &rootFile{}
	copy(f.store[:], b[16:])
	seen := make(map[uint16]bool)
	for _, s := range sections {
		known := s.tag == tagRoots || s.tag == tagDestroyed || s.tag == tagPadding
		if s.tag < optionalTag && !known || known && s.version != sectionVersion {
			return bad("of a newer version (section %d.%d): use a newer oubli", s.tag, s.version)
		}
		if known && seen[s.tag] {
			return bad("altered: section %d stands twice", s.tag)
		}
		seen[s.tag] = true
		switch s.tag {
		case tagRoots:
			f.living, err = decodeRoots(s.data)
		case tagDestroyed:
			f.destroyed, err = decodeIDs(s.data)
		case tagPadding:
		default:
			f.extra = append(f.extra, section{s.tag, s.version, slices.Clone(s.data)})
		}
		if err != nil {
			return bad("altered: %v", err)
		}
	}
	if !seen[tagRoots] || !seen[tagDestroyed] {
		return bad("altered: a section is missing")
	}
	return f, nil
}

func decodeRoots(b []byte) ([]keystore.Root, error) {
	if len(b)%rootSize != 0 {
		return nil, fmt.Errorf("a root is cut")
	}
	var out []keystore.Root
	for ; len(b) > 0; b = b[rootSize:] {
		r := keystore.Root{
			ID:      keystore.RootID(b[:16]),
			Epoch:   binary.BigEndian.Uint64(b[16:]),
			Created: time.Unix(int64(binary.BigEndian.Uint64(b[24:])), 0).UTC(),
			Key:     keystore.Secret(b[32:64]),
		}
		if slices.ContainsFunc(out, func(o keystore.Root) bool { return o.ID == r.ID }) {
			return nil, fmt.Errorf("root %s stands twice", r.ID)
		}
		out = append(out, r)
	}
	return out, nil
}

func decodeIDs(b []byte) ([]keystore.RootID, error) {
	if len(b)%16 != 0 {
		return nil, fmt.Errorf("an id is cut")
	}
	var out []keystore.RootID
	for ; len(b) > 0; b = b[16:] {
		out = append(out, keystore.RootID(b))
	}
	return out, nil
}

// root returns the root with this id, or nil.
func (f *rootFile) root(id keystore.RootID) *keystore.Root {
	for i := range f.living {
		if f.living[i].ID == id {
			return &f.living[i]
		}
	}
	return nil
}

// without returns f less the roots with these ids, which it remembers as destroyed.
func (f *rootFile) without(ids []keystore.RootID) *rootFile {
	out := *f
	out.living = nil
	for _, r := range f.living {
		if !slices.Contains(ids, r.ID) {
			out.living = append(out.living, r)
		}
	}
	out.destroyed = slices.Clone(f.destroyed)
	for _, id := range ids {
		if !slices.Contains(out.destroyed, id) {
			out.destroyed = append(out.destroyed, id)
		}
	}
	out.destroyed = latest(out.destroyed)
	return &out
}

// latest bounds the ids remembered as destroyed.
func latest(ids []keystore.RootID) []keystore.RootID {
	return ids[max(0, len(ids)-maxDestroyed):]
}
