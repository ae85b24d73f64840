package anonymize

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// Source gives an Eraser one table of the application. Its methods must be safe for
// concurrent use on different subjects.
type Source[T any] interface {
	// RowsOf returns the rows of one subject as they are stored, personal fields
	// sealed. It must return them all, and none of another subject: one such row
	// stops the erasure before anything of it is changed. Where an Eraser blanks or
	// calls a table receiver, it reads all rows of the subject before it does
	// anything else, so RowsOf may hold a lock or a connection while it is iterated.
	RowsOf(ctx context.Context, s keystore.Subject) iter.Seq2[T, error]

	// SaveFields writes the named columns of a row and leaves its others alone: the
	// application may be changing those. Columns are the logical names of the tags,
	// and whatever [Anonymizer] returned. It must find the row by its own key.
	// Writing the same again must be harmless.
	SaveFields(ctx context.Context, row T, columns []string) error
}

// Anonymizer is what a row type may implement, with a pointer receiver, to change more
// than its tagged personal fields when its subject is erased:
//
//	func (c *Customer) Anonymize() (columns []string) {
//		c.Newsletter = false
//		return []string{"newsletter"}
//	}
//
// It gets the row as stored, its personal fields already blank, and returns the
// further columns that it changed. It may be called more than once for a row.
// Calling it by hand changes memory only: no receiver hears of it, nothing is destroyed.
type Anonymizer interface {
	Anonymize() (columns []string)
}

// Table is one registered table.
type Table[T any] struct {
	eraser *Eraser
	codec  *fieldcrypt.Codec[T]
	source Source[T]
}

// Register adds a table to an Eraser: the codec that its rows are sealed with, and the
// source that finds and saves them. A table's name may be registered once.
func Register[T any](e *Eraser, c *fieldcrypt.Codec[T], src Source[T]) *Table[T] {
	t := &Table[T]{eraser: e, codec: c, source: src}
	if c == nil || src == nil {
		e.mistake("a table of %T was registered without its codec or source", *new(T))
		return t
	}
	e.register(t)
	return t
}

// PreAnonymize connects a receiver for this table: it is called with each row of the
// subject, opened, before anything of it is deleted. It is acknowledged when it has
// returned nil for all rows; after a failure it starts again at the first. A row that
// does not open fails the receiver. See [Eraser.PreAnonymize].
func (t *Table[T]) PreAnonymize(name string, f func(ctx context.Context, e Erasure, row T) error) {
	if t.codec == nil || t.source == nil || f == nil {
		t.eraser.mistake("receiver %q has no function or no table", name)
		return
	}
	t.eraser.connect(t.kind(), name, func(ctx context.Context, e Erasure) error {
		rows, err := t.collect(ctx, e.Subject)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := t.codec.Open(ctx, &row); err != nil {
				return err
			}
			if err := f(ctx, e, row); err != nil {
				return err
			}
		}
		return nil
	})
}

// Rows gives a receiver the subject's rows in this table as plaintext, in flat memory.
// It works with the context and Erasure that the receiver was handed, until the
// receiver returns.
func (t *Table[T]) Rows(ctx context.Context, e Erasure) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		if t.codec == nil || t.source == nil || t.kind() != e.Subject.Kind() {
			yield(none, invalid("the table has no rows of %s", e.Subject))
			return
		}
		if err := e.over(); err != nil {
			yield(none, err)
			return
		}
		for row, err := range t.codec.OpenSeq(ctx, t.stored(ctx, e.Subject)) {
			if over := e.over(); over != nil {
				yield(none, over)
				return
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

// Blank blanks the personal fields of one stored row in memory, as an erasure that
// keeps these purposes would, [Anonymizer] included, and returns the columns that
// changed. No receiver hears of it, and nothing is saved or destroyed.
func (t *Table[T]) Blank(ctx context.Context, row *T, keep ...string) (columns []string, err error) {
	if t.codec == nil || row == nil {
		return nil, invalid("blanking needs a row and the codec of its table")
	}
	columns, err = t.codec.Blank(ctx, row, keep)
	if err != nil {
		return nil, err
	}
	if a, ok := any(row).(Anonymizer); ok {
		var more []string
		if err := callback("Anonymize", t.what(), func() error { more = a.Anonymize(); return nil }); err != nil {
			return nil, err
		}
		for _, c := range more {
			if !slices.Contains(columns, c) {
				columns = append(columns, c)
			}
		}
	}
	return columns, nil
}

func (t *Table[T]) name() string { return t.codec.Table() }
func (t *Table[T]) kind() string { return t.codec.Kind() }

func (t *Table[T]) infos() []TableInfo {
	return []TableInfo{{Name: t.name(), Kind: t.kind(), Fields: t.codec.Fields()}}
}

func (t *Table[T]) blankAll(ctx context.Context, s keystore.Subject, keep []string) error {
	rows, err := t.collect(ctx, s)
	if err != nil {
		return err
	}
	for i := range rows {
		columns, err := t.Blank(ctx, &rows[i], keep...)
		if err != nil {
			return err
		}
		if len(columns) == 0 {
			continue
		}
		if err := callback("SaveFields", t.what(), func() error { return t.source.SaveFields(ctx, rows[i], columns) }); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table[T]) counts(ctx context.Context, s keystore.Subject) (map[string]int, error) {
	n := 0
	err := t.each(ctx, s, func(T) { n++ })
	return map[string]int{t.name(): n}, err
}

// stored yields the subject's rows as the source has them, and an error in place of
// one that belongs to somebody else.
func (t *Table[T]) stored(ctx context.Context, s keystore.Subject) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for row, err := range t.source.RowsOf(ctx, s) {
			if err != nil {
				yield(none, &CallbackError{Op: "RowsOf", On: t.what(), Err: err})
				return
			}
			of, err := t.codec.SubjectOf(&row)
			if err == nil && of != s {
				err = fmt.Errorf("anonymize: table %q: the source returned a row of %s for %s: %w", t.name(), of, s, keystore.ErrInvalid)
			}
			if err != nil {
				yield(none, err)
				return
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}

// collect reads all stored rows of a subject before any of them is worked on, so that
// the source's lock or connection is free by then.
func (t *Table[T]) collect(ctx context.Context, s keystore.Subject) ([]T, error) {
	var rows []T
	err := t.each(ctx, s, func(row T) { rows = append(rows, row) })
	return rows, err
}

// each calls f with every stored row of a subject.
func (t *Table[T]) each(ctx context.Context, s keystore.Subject, f func(T)) error {
	return guard("RowsOf", t.what(), func() error {
		for row, err := range t.stored(ctx, s) {
			if err != nil {
				return err
			}
			f(row)
		}
		return nil
	})
}

func (t *Table[T]) what() string { return fmt.Sprintf("table %q", t.name()) }
