package fieldcrypt

import (
	"context"
	"iter"

	"github.com/oubli/oubli/keystore"
)

// streamBatch is how many rows OpenSeq opens with one round trip.
const streamBatch = 256

// OpenSeq opens a stream of stored rows in batches, in order, with flat memory. A row
// that cannot be opened is yielded as it is stored, with its *RowError, whose Row counts
// from the beginning of the stream, and the stream goes on; so does an error that seq
// yields. An error about the keystore as a whole ends it. A row whose person was erased
// or restricted while it waited in its batch is opened anew before it is yielded.
func (c *Codec[T]) OpenSeq(ctx context.Context, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		s := &stream[T]{c: c, ctx: ctx, yield: yield}
		for row, err := range seq {
			if err != nil {
				if !s.flush() || !yield(row, err) {
					return
				}
				continue
			}
			if s.stored = append(s.stored, row); len(s.stored) == streamBatch && !s.flush() {
				return
			}
		}
		s.flush()
	}
}

// stream is a run of OpenSeq with the batch that it gathers.
type stream[T any] struct {
	c     *Codec[T]
	ctx   context.Context // of the one call of OpenSeq
	yield func(T, error) bool
	done  int // rows of earlier batches

	stored []T
	opened []T
	rows   []*T            // into opened
	used   []keystore.Keys // whose keys opened the row
	failed []error
}

// flush opens and yields the batch. It returns false when the stream is over.
func (s *stream[T]) flush() bool {
	n := len(s.stored)
	if cap(s.opened) < n {
		s.opened, s.rows = make([]T, n), make([]*T, n)
		s.used, s.failed = make([]keystore.Keys, n), make([]error, n)
		for i := range s.opened {
			s.rows[i] = &s.opened[i]
		}
	}
	if !s.open(0, n) {
		return false
	}
	for i := range s.stored {
		if s.failed[i] == nil && !keystore.Fresh(s.used[i]) && !s.open(i, i+1) {
			return false
		}
		if !s.yield(s.opened[i], s.failed[i]) {
			return false
		}
	}
	s.done += n
	clear(s.stored)
	clear(s.opened)
	s.stored = s.stored[:0]
	return true
}

// open opens rows from to to-1 of the batch.
func (s *stream[T]) open(from, to int) bool {
	sc := s.c.borrow()
	defer s.c.giveBack(sc)
	copy(s.opened[from:to], s.stored[from:to])
	clear(s.failed[from:to])
	bad, err := s.c.openRows(s.ctx, sc, s.rows[from:to], s.used[from:to])
	if err != nil {
		var none T
		s.yield(none, err)
		return false
	}
	for _, b := range bad {
		i := from + b.Row
		b.Row = s.done + i
		s.failed[i] = b
	}
	return true
}
