package anonymize

import (
	"context"
	"errors"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// Export returns the rows of several subjects, opened as in [Eraser.Export] with one round
// trip to the keystore: for each subject, in their order, its rows, and of each row its
// columns in the order of the struct. A subject without rows here, or of another kind, has
// none.
//
// A row that does not open stands there as [Table.Stored] gives it, and the error, a
// *[fieldcrypt.BatchError], names it. Any other error is about all of them, and then
// there are no rows. No error holds a personal value but a [CallbackError].
func (t *Table[T]) Export(ctx context.Context, subjects ...keystore.Subject) ([][][]fieldcrypt.NamedValue, error) {
	rows, err := t.of(ctx, subjects)
	if err != nil {
		return nil, err
	}
	var owners []keystore.Subject
	for i, s := range subjects {
		if len(rows[i]) > 0 {
			owners = append(owners, s)
		}
	}
	// Then each row finds its keys at hand.
	if _, err := t.eraser.keys.Lookup(ctx, nil, owners...); err != nil {
		return nil, err
	}
	all := make([][][]fieldcrypt.NamedValue, len(subjects))
	bad, n := &fieldcrypt.BatchError{}, 0
	for i := range rows {
		for j := range rows[i] {
			values, err := t.codec.Export(ctx, &rows[i][j])
			var row *fieldcrypt.RowError
			if errors.As(err, &row) {
				row.Row = n
				bad.Rows = append(bad.Rows, row)
				values = t.codec.Stored(&rows[i][j])
			} else if err != nil {
				return nil, err
			}
			all[i] = append(all[i], values)
			n++
		}
	}
	if len(bad.Rows) > 0 {
		return all, bad
	}
	return all, nil
}

// Stored returns the rows of several subjects as Export does, but opens nothing and asks
// the keystore nothing: personal columns have a name, and neither value nor state.
func (t *Table[T]) Stored(ctx context.Context, subjects ...keystore.Subject) ([][][]fieldcrypt.NamedValue, error) {
	rows, err := t.of(ctx, subjects)
	if err != nil {
		return nil, err
	}
	all := make([][][]fieldcrypt.NamedValue, len(subjects))
	for i := range rows {
		for j := range rows[i] {
			all[i] = append(all[i], t.codec.Stored(&rows[i][j]))
		}
	}
	return all, nil
}

// Columns lists the columns of a row as Export and Stored have them, in that order,
// without values.
func (t *Table[T]) Columns() []fieldcrypt.NamedValue {
	if t.codec == nil {
		return nil // Check tells
	}
	var none T
	columns := t.codec.Stored(&none)
	for i := range columns {
		columns[i].Value, columns[i].State = nil, ""
	}
	return columns
}

// of reads the stored rows of each subject.
func (t *Table[T]) of(ctx context.Context, subjects []keystore.Subject) ([][]T, error) {
	if err := t.eraser.Check(); err != nil {
		return nil, err
	}
	rows := make([][]T, len(subjects))
	for i, s := range subjects {
		if s.Kind() != t.kind() {
			continue
		}
		var err error
		if rows[i], err = t.collect(ctx, s); err != nil {
			return nil, err
		}
	}
	return rows, nil
}
