package keystore

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a subject's two parts, in bytes.
const (
	MaxKind = 63
	MaxID   = 255
)

// Subject names one data subject: a kind and an id, written kind/id, as
// customer/42. The kind keeps integer ids of different tables apart. A Subject is
// comparable, canonical by construction, and not secret: use surrogate ids, not
// names or addresses. The zero Subject names nobody and is refused everywhere.
type Subject struct{ text string }

// NewSubject makes a subject from a kind and an id. Integers become decimal,
// [16]byte arrays are UUIDs in lower case, an [encoding.TextMarshaler] speaks for
// itself; strings stand as they are, but for UUIDs, which become lower case. Pointers to these count as what they point to.
// Empty and zero ids are refused, which also catches rows whose id the database has not
// made yet, and so are ids with an @: an e-mail address is personal, and a subject is
// not secret. [AllowAt] makes an exception. The error wraps [ErrInvalid].
func NewSubject(kind string, id any, opts ...SubjectOption) (Subject, error) {
	switch v := id.(type) { // what most rows have needs no further look
	case int64:
		return intSubject(kind, v)
	case int:
		return intSubject(kind, int64(v))
	}
	text, err := canonicalID(id)
	if err != nil {
		return Subject{}, fmt.Errorf("subject of kind %q: %w: %w", clip(kind), ErrInvalid, err)
	}
	return newSubject(kind, text, kind+"/"+text, opts)
}

func intSubject(kind string, id int64) (Subject, error) {
	if err := CheckKind(kind); err != nil {
		return Subject{}, err
	}
	if id == 0 {
		return Subject{}, badID(kind, zeroID)
	}
	var buf [MaxKind + 1 + 20]byte
	return Subject{string(strconv.AppendInt(append(append(buf[:0], kind...), '/'), id, 10))}, nil
}

const zeroID = "the id is zero; has the database made it yet?"

func badID(kind, why string) error {
	return fmt.Errorf("%w: subject of kind %q: %s", ErrInvalid, kind, why)
}

// ParseSubject reads kind/id, as Subject.String writes it. The id may hold further
// slashes. A decimal id is taken as it stands: 042 is not 42. The error wraps [ErrInvalid].
func ParseSubject(text string, opts ...SubjectOption) (Subject, error) {
	kind, id, ok := strings.Cut(text, "/")
	if !ok {
		return Subject{}, fmt.Errorf("%w: subject has no slash: write kind/id, as customer/42", ErrInvalid)
	}
	return newSubject(kind, id, text, opts)
}

// SubjectOption relaxes what NewSubject and ParseSubject accept.
type SubjectOption func(*subjectRules)

type subjectRules struct{ at bool }

// AllowAt accepts ids with an @ sign.
func AllowAt() SubjectOption { return func(r *subjectRules) { r.at = true } }

func newSubject(kind, id, text string, opts []SubjectOption) (Subject, error) {
	if isPlain(id) {
		if err := CheckKind(kind); err != nil {
			return Subject{}, err
		}
		return Subject{text}, nil
	}
	if lower := strings.ToLower(id); lower != id && isUUID(lower) {
		id, text = lower, kind+"/"+lower
	}
	var rules subjectRules
	for _, o := range opts {
		o(&rules)
	}
	if err := CheckKind(kind); err != nil {
		return Subject{}, err
	}
	bad := func(why string) (Subject, error) { return Subject{}, badID(kind, why) }
	switch {
	case id == "":
		return bad("the id is empty")
	case strings.Trim(id, "0-") == "":
		// 0, and the nil UUID: the value that an id has before it was made
		return bad(zeroID)
	case len(id) > MaxID:
		return bad(fmt.Sprintf("the id has %d bytes, at most %d are allowed", len(id), MaxID))
	case !utf8.ValidString(id):
		return bad("the id is not valid UTF-8")
	case strings.IndexFunc(id, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }) >= 0:
		return bad("the id has control characters")
	case id != strings.TrimSpace(id):
		return bad("the id begins or ends with a space")
	case !rules.at && strings.Contains(id, "@"):
		return bad("the id has an @; ids are not secret, so use a surrogate id, or allow it explicitly (AllowAt, --allow-at)")
	}
	return Subject{text}, nil
}

// CheckKind tells whether kind can be the kind of a subject: 1 to 63 letters,
// digits, dots, dashes and underscores. The error wraps [ErrInvalid].
func CheckKind(kind string) error {
	if kind == "" {
		return fmt.Errorf("%w: the kind of a subject is empty", ErrInvalid)
	}
	if len(kind) > MaxKind {
		return fmt.Errorf("%w: kind %q has %d bytes, at most %d are allowed", ErrInvalid, clip(kind), len(kind), MaxKind)
	}
	for _, r := range kind {
		if 'a' <= r && r <= 'z' {
			continue
		}
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-", r) || r == utf8.RuneError {
			return fmt.Errorf("%w: kind %q: only letters, digits, dot, dash and underscore are allowed", ErrInvalid, clip(kind))
		}
	}
	return nil
}

// Kind returns the part before the slash.
func (s Subject) Kind() string {
	kind, _, _ := strings.Cut(s.text, "/")
	return kind
}

// ID returns the canonical text of the id.
func (s Subject) ID() string {
	_, id, _ := strings.Cut(s.text, "/")
	return id
}

// String returns kind/id.
func (s Subject) String() string { return s.text }

// IsZero tells whether s names nobody.
func (s Subject) IsZero() bool { return s.text == "" }

// MarshalText returns kind/id.
func (s Subject) MarshalText() ([]byte, error) { return []byte(s.text), nil }

func canonicalID(id any) (string, error) {
	switch v := id.(type) {
	case nil:
		return "", fmt.Errorf("the id is nil")
	case string:
		return v, nil
	case encoding.TextMarshaler:
		if rv := reflect.ValueOf(id); rv.Kind() == reflect.Pointer && rv.IsNil() {
			return "", fmt.Errorf("the id is nil")
		}
		b, err := v.MarshalText()
		if err != nil {
			return "", fmt.Errorf("the id does not marshal (%T)", id)
		}
		return string(b), nil
	}
	v := reflect.ValueOf(id)
	switch v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10), nil
	case reflect.String:
		return v.String(), nil
	case reflect.Pointer:
		if v.IsNil() {
			return "", fmt.Errorf("the id is nil")
		}
		return canonicalID(v.Elem().Interface())
	case reflect.Array:
		if v.Len() == 16 && v.Type().Elem().Kind() == reflect.Uint8 {
			var u [16]byte
			reflect.Copy(reflect.ValueOf(&u).Elem(), v)
			return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]), nil
		}
	}
	return "", fmt.Errorf("ids of type %T are not supported: use an integer, a string, a UUID or a TextMarshaler", id)
}

// isPlain tells, for most ids, that no rule is in the way.
func isPlain(id string) bool {
	zero := true
	for i := range len(id) {
		c := id[i]
		if c <= ' ' || c >= 0x7f || c == '@' || 'A' <= c && c <= 'Z' {
			return false
		}
		zero = zero && (c == '0' || c == '-')
	}
	return !zero && len(id) <= MaxID
}

// isUUID tells whether id has the form 8-4-4-4-12 of lower case hexadecimal digits.
func isUUID(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i, c := range []byte(id) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdef", rune(c)) {
			return false
		}
	}
	return true
}

func clip(s string) string {
	if len(s) > MaxKind {
		s = strings.ToValidUTF8(s[:MaxKind], "") + "…"
	}
	return s
}
