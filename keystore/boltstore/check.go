package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"

	"github.com/oubli/oubli/keystore"
)

// The layout of a bbolt file, version 2, in the byte order of the machine: pages with
// a header (id 8, flags 2, count 2, overflow 4), then count elements, then, without
// gaps, what the elements point to. Pages 0 and 1 are two versions of the meta page.
const (
	pageHeader    = 16
	branchElement = 16 // pos 4, key size 4, page id 8
	leafElement   = 16 // flags 4, pos 4, key size 4, value size 4
	metaSize      = 64 // magic 4, version 4, page size 4, flags 4, root 8, sequence 8, free list 8, pages in use 8, transaction 8, checksum 8
	bucketHeader  = 16 // root page 8, sequence 8; an inline page follows if root is 0

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf element

	boltMagic   = 0xED0CDAED
	boltVersion = 2
	noFreelist  = ^uint64(0)
	maxDepth    = 64
)

var native = binary.NativeEndian

// image is a bbolt file as seen by ordinary reads.
type image struct {
	f        io.ReaderAt
	pageSize int
	pages    uint64   // in use: ids below
	seen     []uint64 // a bit for each page that something referred to
	sum      uint64   // of the revisions of all records
	prev     []byte   // the last key
	buffers  [maxDepth + 2][]byte
}

// meta is what a meta page says.
type meta struct {
	pageSize                    int
	root, freelist, pages, txid uint64
}

// checkFile tells whether the file can be handed to bbolt: it reads everything that
// the newest transaction refers to. An error wraps ErrTampered, or is a read error.
func checkFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := checkImage(f, info.Size()); err != nil {
		var bad badFile
		if errors.As(err, &bad) {
			return fmt.Errorf("%w: %w", keystore.ErrTampered, err)
		}
		return err
	}
	return nil
}

// badFile says what is wrong with a file, as against an error in reading it.
type badFile string

func (b badFile) Error() string { return string(b) }

func bad(format string, args ...any) error { return badFile(fmt.Sprintf(format, args...)) }

func checkImage(f io.ReaderAt, size int64) error {
	if size == 0 {
		return bad("the file is empty")
	}
	m, err := readMetas(f, size)
	if err != nil {
		return err
	}
	if m.pages < 2 || m.pages > uint64(size)/uint64(m.pageSize) {
		return bad("the file was cut: %d bytes, of %d pages of %d bytes", size, m.pages, m.pageSize)
	}
	img := &image{f: f, pageSize: m.pageSize, pages: m.pages, seen: make([]uint64, m.pages/64+1)}
	img.mark(0, 0)
	img.mark(1, 0)
	want, err := img.root(m.root)
	if err != nil {
		return err
	}
	if img.sum != want {
		return bad("a record is missing or from an earlier state")
	}
	if m.freelist != noFreelist {
		return img.freelist(m.freelist)
	}
	return nil
}

// readMetas returns the newer meta page. bbolt falls back to the older one when the
// newer is damaged, which would undo an acknowledged commit; so both must be whole.
// A meta page's content lies within one sector: a loss of power does not tear it.
func readMetas(f io.ReaderAt, size int64) (meta, error) {
	first, err := readMeta(f, 0, size)
	if err != nil {
		return meta{}, err
	}
	second, err := readMeta(f, int64(first.pageSize), size)
	if err != nil {
		return meta{}, err
	}
	if second.pageSize != first.pageSize {
		return meta{}, bad("the two meta pages differ in page size")
	}
	if second.txid > first.txid {
		return second, nil
	}
	return first, nil
}

func readMeta(f io.ReaderAt, at, size int64) (meta, error) {
	var buf [pageHeader + metaSize]byte
	if at+int64(len(buf)) > size {
		return meta{}, bad("the file was cut within its meta pages: %d bytes", size)
	}
	if _, err := f.ReadAt(buf[:], at); err != nil {
		return meta{}, err
	}
	b := buf[pageHeader:]
	if native.Uint32(b) != boltMagic || native.Uint32(b[4:]) != boltVersion {
		return meta{}, bad("not a bolt file, or its meta page at byte %d is damaged", at)
	}
	h := fnv.New64a()
	h.Write(b[:metaSize-8])
	if native.Uint64(b[metaSize-8:]) != h.Sum64() || native.Uint16(buf[8:]) != flagMeta {
		return meta{}, bad("the meta page at byte %d is damaged; a restore with this file as the copy goes on with the other", at)
	}
	m := meta{
		pageSize: int(native.Uint32(b[8:])),
		root:     native.Uint64(b[16:]),
		freelist: native.Uint64(b[32:]),
		pages:    native.Uint64(b[40:]),
		txid:     native.Uint64(b[48:]),
	}
	if m.pageSize < 512 || m.pageSize > 1<<16 || m.pageSize&(m.pageSize-1) != 0 {
		return meta{}, bad("pages of %d bytes", m.pageSize)
	}
	return m, nil
}

// mark notes that pages id to id+overflow are referred to; twice is an error.
func (img *image) mark(id, overflow uint64) error {
	if id >= img.pages || overflow >= img.pages-id {
		return bad("page %d with %d more lies beyond the end", id, overflow)
	}
	for p := id; p <= id+overflow; p++ {
		if img.seen[p/64]&(1<<(p%64)) != 0 {
			return bad("page %d is used twice", p)
		}
		img.seen[p/64] |= 1 << (p % 64)
	}
	return nil
}

// page is a page's content, with what its header says.
type page struct {
	id    uint64
	flags uint16
	count int
	data  []byte
}

func newPage(data []byte) page {
	return page{id: native.Uint64(data), flags: native.Uint16(data[8:]), count: int(native.Uint16(data[10:])), data: data}
}

// read reads page id with its overflow and marks it. The page is good until another
// one of the same depth is read.
func (img *image) read(id uint64, depth int) (page, error) {
	if id < 2 || id >= img.pages {
		return page{}, bad("page %d is referred to, there are %d", id, img.pages)
	}
	if img.buffers[depth] == nil {
		img.buffers[depth] = make([]byte, img.pageSize)
	}
	buf := img.buffers[depth]
	at := int64(id) * int64(img.pageSize)
	if _, err := img.f.ReadAt(buf, at); err != nil {
		return page{}, err
	}
	overflow := uint64(native.Uint32(buf[12:]))
	if err := img.mark(id, overflow); err != nil {
		return page{}, err
	}
	if overflow > 0 {
		rest := make([]byte, overflow*uint64(img.pageSize))
		if _, err := img.f.ReadAt(rest, at+int64(img.pageSize)); err != nil {
			return page{}, err
		}
		buf = slices.Concat(buf, rest)
	}
	p := newPage(buf)
	if p.id != id {
		return page{}, bad("page %d calls itself %d", id, p.id)
	}
	return p, nil
}

// element is one entry of a branch or leaf page.
type element struct {
	flags      uint32
	child      uint64
	key, value []byte
}

// elements checks the layout of p, which must be as bbolt writes it, without gaps,
// and passes its entries to f.
func (p page) elements(f func(i int, e element) error) error {
	if p.flags != flagBranch && p.flags != flagLeaf {
		return bad("page %d has type %x where the tree goes on", p.id, p.flags)
	}
	next := pageHeader + p.count*leafElement
	if next > len(p.data) {
		return bad("page %d has %d entries, more than it can hold", p.id, p.count)
	}
	for i := range p.count {
		at := pageHeader + i*leafElement
		var e element
		var pos, ksize, vsize int
		if b := p.data[at:]; p.flags == flagBranch {
			pos, ksize = int(native.Uint32(b)), int(native.Uint32(b[4:]))
			e.child = native.Uint64(b[8:])
		} else {
			e.flags = native.Uint32(b)
			pos, ksize, vsize = int(native.Uint32(b[4:])), int(native.Uint32(b[8:])), int(native.Uint32(b[12:]))
		}
		if at+pos != next || ksize == 0 || ksize > len(p.data)-next || vsize > len(p.data)-next-ksize {
			return bad("entry %d of page %d lies where it cannot", i, p.id)
		}
		e.key = p.data[next : next+ksize]
		e.value = p.data[next+ksize : next+ksize+vsize]
		next += ksize + vsize
		if err := f(i, e); err != nil {
			return err
		}
	}
	return nil
}

// root checks the tree of buckets, which has one leaf with our bucket, and then the
// records in it. It returns the sum of revisions that the bucket notes.
func (img *image) root(id uint64) (sum uint64, err error) {
	p, err := img.read(id, maxDepth+1)
	if err != nil {
		return 0, err
	}
	if p.flags != flagLeaf || p.count != 1 {
		return 0, bad("it is a bolt file, but not a keystore")
	}
	var bucket []byte
	err = p.elements(func(_ int, e element) error {
		if e.flags != flagBucket || !bytes.Equal(e.key, bucketName) || len(e.value) < bucketHeader {
			return bad("it is a bolt file, but not a keystore")
		}
		bucket = e.value
		return nil
	})
	if err != nil {
		return 0, err
	}
	sum = native.Uint64(bucket[8:])
	if top := native.Uint64(bucket); top != 0 {
		return sum, img.walk(top, nil, nil, 0)
	}
	inline := bucket[bucketHeader:]
	if len(inline) < pageHeader {
		return 0, bad("the inline bucket is cut")
	}
	in := newPage(inline)
	if in.flags != flagLeaf || in.id != 0 || native.Uint32(inline[12:]) != 0 {
		return 0, bad("the inline bucket is damaged")
	}
	return sum, in.elements(func(_ int, e element) error { return img.record(e, nil, nil) })
}

// walk checks the tree under page id, whose keys k must have min <= k < max, where
// nil is no bound.
func (img *image) walk(id uint64, min, max []byte, depth int) error {
	if depth > maxDepth {
		return bad("the tree is deeper than %d pages", maxDepth)
	}
	p, err := img.read(id, depth)
	if err != nil {
		return err
	}
	if p.count == 0 && depth > 0 {
		return bad("page %d is empty", id)
	}
	if p.flags != flagBranch {
		return p.elements(func(_ int, e element) error { return img.record(e, min, max) })
	}
	var children []element
	err = p.elements(func(i int, e element) error {
		if i > 0 && bytes.Compare(children[i-1].key, e.key) >= 0 {
			return bad("the keys of page %d are not in order", id)
		}
		children = append(children, e)
		return nil
	})
	if err != nil {
		return err
	}
	for i, e := range children {
		end := max
		if i+1 < len(children) {
			end = children[i+1].key
		}
		if err := img.walk(e.child, e.key, end, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (img *image) record(e element, min, max []byte) error {
	if e.flags != 0 {
		return bad("record %x has flags %x", e.key, e.flags)
	}
	if img.prev != nil && bytes.Compare(img.prev, e.key) >= 0 {
		return bad("record %x is not in order", e.key)
	}
	if bytes.Compare(e.key, min) < 0 || max != nil && bytes.Compare(e.key, max) >= 0 {
		return bad("record %x stands outside its range", e.key)
	}
	rev, _, err := parseRecord(e.key, e.value)
	if err != nil {
		return badFile(err.Error())
	}
	img.prev = append(img.prev[:0], e.key...)
	img.sum += uint64(rev)
	return nil
}

// freelist checks the list of free pages that other bolt tools write, since bbolt
// would give the pages on it away.
func (img *image) freelist(id uint64) error {
	p, err := img.read(id, maxDepth+1)
	if err != nil {
		return err
	}
	ids := p.data[pageHeader:]
	count := uint64(p.count)
	if p.count == 0xFFFF {
		count, ids = native.Uint64(ids), ids[8:]
	}
	if p.flags != flagFreelist || count > uint64(len(ids)/8) {
		return bad("page %d is not a list of free pages", id)
	}
	for i := range count {
		free := native.Uint64(ids[8*i:])
		if free < 2 {
			return bad("the list of free pages names page %d", free)
		}
		if err := img.mark(free, 0); err != nil {
			return err
		}
	}
	return nil
}
