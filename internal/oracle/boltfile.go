package oracle

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/oubli/oubli/keystore"
)

// BoltRecords returns every record that stands anywhere in the bytes of a bbolt file of
// package boltstore, living, freed or overtaken. It looks at each page as if it were a
// leaf; the checksum of each record tells which really are records.
func BoltRecords(file []byte) (recs []keystore.Record) {
	for at := 0; at+16 <= len(file); at += 4096 {
		recs = append(recs, leafRecords(file[at:])...)
	}
	return recs
}

// leafRecords reads a leaf of bbolt: a header of 16 bytes with flags and count, then for
// each element its flags, and where its key begins and how long key and value are.
func leafRecords(page []byte) (recs []keystore.Record) {
	const header, element, leaf, bucket = 16, 16, 2, 1
	if len(page) < header || binary.LittleEndian.Uint16(page[8:])&leaf == 0 {
		return nil
	}
	for i := range int(binary.LittleEndian.Uint16(page[10:])) {
		at := header + i*element
		if at+element > len(page) {
			return recs
		}
		e := page[at:]
		flags, pos := binary.LittleEndian.Uint32(e), uint64(binary.LittleEndian.Uint32(e[4:]))
		nkey, nvalue := uint64(binary.LittleEndian.Uint32(e[8:])), uint64(binary.LittleEndian.Uint32(e[12:]))
		if pos+nkey+nvalue > uint64(len(e)) {
			continue
		}
		key, value := e[pos:pos+nkey], e[pos+nkey:pos+nkey+nvalue]
		if flags&bucket != 0 {
			if len(value) > 16 { // a small bucket stands in its parent, behind its own header
				recs = append(recs, leafRecords(value[16:])...)
			}
			continue
		}
		if len(value) < 12 {
			continue
		}
		sum := crc32.Update(0, crc32.MakeTable(crc32.Castagnoli), key)
		sum = crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), value[:8])
		sum = crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), value[12:])
		if sum == binary.BigEndian.Uint32(value[8:]) {
			recs = append(recs, keystore.Record{Key: bytes.Clone(key), Value: bytes.Clone(value[12:]),
				Rev: keystore.Rev(binary.BigEndian.Uint64(value))})
		}
	}
	return recs
}
