package fieldcrypt

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"

	"github.com/oubli/oubli/keystore"
)

// The encodings of values are part of the format: an envelope has no byte that tells
// the type. docs/format.md lists them.

var (
	timeType            = reflect.TypeFor[time.Time]()
	textMarshalerType   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// checkValueType tells whether values of type t can be sealed.
func checkValueType(t reflect.Type) error {
	switch {
	case t == timeType, isText(t):
		return nil
	case t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface:
		return fmt.Errorf("hold the value itself in a Private, not a %s; a missing one is the zero Private", t)
	}
	return checkJSONType(t, map[reflect.Type]bool{})
}

func isText(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(textMarshalerType) && p.Implements(textUnmarshalerType)
}

// checkJSONType finds what encoding/json would refuse, before there is a value.
func checkJSONType(t reflect.Type, seen map[reflect.Type]bool) error {
	if seen[t] || isText(t) {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer, reflect.Uintptr:
		return fmt.Errorf("values of type %s cannot be sealed", t)
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return checkJSONType(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && f.Tag.Get("json") != "-" {
				if err := checkJSONType(f.Type, seen); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// appendValue appends the encoding of *v.
func appendValue[T any](dst []byte, v *T) ([]byte, error) {
	switch v := any(v).(type) {
	case *string:
		return append(dst, *v...), nil
	case *[]byte:
		return append(dst, *v...), nil
	case *time.Time:
		u := v.UTC()
		if u.Year() < 0 || u.Year() > 9999 {
			return dst, fmt.Errorf("%w: the year is not between 0 and 9999", keystore.ErrInvalid)
		}
		return u.AppendFormat(dst, time.RFC3339Nano), nil
	}
	if isText(reflect.TypeFor[T]()) {
		b, err := any(v).(encoding.TextMarshaler).MarshalText()
		if err != nil {
			return dst, errEncode[T]() // the cause may quote the value
		}
		return append(dst, b...), nil
	}
	r := reflect.ValueOf(v).Elem()
	switch r.Kind() {
	case reflect.String:
		return append(dst, r.String()...), nil
	case reflect.Bool:
		return strconv.AppendBool(dst, r.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(dst, r.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(dst, r.Uint(), 10), nil
	case reflect.Float32, reflect.Float64:
		return appendFloat(dst, r.Float(), r.Type().Bits()), nil
	}
	if isByteSlice(r.Type()) {
		return append(dst, r.Bytes()...), nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return dst, errEncode[T]()
	}
	return append(dst, b...), nil
}

func appendFloat(dst []byte, f float64, bits int) []byte {
	if math.IsNaN(f) {
		return append(dst, "NaN"...) // one text for all of them
	}
	return strconv.AppendFloat(dst, f, 'g', -1, bits)
}

func isByteSlice(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

func errEncode[T any]() error {
	return fmt.Errorf("%w: the value, a %s, does not marshal", keystore.ErrInvalid, reflect.TypeFor[T]())
}

// decodeValue reads an encoding into *v. Its error does not quote what it read.
func decodeValue[T any](s string, v *T) error {
	if !decode(s, v) {
		return fmt.Errorf("%w: %w, %s", keystore.ErrInvalid, errNotOfType, reflect.TypeFor[T]())
	}
	return nil
}

func decode[T any](s string, v *T) bool {
	switch v := any(v).(type) {
	case *string:
		*v = s
		return true
	case *[]byte:
		*v = []byte(s)
		return true
	case *time.Time:
		return decodeTime(s, v)
	}
	if isText(reflect.TypeFor[T]()) {
		return any(v).(encoding.TextUnmarshaler).UnmarshalText([]byte(s)) == nil
	}
	r := reflect.ValueOf(v).Elem()
	switch r.Kind() {
	case reflect.String:
		r.SetString(s)
		return true
	case reflect.Bool:
		r.SetBool(s == "true")
		return s == "true" || s == "false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(s, 10, r.Type().Bits())
		r.SetInt(n)
		return err == nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(s, 10, r.Type().Bits())
		r.SetUint(n)
		return err == nil
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(s, r.Type().Bits())
		r.SetFloat(f)
		return err == nil
	}
	if isByteSlice(r.Type()) {
		r.SetBytes([]byte(s))
		return true
	}
	return json.Unmarshal([]byte(s), v) == nil
}

// decodeTime takes what appendValue writes, and a date or a year alone, which is how a
// data map seals dates and what a generalized date leaves.
func decodeTime(s string, t *time.Time) bool {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly, "2006"} {
		if v, err := time.Parse(layout, s); err == nil {
			*t = v.UTC()
			return true
		}
	}
	return false
}
