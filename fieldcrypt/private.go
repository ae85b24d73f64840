package fieldcrypt

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"

	"github.com/oubli/oubli/keystore"
)

const placeholder = "[private]"

// Status says how the personal fields of a row, or one of them, were read.
type Status string

const (
	// StatusOpen: all that was stored is readable.
	StatusOpen Status = "open"
	// StatusWithheld: something is stored that this context may not read: the person is
	// restricted, or being erased.
	StatusWithheld Status = "withheld"
	// StatusErased: something was erased for good.
	StatusErased Status = "erased"
)

// Private holds a personal value of type T: a string, []byte, bool, number, time.Time,
// encoding.TextMarshaler, or anything that JSON can hold. The zero Private is NULL.
//
// It does not show what it holds: fmt, slog, JSON and text print [private]. It is
// written to a database, or as JSON, only after a [Codec] sealed it. The value stands
// behind a pointer, which keeps it from being printed even as an unexported field.
// A Private is immutable and can be copied and shared.
type Private[T any] struct{ b *box[T] }

// box is never changed once it is made.
type box[T any] struct {
	value  T
	status Status // empty: sealed, not opened yet
	stored string // the text as stored; empty: the value is in the clear, or empty is true
	empty  bool   // an empty text is stored: NULL, but for a codec that adopts the column
}

// NewPrivate makes a Private that holds value.
func NewPrivate[T any](value T) Private[T] {
	return Private[T]{&box[T]{value: value, status: StatusOpen}}
}

// Get returns the value; ok tells whether one is there to be read. Without ok the value
// is zero, or, for an erased field, its replacement where it has one of type T.
func (p Private[T]) Get() (value T, ok bool) {
	if p.b == nil {
		return value, false
	}
	return p.b.value, p.b.status == StatusOpen
}

// IsNull tells whether no value is held, not even a sealed one.
func (p Private[T]) IsNull() bool { return p.b == nil || p.b.empty && p.b.status == "" }

// Status tells how the value was read: open, withheld or erased. It is empty for NULL
// and for what is sealed and was not opened.
func (p Private[T]) Status() Status {
	if p.b == nil {
		return ""
	}
	return p.b.status
}

// Format prints [private], whatever the verb.
func (p Private[T]) Format(f fmt.State, _ rune) { io.WriteString(f, placeholder) }

// LogValue logs [private].
func (p Private[T]) LogValue() slog.Value { return slog.StringValue(placeholder) }

// MarshalText gives [private].
func (p Private[T]) MarshalText() ([]byte, error) { return []byte(placeholder), nil }

// Value implements driver.Valuer: nil for NULL, and the envelope as a string, which is
// right for text and bytea columns. It fails while the value is in the clear, also if
// that is how the database had it, in a column that is being adopted.
func (p Private[T]) Value() (driver.Value, error) {
	switch {
	case p.IsNull():
		return nil, nil
	case !isStored(p.b.stored):
		return nil, errUnsealed
	}
	return p.b.stored, nil
}

var errUnsealed = fmt.Errorf("%w: a private value would be stored in the clear: seal the row first, with Codec.Seal", keystore.ErrInvalid)

// Scan implements sql.Scanner: the envelope as text or in binary. NULL is NULL, and so
// is an empty text, unless the column is being adopted.
// What is no envelope is reported when the row is opened, not here, so that one
// altered row does not stop a query.
func (p *Private[T]) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*p = Private[T]{}
	case string:
		p.scan(v)
	case []byte:
		p.scan(string(v))
	default:
		return fmt.Errorf("%w: a private field is stored as text or bytes, the column has %T", keystore.ErrInvalid, src)
	}
	return nil
}

func (p *Private[T]) scan(s string) {
	if p.setStored(asText(s)); s == "" {
		p.b = &box[T]{empty: true}
	}
}

// MarshalJSON gives null, {"oubli":"<envelope>"} once sealed, or "[private]".
func (p Private[T]) MarshalJSON() ([]byte, error) {
	switch {
	case p.IsNull():
		return []byte("null"), nil
	case !isStored(p.b.stored):
		return json.Marshal(placeholder)
	}
	return json.Marshal(jsonEnvelope{&p.b.stored})
}

// UnmarshalJSON accepts null and {"oubli":"<envelope>"}, nothing else: personal values
// come in as what they are, and through NewPrivate.
func (p *Private[T]) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*p = Private[T]{}
		return nil
	}
	refused := fmt.Errorf(`%w: a private field in JSON is null or {"oubli":"<envelope>"}`, keystore.ErrInvalid)
	var members map[string]string
	if json.Unmarshal(data, &members) != nil || len(members) != 1 {
		return refused
	}
	if f := formOf(members["oubli"]); f != formSealed && f != formBlank {
		return refused
	}
	p.setStored(members["oubli"])
	return nil
}

type jsonEnvelope struct {
	Oubli *string `json:"oubli"`
}

func (p *Private[T]) setStored(s string) {
	*p = Private[T]{}
	if s != "" {
		p.b = &box[T]{stored: s}
	}
}

// private is what the codec does with a Private of any type.
type private interface {
	// stored gives the text as stored, if that is what there is.
	storedText() (text string, ok bool)
	IsNull() bool
	// appendPlain appends the encoding of the value that is held in the clear.
	appendPlain(dst []byte) ([]byte, error)
	// opened gives what replace would take for an opened value.
	opened(plain string) (box any, err error)
	// notOpened gives the same for a field that is withheld or erased; it goes on
	// holding what is stored, so that writing it back changes nothing.
	notOpened(status Status, replacement string) (box any)
	replace(box any)
	setStored(text string)
	get() any
	valueType() reflect.Type
}

var privateType = reflect.TypeFor[private]()

func (p *Private[T]) storedText() (string, bool) {
	if p.b == nil {
		return "", false
	}
	return p.b.stored, p.b.stored != "" || p.b.empty
}

func (p *Private[T]) appendPlain(dst []byte) ([]byte, error) {
	return appendValue(dst, &p.b.value)
}

func (p *Private[T]) opened(plain string) (any, error) {
	b := &box[T]{status: StatusOpen}
	if err := decodeValue(plain, &b.value); err != nil {
		return nil, err
	}
	return b, nil
}

func (p *Private[T]) notOpened(status Status, replacement string) any {
	b := &box[T]{status: status}
	if p.b != nil {
		b.stored, b.empty = p.b.stored, p.b.empty
	}
	if replacement != "" && decodeValue(replacement, &b.value) != nil {
		var zero T
		b.value = zero
	}
	return b
}

func (p *Private[T]) replace(b any) { p.b = b.(*box[T]) }

// get gives the value if it is open, the replacement if it is erased and has one, or nil.
func (p *Private[T]) get() any {
	if p.b == nil || p.b.status == "" || p.b.status == StatusWithheld {
		return nil
	}
	if p.b.status == StatusErased && reflect.ValueOf(&p.b.value).Elem().IsZero() {
		return nil
	}
	return p.b.value
}

func (*Private[T]) valueType() reflect.Type { return reflect.TypeFor[T]() }

var errNotOfType = errors.New("the value is not of the field's type")
