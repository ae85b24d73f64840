package fieldcrypt

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/oubli/oubli/keystore"
)

// Adopting: a database that was full of plaintext is sealed while the application works,
// so that for a time both stand in a column. Plaintext is what has not, all of it, the
// form of an envelope, a blank, or a value of a later version. What has that form must
// authenticate: nobody gets around the seal by damaging it a little, for whoever can
// write plaintext into such a column could do so all along.

// adopting tells whether plaintext may stand in the field.
func (f *field) adopting() bool { return f.plaintext != nil }

// adopt marks the fields that Options.Adopting names, and returns its mistakes.
func (t *table) adopt() (mistakes []error) {
	for _, name := range t.adopting {
		i := slices.IndexFunc(t.fields, func(f field) bool { return f.Name == name })
		switch {
		case i < 0:
			mistakes = append(mistakes, fmt.Errorf("Options.Adopting: no personal column is called %s", name))
		case t.fields[i].adopting():
			mistakes = append(mistakes, fmt.Errorf("Options.Adopting: %s stands twice", name))
		default:
			t.fields[i].plaintext = new(atomic.Int64)
		}
	}
	return mistakes
}

// plaintexts counts what was read as plaintext, by column that is being adopted.
func (t *table) plaintexts() map[string]int64 {
	counts := make(map[string]int64, len(t.adopting))
	for i := range t.fields {
		if f := &t.fields[i]; f.adopting() {
			counts[f.Name] = f.plaintext.Load()
		}
	}
	return counts
}

// openPlain reads plaintext as an envelope of the same person would read: the seal that
// it lacks changes nothing about who may see it.
func openPlain(sc *scratch, keys keystore.Keys, f *field, s *slot) error {
	switch err := keys.Err(); {
	case errors.Is(err, keystore.ErrErased), keys.Withdrawn(f.Purpose):
		s.status, s.text = StatusErased, f.replacement(keys.Subject())
	case isWithheld(err):
		s.status, s.text = StatusWithheld, ""
	case err != nil && !errors.Is(err, keystore.ErrUnknownSubject):
		return err
	case s.bin:
		s.status, sc.plain = StatusOpen, append(sc.plain, s.data...)
	default:
		s.status, sc.plain = StatusOpen, append(sc.plain, s.text...)
	}
	s.plain = true
	return nil
}

// meet notes the plaintext among the slots of a row that was opened.
func (sc *scratch) meet() {
	for i := range sc.met {
		if sc.slots[i].plain {
			sc.met[i]++
		}
	}
}

// count adds what was met to the counts, once the rows were found to be fresh.
func (t *table) count(sc *scratch) {
	for i, n := range sc.met {
		if n > 0 {
			t.fields[i].plaintext.Add(n)
		}
	}
	clear(sc.met)
}
