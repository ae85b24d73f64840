// Package memstore is a [keystore.Backend] in memory: for tests, and the shortest
// answer to what a Backend must do. Nothing survives the process.
package memstore

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/oubli/oubli/keystore"
)

// Store is a keystore.Backend in memory. It is safe for concurrent use. Make one
// with [New].
type Store struct {
	mu      sync.RWMutex
	records map[string]stored
	keys    []string // of records, sorted
	closed  bool
}

// stored is never changed in place, so that snapshots share it.
type stored struct {
	rev   keystore.Rev
	value []byte
}

// New returns an empty Store.
func New() *Store {
	return &Store{records: make(map[string]stored)}
}

// Snapshot returns an independent, open copy of what is stored now: a backup, or,
// after Close, what a process that starts anew would find.
func (s *Store) Snapshot() *Store {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return &Store{records: maps.Clone(s.records), keys: slices.Clone(s.keys)}
}

// Get implements [keystore.Backend].
func (s *Store) Get(ctx context.Context, keys [][]byte) ([]keystore.Record, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	out := make([]keystore.Record, len(keys))
	for i, key := range keys {
		out[i] = s.record(string(key))
	}
	return out, nil
}

// Scan implements [keystore.Backend].
func (s *Store) Scan(ctx context.Context, from, to []byte, limit int) ([]keystore.Record, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	first, _ := slices.BinarySearch(s.keys, string(from))
	end, _ := slices.BinarySearch(s.keys, string(to))
	var out []keystore.Record
	for i := first; i < end && len(out) < limit; i++ {
		out = append(out, s.record(s.keys[i]))
	}
	return out, nil
}

// Commit implements [keystore.Backend].
func (s *Store) Commit(ctx context.Context, groups []keystore.Group) (done int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	for i, g := range groups {
		for _, w := range g {
			if s.records[string(w.Key)].rev != w.If {
				return i, fmt.Errorf("%s: record %x: %w", s.Name(), w.Key, keystore.ErrConflict)
			}
		}
		for _, w := range g {
			s.write(w)
		}
	}
	return len(groups), nil
}

// Name implements [keystore.Backend].
func (s *Store) Name() string { return "memory:" }

// Close implements [keystore.Backend]. Snapshot still works afterwards.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("%s: %w", s.Name(), keystore.ErrClosed)
	}
	s.closed = true
	return nil
}

func (s *Store) usable(ctx context.Context) error {
	if s.closed {
		return fmt.Errorf("%s: %w", s.Name(), keystore.ErrClosed)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w: %w", s.Name(), keystore.ErrUnavailable, context.Cause(ctx))
	}
	return nil
}

func (s *Store) record(key string) keystore.Record {
	r := s.records[key]
	return keystore.Record{Key: []byte(key), Value: bytes.Clone(r.value), Rev: r.rev}
}

func (s *Store) write(w keystore.Write) {
	key := string(w.Key)
	i, found := slices.BinarySearch(s.keys, key)
	switch w.Op {
	case keystore.Put:
		s.records[key] = stored{rev: w.Rev, value: append([]byte{}, w.Value...)}
		if !found {
			s.keys = slices.Insert(s.keys, i, key)
		}
	case keystore.Delete:
		delete(s.records, key)
		if found {
			s.keys = slices.Delete(s.keys, i, i+1)
		}
	}
}
