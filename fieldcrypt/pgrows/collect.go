package pgrows

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// CollectRows reads the whole result of a query of your own into structs, as
// pgx.CollectRows with pgx.RowToStructByName does, and opens it with one round trip to
// the keystore, after the connection is free. rows are closed when it returns.
//
// Every column must be a field and every field a column. Rows that cannot be opened
// are returned as they are stored, along with the others and a *fieldcrypt.BatchError
// that names them; with any other error there are no rows.
func CollectRows[T any](ctx context.Context, rows pgx.Rows, codec *fieldcrypt.Codec[T]) ([]T, error) {
	o := &opener[T]{codec: codec}
	stored, err := collect(rows, codec, o.look)
	if err != nil {
		return nil, &Error{Op: "collect", Table: pgx.Identifier{codec.Table()}.Sanitize(), Err: err}
	}
	err = o.openRest(ctx, stored)
	if b := (*fieldcrypt.BatchError)(nil); err != nil && !errors.As(err, &b) {
		return nil, err
	}
	return stored, err
}

// opener opens the rows of a result. Those of people whose keys are at hand it opens
// while the server makes further rows.
type opener[T any] struct {
	codec *fieldcrypt.Codec[T]
	tried int  // rows that were looked at
	cold  bool // there was no use in it
	rest  []int
	list  []*T
}

// look opens what it can of the rows that it has not seen.
func (o *opener[T]) look(rows []T) {
	if o.cold {
		return
	}
	o.list = o.list[:0]
	for i := o.tried; i < len(rows); i++ {
		o.list = append(o.list, &rows[i])
	}
	rest := o.codec.OpenCached(o.list...)
	o.cold = len(rest) == len(o.list)
	for i := o.tried; i < len(rows) && len(rest) > 0; i++ {
		if &rows[i] == rest[0] {
			o.rest, rest = append(o.rest, i), rest[1:]
		}
	}
	o.tried = len(rows)
}

// openRest opens the rows that are left, with one round trip to the keystore.
func (o *opener[T]) openRest(ctx context.Context, rows []T) error {
	for i := o.tried; i < len(rows); i++ {
		o.rest = append(o.rest, i)
	}
	if len(o.rest) == 0 {
		return nil
	}
	o.list = o.list[:0]
	for _, i := range o.rest {
		o.list = append(o.list, &rows[i])
	}
	err := o.codec.Open(ctx, o.list...)
	if b := (*fieldcrypt.BatchError)(nil); errors.As(err, &b) {
		for _, row := range b.Rows {
			row.Row = o.rest[row.Row]
		}
	}
	return err
}

func collect[T any](rows pgx.Rows, codec *fieldcrypt.Codec[T], look func([]T)) ([]T, error) {
	defer rows.Close()
	l, err := layoutOf(reflect.TypeFor[T](), codec.Fields())
	if err != nil {
		return nil, err
	}
	fds := rows.FieldDescriptions()
	if fds == nil { // as of a query that failed
		rows.Close()
		return []T{}, rows.Err()
	}
	columns, err := l.match(fds)
	if err != nil {
		return nil, err
	}
	return scanAll([]T{}, rows, columns, look)
}

// match finds the fields of a result's columns.
func (l *layout) match(fds []pgconn.FieldDescription) ([]*column, error) {
	var mistakes []error
	columns := make([]*column, len(fds))
	taken := make([]bool, len(l.columns))
	for i, fd := range fds {
		at := l.best(func(c *column) int { return c.fits(fd.Name) })
		switch {
		case at < 0:
			mistakes = append(mistakes, fmt.Errorf("column %s has no field", fd.Name))
		case taken[at]:
			mistakes = append(mistakes, fmt.Errorf("column %s: field %s is another column already", fd.Name, l.columns[at].field))
		default:
			columns[i], taken[at] = &l.columns[at], true
		}
	}
	for i, ok := range taken {
		if f := &l.columns[i]; !ok {
			mistakes = append(mistakes, fmt.Errorf("field %s has no column%s", f.field, f.hint()))
		}
	}
	if mistakes != nil {
		return nil, fmt.Errorf("%w: result as %s:\n%w", keystore.ErrInvalid, l.row, errors.Join(mistakes...))
	}
	return columns, nil
}
