package fieldcrypt

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/oubli/oubli/keystore"
)

// RowError says what is the matter with one field of one row. It holds no value.
type RowError struct {
	Op      string           // seal, open, blank, export, inspect, adopt or reconcile
	Row     int              // index in the call
	Subject keystore.Subject // zero if the row names nobody
	Table   string
	Field   string // logical name; empty if the whole row is meant
	KeyID   uint32 // the data key that the envelope names, 0 if none
	Err     error  // the cause; wraps a sentinel of package keystore, or ErrVersion
	Hint    string // what to do next, may be empty
}

func (e *RowError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", e.Op, e.Table)
	if e.Field != "" {
		fmt.Fprintf(&b, ".%s", e.Field)
	}
	fmt.Fprintf(&b, " row %d", e.Row)
	if !e.Subject.IsZero() {
		fmt.Fprintf(&b, " of %s", e.Subject)
	}
	if e.KeyID != 0 {
		fmt.Fprintf(&b, " key %08x", e.KeyID)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	if e.Hint != "" {
		fmt.Fprintf(&b, " (%s)", e.Hint)
	}
	return b.String()
}

func (e *RowError) Unwrap() error { return e.Err }

// BatchError names the rows of a call that failed. The others are done.
type BatchError struct {
	Rows []*RowError // in the order of rows; never empty
}

func (e *BatchError) Error() string {
	const most = 5
	lines := make([]string, 0, most+1)
	for i, r := range e.Rows {
		if i == most {
			lines = append(lines, fmt.Sprintf("and %d more rows", len(e.Rows)-most))
			break
		}
		lines = append(lines, r.Error())
	}
	return strings.Join(lines, "; ")
}

// Unwrap makes errors.Is and errors.As look into every row.
func (e *BatchError) Unwrap() []error {
	errs := make([]error, len(e.Rows))
	for i, r := range e.Rows {
		errs[i] = r
	}
	return errs
}

// inOrder sorts errors that retries brought out of order.
func inOrder(rows []*RowError) []*RowError {
	slices.SortStableFunc(rows, func(a, b *RowError) int { return cmp.Compare(a.Row, b.Row) })
	return rows
}

// batch is nil if no row failed.
func batch(rows []*RowError) error {
	if len(rows) == 0 {
		return nil
	}
	return &BatchError{Rows: inOrder(rows)}
}

func isAny(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// isDead: the key was destroyed on purpose.
func isDead(err error) bool { return isAny(err, keystore.ErrErased, keystore.ErrWithdrawn) }

// isWithheld: the key is there, and not for this context.
func isWithheld(err error) bool { return isAny(err, keystore.ErrErasing, keystore.ErrRestricted) }
