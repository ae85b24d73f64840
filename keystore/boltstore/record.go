package boltstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/oubli/oubli/keystore"
)

// What stands under a key in the file: the revision, 8 bytes big-endian; a CRC-32C
// over key, revision and value, 4 bytes big-endian; the value.
const recordHeader = 8 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(key, rev, value []byte) uint32 {
	sum := crc32.Update(0, castagnoli, key)
	sum = crc32.Update(sum, castagnoli, rev)
	return crc32.Update(sum, castagnoli, value)
}

// appendRecord appends what is to stand under key.
func appendRecord(dst, key []byte, rev keystore.Rev, value []byte) []byte {
	n := len(dst)
	dst = binary.BigEndian.AppendUint64(dst, uint64(rev))
	dst = binary.BigEndian.AppendUint32(dst, checksum(key, dst[n:], value))
	return append(dst, value...)
}

// parseRecord checks what stands under key. value is part of data.
func parseRecord(key, data []byte) (rev keystore.Rev, value []byte, err error) {
	if len(data) < recordHeader {
		return 0, nil, fmt.Errorf("record %x is cut: %w", key, keystore.ErrTampered)
	}
	value = data[recordHeader:]
	rev = keystore.Rev(binary.BigEndian.Uint64(data))
	if rev == 0 || binary.BigEndian.Uint32(data[8:]) != checksum(key, data[:8], value) {
		return 0, nil, fmt.Errorf("record %x does not match its checksum: %w", key, keystore.ErrTampered)
	}
	return rev, value, nil
}
