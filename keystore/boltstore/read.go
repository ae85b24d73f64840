package boltstore

import (
	"bytes"
	"context"
	"errors"
	"io"

	bolt "go.etcd.io/bbolt"

	"github.com/oubli/oubli/keystore"
)

// checkEvery is the number of records after which a long read looks at its context.
const checkEvery = 1024

// view runs f in a read transaction.
func (s *Store) view(ctx context.Context, op string, f func(*bolt.Tx) error) error {
	err := s.enter(ctx)
	if err == nil {
		defer s.leave()
		err = recovering(func() error {
			tx, err := s.db.Begin(false)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			return f(tx)
		})
	}
	if err != nil {
		return explain(s.path, op, err)
	}
	return nil
}

// Get implements [keystore.Backend].
func (s *Store) Get(ctx context.Context, keys [][]byte) ([]keystore.Record, error) {
	records := make([]keystore.Record, len(keys))
	err := s.view(ctx, "get", func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketName).Cursor()
		for i, key := range keys {
			if i%checkEvery == checkEvery-1 {
				if err := canceled(ctx); err != nil {
					return err
				}
			}
			r := &records[i]
			r.Key = key
			found, data := c.Seek(key)
			if found == nil || !bytes.Equal(found, key) {
				continue
			}
			var err error
			if r.Rev, r.Value, err = parseRecord(key, data); err != nil {
				return err
			}
		}
		own(records)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// Scan implements [keystore.Backend].
func (s *Store) Scan(ctx context.Context, from, to []byte, limit int) ([]keystore.Record, error) {
	var records []keystore.Record
	err := s.view(ctx, "scan", func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketName).Cursor()
		for key, data := c.Seek(from); key != nil && len(records) < limit && bytes.Compare(key, to) < 0; key, data = c.Next() {
			if len(records)%checkEvery == checkEvery-1 {
				if err := canceled(ctx); err != nil {
					return err
				}
			}
			rev, value, err := parseRecord(key, data)
			if err != nil {
				return err
			}
			records = append(records, keystore.Record{Key: key, Value: value, Rev: rev})
		}
		own(records)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// own replaces keys and values, which lie in mapped memory or with the caller, by
// copies that share one allocation.
func own(records []keystore.Record) {
	size := 0
	for i := range records {
		size += len(records[i].Key) + len(records[i].Value)
	}
	arena := make([]byte, 0, size)
	clone := func(b []byte) []byte {
		n := len(arena)
		arena = append(arena, b...)
		return arena[n:len(arena):len(arena)] // appending to one must not run into the next
	}
	for i := range records {
		r := &records[i]
		r.Key, r.Value = clone(r.Key), clone(r.Value)
	}
}

// CopyTo writes a consistent copy of the keystore to w while it is in use: a backup.
// What is not ErrUnavailable, ErrTampered or ErrClosed is w's own error.
func (s *Store) CopyTo(ctx context.Context, w io.Writer) error {
	out := &copyWriter{ctx: ctx, w: w}
	err := s.view(ctx, "copy", func(tx *bolt.Tx) error {
		_, err := tx.WriteTo(out)
		return err
	})
	if out.err != nil {
		return out.err // the reader of the copy failed, not the keystore
	}
	return err
}

// copyWriter ends a copy when the context does, and remembers what went wrong on
// the writing side.
type copyWriter struct {
	ctx context.Context
	w   io.Writer
	err error
}

func (c *copyWriter) Write(p []byte) (n int, err error) {
	if c.err = canceled(c.ctx); c.err == nil {
		n, c.err = c.w.Write(p)
		if c.err == nil && n < len(p) {
			c.err = io.ErrShortWrite
		}
	}
	return n, c.err
}

// Compact writes the keystore file src to the new file dst without free space. src
// must not be open for writing elsewhere.
func Compact(dst, src string) error {
	from, err := Open(src, &Options{ReadOnly: true})
	if err != nil {
		return err
	}
	err = createFile(dst, func(db *bolt.DB) error {
		return recovering(func() error { return bolt.Compact(db, from.db, 64<<20) })
	})
	return errors.Join(explain(dst, "compact", err), from.Close())
}
