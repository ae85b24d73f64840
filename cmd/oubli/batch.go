package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/oubli/oubli/cmd/oubli/internal/rows"
	"github.com/oubli/oubli/fieldcrypt"
)

// maxNamed is how many bad rows sealing names before it ends.
const maxNamed = 20

// convertBatch seals or opens a batch in place. In opening it returns the rows that
// opened and names the others; in sealing bad rows are its error.
func (x *conversion) convertBatch(ctx context.Context, batch []*rows.Row) ([]*rows.Row, error) {
	cells := make([][]fieldcrypt.Cell, len(batch))
	for i, row := range batch {
		cells[i] = row.Cells
	}
	var err error
	if x.dir == rows.Seal {
		err = x.bound.Seal(ctx, cells)
	} else {
		var n fieldcrypt.OpenCounts
		n, err = x.bound.Open(ctx, cells)
		x.counts.Open += n.Open
		x.counts.Erased += n.Erased
		x.counts.Withheld += n.Withheld
	}
	var bad *fieldcrypt.BatchError
	if !errors.As(err, &bad) {
		return batch, err
	}
	if x.dir == rows.Seal {
		errs := make([]error, len(bad.Rows))
		for i, e := range bad.Rows {
			errs[i] = x.placed(batch, e)
		}
		return nil, errors.Join(errs...)
	}
	good, at := batch[:0:0], 0
	for _, e := range bad.Rows {
		if e.Row < at { // a second mistake of the same row
			x.say("error: %v", x.placed(batch, e))
			continue
		}
		x.badRow(x.placed(batch, e))
		good = append(good, batch[at:e.Row]...)
		at = e.Row + 1
	}
	return append(good, batch[at:]...), nil
}

// mistakes is the error of rows that could not be sealed; it names a few.
func mistakes(file string, errs []error) error {
	var list []error
	for _, err := range errs {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			list = append(list, joined.Unwrap()...)
		} else if err != nil {
			list = append(list, err)
		}
	}
	if n := len(list) - maxNamed; n > 0 {
		list = append(list[:maxNamed], fmt.Errorf("%s: and %d more rows", file, n))
	}
	return errors.Join(list...)
}

// placed says where in the file a bad row stands.
func (x *conversion) placed(batch []*rows.Row, e *fieldcrypt.RowError) error {
	var who []string
	if !e.Subject.IsZero() {
		who = append(who, e.Subject.String())
	}
	if e.KeyID != 0 {
		who = append(who, fmt.Sprintf("key %08x", e.KeyID))
	}
	what := e.Err.Error()
	if len(who) > 0 {
		what = strings.Join(who, " ") + ": " + what
	}
	if e.Hint != "" {
		what += " (" + e.Hint + ")"
	}
	at := &rows.Error{File: x.name(), Line: batch[e.Row].Line, What: what}
	if e.Field != "" {
		at.Column = strconv.Quote(e.Field)
	}
	return &placedError{at, e}
}

// placedError is a row's error with its place in a file.
type placedError struct {
	at  *rows.Error
	err *fieldcrypt.RowError
}

func (e *placedError) Error() string { return e.at.Error() }
func (e *placedError) Unwrap() error { return e.err }
