package fieldcrypt

import (
	"context"
	"errors"
	"iter"
)

// Repository is what many applications have for a table: rows by id. Create and Update
// return the row as it was stored, with what the database filled in.
type Repository[T any, ID comparable] interface {
	Get(ctx context.Context, id ID) (T, error)
	List(ctx context.Context) iter.Seq2[T, error]
	Create(ctx context.Context, row T) (T, error)
	Update(ctx context.Context, row T) (T, error)
	Delete(ctx context.Context, id ID) error
}

// Wrap gives a Repository that seals what goes into plain and opens what comes out.
// Applications whose repositories look different write such a decorator themselves; it
// is some ten lines, see the example of Codec.
func Wrap[T any, ID comparable](plain Repository[T, ID], c *Codec[T]) Repository[T, ID] {
	return wrapped[T, ID]{plain, c}
}

type wrapped[T any, ID comparable] struct {
	plain Repository[T, ID]
	codec *Codec[T]
}

// Get opens the row. A row that cannot be opened is not returned.
func (w wrapped[T, ID]) Get(ctx context.Context, id ID) (T, error) {
	row, err := w.plain.Get(ctx, id)
	if err != nil {
		return row, err
	}
	return w.open(ctx, row)
}

// List opens the rows in batches, see Codec.OpenSeq.
func (w wrapped[T, ID]) List(ctx context.Context) iter.Seq2[T, error] {
	return w.codec.OpenSeq(ctx, w.plain.List(ctx))
}

// Create seals the row, which must have its subject's id by now.
func (w wrapped[T, ID]) Create(ctx context.Context, row T) (T, error) {
	return w.write(ctx, row, w.plain.Create)
}

// Update seals the whole row. Rows of erased people keep their personal columns.
func (w wrapped[T, ID]) Update(ctx context.Context, row T) (T, error) {
	return w.write(ctx, row, w.plain.Update)
}

// Delete deletes the row; no key is touched.
func (w wrapped[T, ID]) Delete(ctx context.Context, id ID) error { return w.plain.Delete(ctx, id) }

func (w wrapped[T, ID]) write(ctx context.Context, row T, to func(context.Context, T) (T, error)) (T, error) {
	var none T
	sealed, err := w.codec.Seal(ctx, row)
	if err != nil {
		return none, err
	}
	stored, err := to(ctx, sealed)
	if err != nil {
		return none, err
	}
	return w.open(ctx, stored)
}

func (w wrapped[T, ID]) open(ctx context.Context, row T) (T, error) {
	err := w.codec.Open(ctx, &row)
	if err == nil {
		return row, nil
	}
	var none T
	if b := (*BatchError)(nil); errors.As(err, &b) {
		return none, b.Rows[0]
	}
	return none, err
}
