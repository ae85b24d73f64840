package fieldcrypt

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/oubli/oubli/keystore"
)

// tag is an oubli struct tag, taken apart.
type tag struct {
	skip    bool // "-"
	name    string
	subject string // the kind
	key     bool
	Field
}

// Field describes a personal field.
type Field struct {
	Name    string // logical name
	Purpose string // empty is the default purpose
	Replace string // what it reads as when erased; {id} stands for the subject's id
	Blank   string // null, year, first:N; empty: null where it can be, else the replacement
}

// maxName bounds table, field and purpose names, in bytes.
const maxName = 255

// parseTag takes a tag apart. It returns every mistake that it finds.
func parseTag(s string) (t tag, mistakes []error) {
	if s == "-" {
		return tag{skip: true}, nil
	}
	mistake := func(format string, args ...any) { mistakes = append(mistakes, fmt.Errorf(format, args...)) }
	name, options, _ := strings.Cut(s, ",")
	t.name, t.Name = name, name
	if name != "" {
		if err := checkName("field name", name); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	seen := map[string]bool{}
	var list []string
	if options != "" {
		list = strings.Split(options, ",")
	}
	for _, option := range list {
		what, value, has := strings.Cut(option, "=")
		if seen[what] {
			mistake("option %s stands twice", what)
			continue
		}
		seen[what] = true
		switch what {
		case "key":
			if has {
				mistake("option key takes no value")
			}
			t.key = true
		case "subject":
			if err := keystore.CheckKind(value); err != nil {
				mistake("subject=%s: %w", value, err)
			}
			t.subject = value
		case "purpose":
			if err := checkName("purpose", value); err != nil {
				mistakes = append(mistakes, err)
			}
			t.Purpose = value
		case "replace":
			if value == "" || !utf8.ValidString(value) {
				mistake("replace= needs a text")
			}
			t.Replace = value
		case "blank":
			if _, err := parseRule(value); err != nil {
				mistakes = append(mistakes, err)
			}
			t.Blank = value
		default:
			mistake("unknown option %q: known are subject=, key, purpose=, replace=, blank=", option)
		}
	}
	personal := seen["purpose"] || seen["replace"] || seen["blank"]
	switch {
	case (seen["subject"] || seen["key"]) && personal:
		mistake("a subject's id or a row's key is not personal: it takes no purpose, replace or blank")
	case !seen["subject"] && !seen["key"] && name == "":
		mistake("a personal field needs a name: `oubli:\"email\"`")
	}
	return t, mistakes
}

// checkName accepts 1 to 255 bytes of printable UTF-8.
func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: %s is empty", keystore.ErrInvalid, what)
	case len(name) > maxName:
		return fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", keystore.ErrInvalid, what, len(name), maxName)
	case !utf8.ValidString(name), strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0:
		return fmt.Errorf("%w: %s %q: only printable characters are allowed", keystore.ErrInvalid, what, name)
	}
	return nil
}
