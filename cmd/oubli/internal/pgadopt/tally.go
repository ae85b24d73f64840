package pgadopt

import (
	"errors"
	"fmt"
	"strings"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// maxNamed is how many values of a kind a report names; all are counted.
const maxNamed = 20

// Named is a value that somebody has to look at.
type Named struct {
	Key     []string `json:"key"`               // of its row
	Field   string   `json:"field,omitempty"`   // logical name; empty: the row as a whole
	Subject string   `json:"subject,omitempty"` // whose it is, where that can be told
	What    string   `json:"what"`

	bad bool // it looks sealed, so that a search for plaintext does not meet it
}

func (n Named) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "row %s", strings.Join(n.Key, ","))
	if n.Field != "" {
		fmt.Fprintf(&b, " column %s", n.Field)
	}
	if n.Subject != "" {
		fmt.Fprintf(&b, " of %s", n.Subject)
	}
	return b.String() + ": " + n.What
}

// tally counts values.
type tally struct {
	Values   int64 // sealed or opened, and written
	Retried  int64 // rows that had changed or were locked when they were to be written
	Withheld int64 // plaintext of people who are restricted or being erased
	Erased   int64 // plaintext of people who are erased
	Plain    int64 // other plaintext: what a run leaves is under a purpose that was withdrawn
	Bad      int64 // that look sealed and do not authenticate
	BadRows  int64 // without a person they could be of, and with a value
	Named    []Named

	writes int64 // transactions
	missed int64 // rows that somebody held locked or changed again and again
}

// add adds what was found in another page.
func (t *tally) add(o tally) {
	t.Withheld += o.Withheld
	t.Erased += o.Erased
	t.Plain += o.Plain
	t.Bad += o.Bad
	t.BadRows += o.BadRows
	t.name(o.Named...)
}

// name names values, each once.
func (t *tally) name(list ...Named) {
	for _, n := range list {
		if len(t.Named) == maxNamed {
			return
		}
		known := false
		for _, o := range t.Named {
			known = known || o.Field == n.Field && joined(o.Key) == joined(n.Key)
		}
		if !known {
			t.Named = append(t.Named, n)
		}
	}
}

// left counts what a row holds that is plaintext, and was not sealed just now, or that is
// bad.
func (t *tally) left(table *pgmap.Table, row *pgmap.Row, found []fieldcrypt.Found) {
	for i, f := range found {
		n := Named{Key: row.Key, Field: table.Fields[i].Logical}
		if subject := row.Cells[0]; !subject.Null {
			n.Subject = table.Map.Kind + "/" + subject.Text
		}
		switch {
		case f.Content == fieldcrypt.ContentBad:
			if rowless(f.Err) {
				t.BadRows++
				n.Field, n.What = "", cause(f.Err)
				t.name(n)
				return
			}
			t.Bad++
			n.What, n.bad = cause(f.Err), true
		case f.Content != fieldcrypt.ContentPlain || f.Adopted:
			continue
		case f.State == keystore.StateErased:
			t.Erased++
			n.What = "plaintext of somebody who is erased: oubli reconcile --plaintext blanks it; if it is new, readmit the person"
		case f.State == keystore.StateErasing, f.State == keystore.StateRestricted:
			t.Withheld++
			n.What = fmt.Sprintf("plaintext of somebody who is %s: release the person, finish the erasure, or name the purpose", f.State)
		default:
			t.Plain++
			n.What = "plaintext: oubli adopt run seals it (what that leaves is under a purpose that was withdrawn: blank it)"
		}
		t.name(n)
	}
}

// rowless tells whether an error is about the ids of a row, not about a value of it.
func rowless(err error) bool { return errors.Is(err, keystore.ErrInvalid) }

// cause is what an error says besides where.
func cause(err error) string {
	var e *fieldcrypt.RowError
	switch {
	case !errors.As(err, &e):
		return fmt.Sprint(err)
	case e.KeyID != 0:
		return fmt.Sprintf("key %08x: %v (%s)", e.KeyID, e.Err, e.Hint)
	case e.Hint != "":
		return fmt.Sprintf("%v (%s)", e.Err, e.Hint)
	}
	return e.Err.Error()
}

// complaints collects what is wrong with a table or a column.
type complaints struct {
	about string
	errs  []error
}

// say complains of n things, if there are any; kind is a sentinel.
func (c *complaints) say(n int64, kind error, what string) {
	if n > 0 {
		c.errs = append(c.errs, fmt.Errorf("%s: %d %s: %w", c.about, n, what, kind))
	}
}

func (c *complaints) err() error { return errors.Join(c.errs...) }
