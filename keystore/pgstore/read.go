package pgstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oubli/oubli/keystore"
)

// Get implements [keystore.Backend].
func (s *Store) Get(ctx context.Context, keys [][]byte) ([]keystore.Record, error) {
	out := make([]keystore.Record, len(keys))
	err := s.Each(ctx, keys, func(i int, r keystore.Record) {
		out[i] = keystore.Record{Rev: r.Rev}
		if r.Rev != 0 {
			out[i].Value = append([]byte{}, r.Value...)
		}
	})
	if err != nil {
		return nil, err
	}
	size := 0
	for _, key := range keys {
		size += len(key)
	}
	arena := make([]byte, 0, size)
	for i, key := range keys {
		n := len(arena)
		arena = append(arena, key...)
		out[i].Key = arena[n:len(arena):len(arena)]
	}
	return out, nil
}

// Each implements [keystore.Streamer], with one statement.
func (s *Store) Each(ctx context.Context, keys [][]byte, f func(i int, r keystore.Record)) error {
	if err := s.usable(ctx); err != nil {
		return s.explain("read", err)
	}
	if len(keys) == 0 {
		return nil
	}
	var asked rows
	order := make([]int, len(keys))
	for i := range order {
		order[i] = i
	}
	if len(keys) > 2 { // neighbours in the index are found faster one after the other
		slices.SortFunc(order, func(i, j int) int { return bytes.Compare(keys[i], keys[j]) })
	}
	for _, i := range order {
		asked.addKey(keys[i])
		asked.addRev(keystore.Rev(i))
	}
	steps := []step{{&getStatement, asked.named(), 0}}
	answers := 0
	begin := func() { answers = 0 }
	err := s.read(ctx, steps, 4, begin, func(v [][]byte) error {
		answers++
		n, err := parseInt(v[0])
		if err != nil || n >= uint64(len(keys)) {
			return errors.Join(errors.New("an answer to what was not asked"), err)
		}
		r := keystore.Record{Key: keys[n]}
		if v[1] != nil {
			rev, err := parseInt(v[1])
			if err != nil {
				return err
			}
			r.Rev, r.Value = keystore.Rev(rev), v[2]
		}
		f(int(n), r)
		return nil
	})
	if err == nil && answers != len(keys) {
		err = fmt.Errorf("%w: %d answers for %d keys", keystore.ErrUnavailable, answers, len(keys))
	}
	if err != nil {
		return s.explain("read", err)
	}
	return nil
}

// Scan implements [keystore.Backend]: bytea is ordered bytewise.
func (s *Store) Scan(ctx context.Context, from, to []byte, limit int) ([]keystore.Record, error) {
	if err := s.usable(ctx); err != nil {
		return nil, s.explain("scan", err)
	}
	if bytes.Compare(from, to) >= 0 {
		return nil, nil
	}
	steps := []step{{&scanStatement, [][]byte{
		int16Value(pageOf(from)), restOf(from), int16Value(pageOf(to)), restOf(to), int64Value(int64(limit))}, 0}}
	var out []keystore.Record
	begin := func() { out = nil }
	err := s.read(ctx, steps, 5, begin, func(v [][]byte) error {
		if v[2] == nil {
			return nil // there are none
		}
		page, err := parseInt(v[0])
		if err != nil {
			return err
		}
		rev, err := parseInt(v[2])
		key := append(append(make([]byte, 0, 1+len(v[1])), byte(page)), v[1]...)
		out = append(out, keystore.Record{Key: key, Value: append([]byte{}, v[3]...), Rev: keystore.Rev(rev)})
		return err
	})
	if err != nil {
		return nil, s.explain("scan", err)
	}
	return out, nil
}

// read runs a reading statement, whose rows have columns values, of which the last tells
// whether the server is a standby. Each attempt calls begin, then row with each row.
func (s *Store) read(ctx context.Context, steps []step, columns int, begin func(), row func(values [][]byte) error) error {
	return s.try(ctx, func(ctx context.Context, c *pgconn.PgConn) (bool, error) {
		begin()
		answered := false
		_, err := s.run(ctx, c, steps, func(v [][]byte) error {
			switch {
			case len(v) != columns || len(v[columns-1]) != 1:
				return fmt.Errorf("%w: the answer has another shape than was asked for", keystore.ErrUnavailable)
			case v[columns-1][0] != 0:
				return errStandby
			}
			answered = true
			return row(v)
		})
		if err == nil && !answered {
			err = fmt.Errorf("%w: an answer without rows", keystore.ErrUnavailable)
		}
		return true, err
	})
}
