package fieldcrypt

import (
	"errors"
	"testing"

	"github.com/oubli/oubli/keystore"
)

// What parses an envelope is what would write it: nothing has two forms, and nothing
// that was altered parses as the same.
func FuzzEnvelope(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		b, err := appendBinary([]byte("before"), text)
		if err != nil {
			if !errors.Is(err, keystore.ErrTampered) && !errors.Is(err, ErrVersion) {
				t.Fatalf("error without a sentinel: %v", err)
			}
			if string(b) != "before" {
				t.Fatal("a failed parse left something behind")
			}
		} else if got := string(appendText(nil, b[len("before"):])); got != text {
			t.Fatalf("%q and %q are the same envelope", got, text)
		}
		for _, b := range [][]byte{[]byte(text), b[len("before"):]} {
			id, nonce, ciphertext, err := parseSealed(b)
			if err != nil {
				continue
			}
			if id == 0 || len(nonce) != nonceSize || len(ciphertext) < tagSize {
				t.Fatal("accepted a malformed envelope")
			}
			if got := append(append(appendHeader(nil, id), nonce...), ciphertext...); string(got) != string(b) {
				t.Fatal("the parts are not the whole")
			}
		}
	})
}

func FuzzBlank(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		value, err := parseBlank(text)
		if err != nil {
			if !errors.Is(err, keystore.ErrTampered) && !errors.Is(err, ErrVersion) {
				t.Fatalf("error without a sentinel: %v", err)
			}
			return
		}
		if formOf(text) != formBlank || len(text) < len(blankText)+minBlankRandom+1+len(value) {
			t.Fatal("accepted a malformed blank")
		}
		for _, r := range []rule{{kind: ruleYear}, {kind: ruleFirst, first: 2}} {
			part := r.generalize(value)
			if len(part) > len(value) || value[:len(part)] != part || r.generalize(part) != part {
				t.Fatalf("generalizing %q gave %q", value, part)
			}
		}
		if again, err := parseBlank(string(appendBlank(nil, value))); err != nil || again != value {
			t.Fatal("a blank of the same value reads otherwise")
		}
	})
}

func FuzzTag(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		tag, mistakes := parseTag(text)
		if len(mistakes) > 0 || tag.skip {
			return
		}
		personal := tag.subject == "" && !tag.key
		if personal && checkName("name", tag.name) != nil {
			t.Fatal("a personal field without a proper name")
		}
		if !personal && (tag.Purpose != "" || tag.Replace != "" || tag.Blank != "") {
			t.Fatal("an identity with options of a personal field")
		}
		if tag.subject != "" && keystore.CheckKind(tag.subject) != nil {
			t.Fatal("a kind that is none")
		}
		if tag.Blank != "" {
			if _, err := parseRule(tag.Blank); err != nil {
				t.Fatal("a rule that is none")
			}
		}
	})
}
