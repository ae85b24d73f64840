package keystore

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// Where records stand. The first byte of a key is the page, so that everything of one
// page is one range; what belongs to no page stands under the byte ff.
//
//	page  'k'                    the page: its shard keys
//	page  'c'                    its change counter
//	page  'w'  counter (8)       its worklist, one record an event
//	page  'r'  shard (2) subject its rings
//	ff    'e'                    the epoch record
//	ff    'n'  kind              the recorded receivers of a kind
//	ff    'b'  id (16)           what was asked for several subjects at once
const (
	kindPage     = 'k'
	kindCounter  = 'c'
	kindWork     = 'w'
	kindRing     = 'r'
	kindEpoch    = 'e'
	kindReceiver = 'n'
	kindBatch    = 'b'
	globalPage   = 0xff

	maxPages      = 32
	maxShards     = 1 << 16
	defaultShards = 8192
)

// layout places subjects in shards and pages. It is fixed when a keystore is made.
type layout struct {
	shards int
	pages  int
	shift  uint // shard >> shift is the page
}

func newLayout(shards int) layout {
	pages := min(shards, maxPages)
	return layout{shards: shards, pages: pages, shift: uint(bits.TrailingZeros(uint(shards / pages)))}
}

// shard spreads subjects by a cryptographic hash: nobody can choose ids that crowd one.
func (l layout) shard(s Subject) uint16 {
	var buf [MaxKind + MaxID + 1]byte
	h := sha256.Sum256(append(buf[:0], s.text...))
	return binary.BigEndian.Uint16(h[:]) & uint16(l.shards-1)
}

func (l layout) page(shard uint16) uint8 { return uint8(shard >> l.shift) }

// perPage is the number of shards in a page, firstShard the first of them.
func (l layout) perPage() int                 { return l.shards / l.pages }
func (l layout) firstShard(page uint8) uint16 { return uint16(page) << l.shift }

var epochKey = []byte{globalPage, kindEpoch}

func pageKey(page uint8) []byte    { return []byte{page, kindPage} }
func counterKey(page uint8) []byte { return []byte{page, kindCounter} }

func workKey(page uint8, counter uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{page, kindWork}, counter)
}

func (l layout) ringKey(shard uint16, s Subject) []byte {
	k := make([]byte, 0, 4+len(s.text))
	k = append(k, l.page(shard), kindRing)
	k = binary.BigEndian.AppendUint16(k, shard)
	return append(k, s.text...)
}

// shardRange is where the rings of a shard stand; ringRange those of a whole page.
func (l layout) shardRange(shard uint16) (from, to []byte) {
	from = binary.BigEndian.AppendUint16([]byte{l.page(shard), kindRing}, shard)
	if shard == 0xffff {
		return from, []byte{l.page(shard), kindRing + 1}
	}
	return from, binary.BigEndian.AppendUint16([]byte{l.page(shard), kindRing}, shard+1)
}

func ringRange(page uint8) (from, to []byte) {
	return []byte{page, kindRing}, []byte{page, kindRing + 1}
}

func workRange(page uint8) (from, to []byte) {
	return []byte{page, kindWork}, []byte{page, kindWork + 1}
}

func receiverKey(kind string) []byte {
	return append([]byte{globalPage, kindReceiver}, kind...)
}

func batchKey(id BatchID) []byte {
	return append([]byte{globalPage, kindBatch}, id[:]...)
}

// splitRingKey takes a ring's key apart; ok is false for what is no ring key.
func splitRingKey(k []byte) (shard uint16, s Subject, ok bool) {
	if len(k) < 6 || k[1] != kindRing {
		return 0, Subject{}, false
	}
	s, err := ParseSubject(string(k[4:]), AllowAt())
	return binary.BigEndian.Uint16(k[2:]), s, err == nil
}
