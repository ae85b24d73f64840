package pgrows

import (
	"database/sql"
	"encoding/hex"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/oubli/oubli/keystore"
)

// scanner reads the rows of one result into structs. pgx.RowToStructByName finds out
// for every row which field is which column; this does so once. Texts and envelopes it
// copies itself, the rest is left to pgx's own plans.
type scanner struct {
	targets   []target
	envelopes arena
}

// target is where one column of the result goes.
type target struct {
	column *column
	read   reading
	binary bool            // as text in hexadecimal, from a bytea
	oid    uint32          // for messages
	plan   pgtype.ScanPlan // readByPlan
}

type reading uint8

const (
	readByPlan reading = iota
	readString
	readStringPointer
	readEnvelope
	notAnEnvelope
)

var (
	stringType        = reflect.TypeFor[string]()
	stringPointerType = reflect.TypeFor[*string]()
)

// newScanner plans how columns, in the order of the result, are read.
func newScanner(columns []*column, fds []pgconn.FieldDescription, m *pgtype.Map) (*scanner, error) {
	if len(columns) != len(fds) {
		return nil, fmt.Errorf("%w: the result has %d columns, the struct %d", keystore.ErrInvalid, len(fds), len(columns))
	}
	s := &scanner{targets: make([]target, len(fds))}
	for i, c := range columns {
		t := target{column: c, oid: fds[i].DataTypeOID}
		text := fds[i].Format == pgtype.TextFormatCode
		bytea := t.oid == pgtype.ByteaOID
		t.binary = bytea && text
		switch {
		case c.hold != holdsNone && !bytea && !text && !isText(t.oid):
			t.read = notAnEnvelope
		case c.hold != holdsNone:
			t.read = readEnvelope
		case c.typ == stringType && isText(t.oid):
			t.read = readString
		case c.typ == stringPointerType && isText(t.oid):
			t.read = readStringPointer
		default:
			t.plan = m.PlanScan(t.oid, fds[i].Format, reflect.New(c.typ).Interface())
		}
		s.targets[i] = t
	}
	return s, nil
}

// isText tells whether the binary format of a type is its text.
func isText(oid uint32) bool {
	switch oid {
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID:
		return true
	}
	return false
}

// scan reads a row. What it leaves there does not alias values.
func (s *scanner) scan(row unsafe.Pointer, values [][]byte) error {
	if len(values) != len(s.targets) {
		return fmt.Errorf("%w: the row has %d values, its description %d", keystore.ErrInvalid, len(values), len(s.targets))
	}
	for i := range s.targets {
		t := &s.targets[i]
		if err := t.scan(&s.envelopes, unsafe.Add(row, t.column.offset), values[i]); err != nil {
			return fmt.Errorf("field %s: %w", t.column.field, err)
		}
	}
	return nil
}

func (t *target) scan(a *arena, at unsafe.Pointer, value []byte) (err error) {
	switch t.read {
	case readString:
		if value == nil {
			return errNull
		}
		*(*string)(at) = string(value)
	case readStringPointer:
		if *(**string)(at) = nil; value != nil {
			text := string(value)
			*(**string)(at) = &text
		}
	case readEnvelope:
		if t.binary && value != nil {
			if value, err = unhex(value); err != nil {
				return err
			}
		}
		return t.envelope(a, at, value)
	case notAnEnvelope:
		return fmt.Errorf("%w: it is personal, and its column of type OID %d is neither text nor bytea", keystore.ErrInvalid, t.oid)
	default:
		return t.plan.Scan(value, reflect.NewAt(t.column.typ, at).Interface())
	}
	return nil
}

// envelope stores what is in a personal column, which the codec looks at.
func (t *target) envelope(a *arena, at unsafe.Pointer, value []byte) error {
	switch t.column.hold {
	case holdsString:
		if value == nil {
			return errNull
		}
		*(*string)(at) = a.string(value)
	case holdsStringPointer:
		if *(**string)(at) = nil; value != nil {
			*(**string)(at) = a.pointer(value)
		}
	case holdsBytes:
		if *(*[]byte)(at) = nil; value != nil {
			*(*[]byte)(at) = a.bytes(value)
		}
	case holdsPrivate:
		p := reflect.NewAt(t.column.typ, at).Interface().(sql.Scanner)
		if value == nil {
			return p.Scan(nil)
		}
		return p.Scan(a.string(value))
	}
	return nil
}

var errNull = fmt.Errorf("%w: the column is NULL, which a string cannot be: make the field a *string", keystore.ErrInvalid)

// unhex reads a bytea as it stands in the text format.
func unhex(value []byte) ([]byte, error) {
	if len(value) < 2 || string(value[:2]) != `\x` {
		return nil, fmt.Errorf(`%w: the bytea is not in hexadecimal: leave the server's bytea_output at hex`, keystore.ErrInvalid)
	}
	out := make([]byte, hex.DecodedLen(len(value)-2))
	if _, err := hex.Decode(out, value[2:]); err != nil {
		return nil, fmt.Errorf("%w: the bytea is not in hexadecimal", keystore.ErrTampered)
	}
	return out, nil
}

// arena holds what was read of personal columns. Opening a row gives it new strings, so
// all of this is garbage together, and allocating it piece by piece would cost as much
// as opening. Memory once handed out is never written again.
type arena struct {
	free  []byte
	heads []string
	size  int
}

const maxChunk = 16 << 10

func (a *arena) bytes(b []byte) []byte {
	if len(b) == 0 {
		return []byte{} // never nil, which is NULL
	}
	if len(b) > cap(a.free)-len(a.free) {
		a.size = min(max(2*a.size, 512), maxChunk)
		a.free = make([]byte, 0, max(a.size, len(b)))
	}
	from := len(a.free)
	a.free = append(a.free, b...)
	return a.free[from:len(a.free):len(a.free)]
}

func (a *arena) string(b []byte) string {
	c := a.bytes(b)
	return unsafe.String(unsafe.SliceData(c), len(c))
}

func (a *arena) pointer(b []byte) *string {
	if len(a.heads) == cap(a.heads) {
		a.heads = make([]string, 0, min(max(2*cap(a.heads), 1), 256))
	}
	a.heads = append(a.heads, a.string(b))
	return &a.heads[len(a.heads)-1]
}
