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
	c := codec.Collector()
	if err := collect(rows, codec, c.Next); err != nil {
		return nil, &Error{Op: "collect", Table: pgx.Identifier{codec.Table()}.Sanitize(), Err: err}
	}
	all, err := c.Rows(ctx)
	if all == nil && err == nil {
		all = []T{}
	}
	return all, err
}

func collect[T any](rows pgx.Rows, codec *fieldcrypt.Codec[T], next func() *T) error {
	defer rows.Close()
	l, err := layoutOf(reflect.TypeFor[T](), codec.Fields())
	if err != nil {
		return err
	}
	fds := rows.FieldDescriptions()
	if fds == nil { // as of a query that failed
		rows.Close()
		return rows.Err()
	}
	columns, err := l.match(fds)
	if err != nil {
		return err
	}
	return scanAll(rows, columns, next)
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
