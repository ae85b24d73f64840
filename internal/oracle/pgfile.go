package oracle

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/oubli/oubli/keystore"
)

// PGFiles finds the records of package pgstore that stand anywhere in the files of
// PostgreSQL servers: living, deleted or overtaken, in heaps, TOAST tables, write-ahead
// logs with their full-page images, and copies of all of these. It is not safe for
// concurrent use.
//
// It does not follow the structures of PostgreSQL, which would lead to what the server
// still knows of. It looks for the columns of a row at every single byte, and joins only
// what lies apart: the pages of the log, between which headers stand, and the chunks of a
// value in a TOAST table. What by chance looks like a record opens with no key.
type PGFiles struct {
	seed   maphash.Seed
	blocks map[[2]uint64]bool  // hashes of two blocks in a row that were looked at
	log    map[uint64][]pgPage // what stood at an address of the log

	rows   map[string]keystore.Record
	toast  map[pgPointer]bool
	chunks map[pgChunk][][]byte // more than one where a number was given twice, on two time lines
	copies map[pgCopy]bool      // what chunks has
}

// pgPointer is a row whose value stands in a TOAST table.
type pgPointer struct {
	key string
	rev keystore.Rev
	at  [16]byte // sizes of the value, raw and stored, its number, the table's number
}

type pgChunk struct{ value, seq uint32 }

type pgCopy struct {
	pgChunk
	hash uint64
}

type pgPage struct {
	hash uint64
	body []byte // without the header
}

const (
	pgBlock = 8192
	pgPiece = 1996 // of a value, in each chunk but the last
)

// NewPGFiles returns one that has seen no file.
func NewPGFiles() *PGFiles {
	return &PGFiles{seed: maphash.MakeSeed(), blocks: map[[2]uint64]bool{}, log: map[uint64][]pgPage{},
		rows: map[string]keystore.Record{}, toast: map[pgPointer]bool{}, chunks: map[pgChunk][][]byte{}, copies: map[pgCopy]bool{}}
}

// Add looks at every file below dir, which a server may be writing to.
func (p *PGFiles) Add(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = p.file(path)
		}
		if os.IsNotExist(err) && path != dir {
			return nil // removed meanwhile
		}
		return err
	})
}

func (p *PGFiles) file(path string) error {
	file, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for here := p.hash(file); len(file) > 0; {
		b := file[:min(pgBlock, len(file))]
		file = file[len(b):]
		next := p.hash(file)
		if address, body, ok := logPage(b); ok {
			if !slices.ContainsFunc(p.log[address], func(o pgPage) bool { return o.hash == here }) {
				p.log[address] = append(p.log[address], pgPage{here, bytes.Clone(body)})
			}
		} else if p.fresh(here, next) {
			p.scan(b[:len(b)+min(pgBlock, len(file))], len(b))
		}
		here = next
	}
	return nil
}

// hash returns the hash of what a file goes on with, up to a block.
func (p *PGFiles) hash(file []byte) uint64 {
	return maphash.Bytes(p.seed, file[:min(pgBlock, len(file))])
}

// fresh tells, once, whether two blocks in a row were not looked at yet.
func (p *PGFiles) fresh(b, next uint64) bool {
	known := p.blocks[[2]uint64{b, next}]
	p.blocks[[2]uint64{b, next}] = true
	return !known
}

// logPage takes a page of the write-ahead log from its header, which holds a magic
// number, flags, time line and address, and more in the first page of a file.
func logPage(b []byte) (address uint64, body []byte, ok bool) {
	if len(b) != pgBlock || b[1] != 0xd1 || b[3] != 0 {
		return 0, nil, false
	}
	if address = binary.LittleEndian.Uint64(b[8:]); address%pgBlock != 0 {
		return 0, nil, false
	}
	if b[2]&2 != 0 {
		return address, b[40:], true
	}
	return address, b[24:], true
}

// scan looks at everything that begins in the first n bytes of b. Nothing here runs at
// once with anything else, so the race detector is spared every byte.
//
//go:norace
func (p *PGFiles) scan(b []byte, n int) {
	for i := 0; i < n && i+12 < len(b); i++ {
		if b[i+9] == 0 && (b[i+8] < 32 || b[i+8] == 0xff) {
			p.row(b[i:])
		}
		if b[i+11] == 0 && b[i+10] == 0 && b[i+8]&3 == 0 && b[i+9] < 32 {
			p.chunk(b[i:])
		}
	}
}

// row reads the columns rev, page, key and value, if b begins with some.
//
//go:norace
func (p *PGFiles) row(b []byte) {
	rev, in := binary.LittleEndian.Uint64(b), pgColumns{b: b, at: 10}
	key, _ := in.bytes()
	if rev == 0 || !pgKey(b[8], key) {
		return
	}
	key = append([]byte{b[8]}, key...)
	switch value, external := in.bytes(); {
	case in.bad:
	case external:
		p.toast[pgPointer{key: string(key), rev: keystore.Rev(rev), at: [16]byte(value)}] = true
	default:
		p.record(keystore.Record{Key: key, Value: bytes.Clone(value), Rev: keystore.Rev(rev)})
	}
}

func (p *PGFiles) record(rec keystore.Record) {
	id := string(binary.BigEndian.AppendUint64(nil, uint64(rec.Rev))) + string(rec.Key) + "\x00" + string(rec.Value)
	p.rows[id] = rec
}

// AddDump looks at what pg_dump wrote as text: the rows of COPY.
func (p *PGFiles) AddDump(text []byte) {
	for line := range bytes.Lines(text) {
		columns := bytes.Split(bytes.TrimSuffix(line, []byte("\n")), []byte("\t"))
		if len(columns) != 4 {
			continue
		}
		rev, err := strconv.ParseInt(string(columns[0]), 10, 64)
		page, err2 := strconv.ParseUint(string(columns[1]), 10, 8)
		key, err3 := hex.DecodeString(strings.TrimPrefix(string(columns[2]), `\\x`))
		value, err4 := hex.DecodeString(strings.TrimPrefix(string(columns[3]), `\\x`))
		if errors.Join(err, err2, err3, err4) == nil && pgKey(byte(page), key) {
			p.record(keystore.Record{Key: append([]byte{byte(page)}, key...), Value: value, Rev: keystore.Rev(rev)})
		}
	}
}

// pgKey tells whether a keystore uses a key: docs/format.md lists them.
func pgKey(page byte, key []byte) bool {
	if len(key) == 0 {
		return false
	}
	if page == 0xff {
		return key[0] == 'e' && len(key) == 1 || key[0] == 'n' || key[0] == 'b' && len(key) == 17
	}
	switch key[0] {
	case 'k', 'c':
		return len(key) == 1
	case 'w':
		return len(key) == 9
	case 'r':
		return len(key) > 3 && bytes.IndexByte(key[3:], '/') > 0
	}
	return false
}

// pgColumns reads columns of variable length.
type pgColumns struct {
	b   []byte
	at  int
	bad bool
}

// bytes returns the next column, or the pointer to it. A length of up to 126 bytes is one
// odd byte. A longer one is four bytes, behind zeros up to a multiple of four.
//
//go:norace
func (in *pgColumns) bytes() (column []byte, external bool) {
	if in.bad = in.bad || in.at >= len(in.b); in.bad {
		return nil, false
	}
	h, n := in.b[in.at], 0
	switch {
	case h == 1:
		if in.bad = in.at+18 > len(in.b) || in.b[in.at+1] != 18; in.bad {
			return nil, false
		}
		in.at, n, external = in.at+2, 16, true
	case h&1 == 1:
		in.at, n = in.at+1, int(h>>1)-1
	default:
		at := in.at
		if h == 0 {
			at = (at + 3) &^ 3
		}
		if in.bad = at%4 != 0 || at+4 > len(in.b); in.bad {
			return nil, false
		}
		long := binary.LittleEndian.Uint32(in.b[at:])
		if in.bad = long&3 != 0 || long>>2 < 4 || long>>2 > pgBlock; in.bad {
			return nil, false
		}
		in.at, n = at+4, int(long>>2)-4
	}
	if in.bad = in.at+n > len(in.b); in.bad {
		return nil, false
	}
	in.at += n
	return in.b[in.at-n : in.at], external
}

// chunk reads a row of a TOAST table, if b begins with one: the value's number, which chunk
// of it this is, and its bytes.
//
//go:norace
func (p *PGFiles) chunk(b []byte) {
	c := pgChunk{value: binary.LittleEndian.Uint32(b), seq: binary.LittleEndian.Uint32(b[4:])}
	n := int(binary.LittleEndian.Uint32(b[8:])>>2) - 4
	if n < 1 || n > pgPiece || 12+n > len(b) || c.value < 1<<14 || c.seq > 1<<8 {
		return
	}
	b = b[12 : 12+n]
	if id := (pgCopy{c, maphash.Bytes(p.seed, b)}); !p.copies[id] {
		p.copies[id] = true
		p.chunks[c] = append(p.chunks[c], bytes.Clone(b))
	}
}

// Records returns all that was found so far. The same record may come with several
// revisions.
func (p *PGFiles) Records() []keystore.Record {
	for address, pages := range p.log {
		for _, page := range pages {
			next := p.log[address+pgBlock]
			if len(next) == 0 {
				next = []pgPage{{}}
			}
			for _, next := range next {
				if p.fresh(page.hash, next.hash) {
					p.scan(slices.Concat(page.body, next.body), len(page.body))
				}
			}
		}
	}

	// The log of an update leaves out what the new row ends with if the old one did, too:
	// the last bytes of a pointer. Those of other pointers tell them, which may themselves
	// have lacked some.
	type end [7]byte
	ends := map[end]bool{}
	var fresh []end
	tried := map[pgPointer]bool{}
	try := func(t pgPointer) {
		if tried[t] {
			return
		}
		tried[t] = true
		if e := end(t.at[9:]); p.fetch(t) && !ends[e] {
			ends[e], fresh = true, append(fresh, e)
		}
	}
	for t := range p.toast {
		try(t)
	}
	for len(fresh) > 0 {
		e := fresh[0]
		fresh = fresh[1:]
		for t := range p.toast {
			for n := range len(e) {
				whole := t
				copy(whole.at[9+n:], e[n:])
				try(whole)
			}
		}
	}
	var recs []keystore.Record
	for _, rec := range p.rows {
		recs = append(recs, rec)
	}
	return recs
}

// fetch adds the record of a pointer, if its value is there.
func (p *PGFiles) fetch(t pgPointer) bool {
	raw, size, value := binary.LittleEndian.Uint32(t.at[:]), binary.LittleEndian.Uint32(t.at[4:]), binary.LittleEndian.Uint32(t.at[8:])
	if raw < 4 || size != raw-4 || size > 1<<20 { // what is compressed is not of a keystore
		return false
	}
	values := [][]byte{nil}
	for seq := uint32(0); seq*pgPiece < size; seq++ {
		n := int(min(pgPiece, size-seq*pgPiece))
		var longer [][]byte
		for _, c := range p.chunks[pgChunk{value, seq}] {
			for _, v := range values {
				if len(c) == n && len(longer) < 1<<6 {
					longer = append(longer, slices.Concat(v, c))
				}
			}
		}
		values = longer
	}
	for _, v := range values {
		p.record(keystore.Record{Key: []byte(t.key), Value: v, Rev: t.rev})
	}
	return len(values) > 0
}
