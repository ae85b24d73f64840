package fieldcrypt

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/oubli/oubli/keystore"
)

// A blank stands where a personal value was: in the clear, with a random part, so that
// blanks of many people do not collide under UNIQUE, and the replacement or the
// generalized value: oubli1~random~1990.

const (
	blankRandom    = 9  // random bytes of a new blank: 12 characters
	minBlankRandom = 10 // characters that a blank must have at least
)

// appendBlank appends a new blank.
func appendBlank(dst []byte, value string) []byte {
	var r [blankRandom]byte
	rand.Read(r[:])
	dst = append(dst, blankText...)
	dst = base64url.AppendEncode(dst, r[:])
	dst = append(dst, '~')
	return append(dst, value...)
}

// parseBlank gives the value that a blank carries.
func parseBlank(s string) (value string, err error) {
	switch formOf(s) {
	case formBlank:
	case formNewer:
		return "", ErrVersion
	default:
		return "", fmt.Errorf("%w: not a blank", keystore.ErrTampered)
	}
	random, value, ok := strings.Cut(s[len(blankText):], "~")
	if !ok || len(random) < minBlankRandom || strings.IndexFunc(random, notBase64url) >= 0 || !utf8.ValidString(value) {
		return "", fmt.Errorf("%w: the blank is malformed", keystore.ErrTampered)
	}
	return value, nil
}

func notBase64url(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}

// rule says what blanking leaves of a value.
type rule struct {
	kind  ruleKind
	first int // ruleFirst: how many characters
}

type ruleKind uint8

const (
	ruleNull     ruleKind = iota // nothing: NULL
	ruleConstant                 // a blank with the replacement, which may be empty
	ruleYear                     // a blank with the year
	ruleFirst                    // a blank with the first characters
)

const maxFirst = 64

// parseRule reads what stands behind blank=.
func parseRule(s string) (rule, error) {
	switch {
	case s == "null":
		return rule{kind: ruleNull}, nil
	case s == "year":
		return rule{kind: ruleYear}, nil
	case strings.HasPrefix(s, "first:"):
		n, err := strconv.Atoi(s[len("first:"):])
		if err == nil && n >= 1 && n <= maxFirst {
			return rule{kind: ruleFirst, first: n}, nil
		}
		return rule{}, fmt.Errorf("blank=%s: first takes a number from 1 to %d, as first:2", s, maxFirst)
	}
	return rule{}, fmt.Errorf("blank=%s: known are null, year and first:N", s)
}

func (r rule) generalizes() bool { return r.kind == ruleYear || r.kind == ruleFirst }

// generalize takes from a value what statistics may keep; nothing if it has no such part.
func (r rule) generalize(value string) string {
	switch r.kind {
	case ruleYear:
		// 1990, 1990-05-17, 1990-05-17T00:00:00Z
		if len(value) >= 4 && allDigits(value[:4]) && (len(value) == 4 || !allDigits(value[4:5])) {
			return value[:4]
		}
	case ruleFirst:
		if !utf8.ValidString(value) {
			return ""
		}
		for i, n := 0, 0; i < len(value); n++ {
			if n == r.first {
				return value[:i]
			}
			_, size := utf8.DecodeRuneInString(value[i:])
			i += size
		}
		return value
	}
	return ""
}

func allDigits(s string) bool { return strings.Trim(s, "0123456789") == "" }
