package fieldcrypt

import "encoding/binary"

// The associated data of a field: every part is preceded by its length in two bytes,
// so that no two different lists of parts have the same bytes.
//
//	label, header, subject, row key     the same for all fields of a row
//	table, field, purpose                the same for all rows
const (
	aadLabel    = "oubli field 1"
	aadHeaderAt = 2 + len(aadLabel) + 2
	maxPart     = 0xFFFF
)

// appendRowAAD appends the part that the fields of a row share. The header is filled
// in by setAADHeader.
func appendRowAAD(dst []byte, subject, key string, keyed bool) []byte {
	return appendKeyAAD(appendSubjectAAD(dst, subject), key, keyed)
}

// appendSubjectAAD appends the part that all rows of a subject share.
func appendSubjectAAD(dst []byte, subject string) []byte {
	dst = appendPart(dst, aadLabel)
	dst = append(dst, 0, headerSize, 0, 0, 0, 0, 0)
	return appendPart(dst, subject)
}

func appendKeyAAD(dst []byte, key string, keyed bool) []byte {
	if !keyed {
		return append(dst, 0)
	}
	return appendPart(append(dst, 1), key)
}

// setAADHeader writes the envelope's header into associated data begun by appendRowAAD.
func setAADHeader(aad, envelope []byte) {
	copy(aad[aadHeaderAt:aadHeaderAt+headerSize], envelope[:headerSize])
}

// appendFieldAAD appends the part that belongs to a field.
func appendFieldAAD(dst []byte, table, field, purpose string) []byte {
	return appendPart(appendPart(appendPart(dst, table), field), purpose)
}

func appendPart(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}
