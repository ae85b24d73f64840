package pgrows

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"github.com/oubli/oubli/keystore"
)

// idValue turns the canonical text of an id back into an argument. A type that reads
// its own text does so, for its column may hold it in another way; for all others the
// text is what PostgreSQL reads, too.
func idValue(text string, typ reflect.Type) (any, error) {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	v := reflect.New(typ)
	u, ok := v.Interface().(encoding.TextUnmarshaler)
	if !ok {
		return text, nil
	}
	if err := u.UnmarshalText([]byte(text)); err != nil {
		return nil, fmt.Errorf("%w: the subject's id is not a %s", keystore.ErrInvalid, typ)
	}
	return v.Elem().Interface(), nil
}

// isUUID tells whether a text has the form of a UUID.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, r := range s {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (r == '-') || !dash && !strings.ContainsRune("0123456789abcdefABCDEF", r) {
			return false
		}
	}
	return true
}
