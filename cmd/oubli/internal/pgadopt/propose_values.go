package pgadopt

import (
	"encoding/json"
	"math/big"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// What values look like. A column is taken for something if most of a sample looks so.

var (
	email = regexp.MustCompile(`^[^@\s<>,;]+@[^@\s<>,;]+\.[^@\s<>,;.]{2,}$`)
	phone = regexp.MustCompile(`^(\+|00|\()[0-9][0-9 ()./-]{5,22}$`)
	iban  = regexp.MustCompile(`^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$`)
)

// classOfValues tells what most of a sample looks like, "" if nothing.
func classOfValues(values []string) string {
	for _, k := range []struct {
		name string
		is   func(string) bool
	}{
		{"e-mail addresses", email.MatchString},
		{"bank accounts", isIBAN},
		{"IP addresses", isIP},
		{"telephone numbers", isPhone},
	} {
		n, of := 0, 0
		for _, v := range values {
			if v = strings.TrimSpace(v); v == "" {
				continue
			}
			of++
			if k.is(v) {
				n++
			}
		}
		if of > 0 && 2*n > of {
			return k.name
		}
	}
	return ""
}

func isPhone(s string) bool {
	digits := 0
	for _, r := range s {
		if r >= '0' && r <= '9' {
			digits++
		}
	}
	return phone.MatchString(s) && digits >= 7 && digits <= 15
}

func isIP(s string) bool {
	s, _, _ = strings.Cut(s, "/")
	_, err := netip.ParseAddr(s)
	return err == nil
}

// isIBAN checks the digits that check the others (ISO 13616: the number, its first four
// characters put last and letters written as 10 to 35, is 1 modulo 97).
func isIBAN(s string) bool {
	s = strings.ToUpper(strings.ReplaceAll(s, " ", ""))
	if !iban.MatchString(s) {
		return false
	}
	var digits strings.Builder
	for _, r := range s[4:] + s[:4] {
		if r >= 'A' {
			digits.WriteString(big.NewInt(int64(r - 'A' + 10)).String())
		} else {
			digits.WriteRune(r)
		}
	}
	n, ok := new(big.Int).SetString(digits.String(), 10)
	return ok && n.Mod(n, big.NewInt(97)).Int64() == 1
}

// personalKeys says what in JSON documents looks personal: the keys whose names say so,
// and what other values look like. A key can be a value, so no others are named.
func personalKeys(documents []string) (found []string) {
	texts := map[string][]string{}
	for _, d := range documents {
		var v any
		if json.Unmarshal([]byte(d), &v) == nil {
			walk(v, "", texts)
		}
	}
	for key, values := range texts {
		what := ""
		if c := classOf(key); c != nil && !c.decide && word.MatchString(key) {
			what = "the key " + key
		} else if name := classOfValues(values); name != "" {
			what = "values that look like " + name
		}
		if what != "" && !slices.Contains(found, what) {
			found = append(found, what)
		}
	}
	slices.Sort(found)
	return found
}

var word = regexp.MustCompile(`^[A-Za-z][A-Za-z_-]{0,40}$`)

// walk collects the strings of a document by the key that they stand under.
func walk(v any, key string, texts map[string][]string) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			walk(inner, k, texts)
		}
	case []any:
		for _, inner := range v {
			walk(inner, key, texts)
		}
	case string:
		texts[key] = append(texts[key], v)
	}
}
