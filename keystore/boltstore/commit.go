package boltstore

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	bolt "go.etcd.io/bbolt"

	"github.com/oubli/oubli/keystore"
)

// call is one Commit that waits for its transaction.
type call struct {
	groups   []keystore.Group
	done     int
	err      error
	finished chan struct{} // closed when done and err are final
}

// queue holds the calls that no transaction has taken yet.
type queue struct {
	mu    sync.Mutex
	calls []*call
}

func (q *queue) add(c *call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.calls = append(q.calls, c)
}

func (q *queue) takeAll() []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	calls := q.calls
	q.calls = nil
	return calls
}

// withdraw tells whether c was still waiting; then nobody will take it.
func (q *queue) withdraw(c *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.calls, c)
	if i < 0 {
		return false
	}
	q.calls = slices.Delete(q.calls, i, i+1)
	return true
}

// Commit implements [keystore.Backend]. The groups of one call, and of all calls that
// wait at the same time, go into one transaction: whoever gets to write takes every
// waiting call along. A canceled context ends the wait for the turn, not a
// transaction under way.
func (s *Store) Commit(ctx context.Context, groups []keystore.Group) (done int, err error) {
	if err := s.enter(ctx); err != nil {
		return 0, explain(s.path, "commit", err)
	}
	defer s.leave()
	if s.readOnly {
		return 0, explain(s.path, "commit", keystore.ErrReadOnly)
	}
	if err := validate(groups); err != nil {
		return 0, explain(s.path, "commit", err)
	}
	c := &call{groups: groups, finished: make(chan struct{})}
	s.queue.add(c)
	select {
	case <-c.finished:
	case s.leader <- struct{}{}:
		if calls := s.queue.takeAll(); len(calls) > 0 {
			s.transact(calls)
		}
		<-s.leader
		<-c.finished // by this turn or an earlier one
	case <-ctx.Done():
		if s.queue.withdraw(c) {
			return 0, explain(s.path, "commit", canceled(ctx))
		}
		<-c.finished
	}
	if c.err != nil {
		return c.done, explain(s.path, "commit", c.err)
	}
	return c.done, nil
}

// validate refuses what bbolt would refuse in the middle of a group.
func validate(groups []keystore.Group) error {
	for _, g := range groups {
		for _, w := range g {
			if len(w.Key) == 0 || len(w.Key) > bolt.MaxKeySize {
				return fmt.Errorf("%w: a key has %d bytes, 1 to %d are allowed", keystore.ErrInvalid, len(w.Key), bolt.MaxKeySize)
			}
			if len(w.Value) > bolt.MaxValueSize-recordHeader {
				return fmt.Errorf("%w: the value of record %x is too large", keystore.ErrInvalid, w.Key)
			}
			if w.Op == keystore.Put && w.Rev == 0 {
				return fmt.Errorf("%w: record %x is written with revision 0", keystore.ErrInvalid, w.Key)
			}
		}
	}
	return nil
}

// transact commits the calls in one transaction, and finishes them.
func (s *Store) transact(calls []*call) {
	var err error
	if broken := s.broken.Load(); broken != nil {
		err = *broken
	} else if err = s.write(calls); err != nil && !isFull(err) {
		s.breakDown(err)
	}
	for _, c := range calls {
		if err != nil {
			c.done, c.err = 0, err // the transaction failed for all of them
		}
		close(c.finished)
	}
}

func (s *Store) write(calls []*call) error {
	return recovering(func() error {
		tx, err := s.db.Begin(true)
		if err != nil {
			return err
		}
		// Not db.Update: after a panic that reads the file again, in a goroutine of
		// its own, where nobody can recover from a fault.
		defer tx.Rollback()
		b := tx.Bucket(bucketName)
		b.FillPercent = fillPercent
		w := &writer{bucket: b, cursor: b.Cursor(), sum: b.Sequence()}
		for _, c := range calls {
			if err := w.apply(c); err != nil {
				return err
			}
		}
		if !w.dirty {
			return nil
		}
		if err := b.SetSequence(w.sum); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// writer applies groups within a transaction.
type writer struct {
	bucket *bolt.Bucket
	cursor *bolt.Cursor
	sum    uint64 // of the revisions of all records, modulo 2^64; stands as the bucket's sequence
	dirty  bool
}

// apply writes the groups of c up to the first that fails. Its error is that of the
// whole transaction.
func (w *writer) apply(c *call) error {
	for _, g := range c.groups {
		g = inKeyOrder(g)
		if c.err = w.check(g); c.err != nil {
			return nil
		}
		if err := w.put(g); err != nil {
			return err
		}
		c.done++
	}
	return nil
}

// check tells whether all revisions hold that g names. They go on holding until the
// transaction ends, since it is the only one that writes.
func (w *writer) check(g keystore.Group) error {
	for i := range g {
		key := g[i].Key
		var rev keystore.Rev
		if found, data := w.cursor.Seek(key); found != nil && bytes.Equal(found, key) {
			var err error
			if rev, _, err = parseRecord(key, data); err != nil {
				return err
			}
		}
		if rev != g[i].If {
			return fmt.Errorf("record %x: %w", key, keystore.ErrConflict)
		}
	}
	return nil
}

func (w *writer) put(g keystore.Group) error {
	size := 0
	for i := range g {
		size += recordHeader + len(g[i].Value)
	}
	arena := make([]byte, 0, size) // bbolt keeps the values until the commit
	for i := range g {
		step := &g[i]
		switch step.Op {
		case keystore.Put:
			n := len(arena)
			arena = appendRecord(arena, step.Key, step.Rev, step.Value)
			if err := w.bucket.Put(step.Key, arena[n:]); err != nil {
				return err
			}
			w.sum += uint64(step.Rev)
		case keystore.Delete:
			if err := w.bucket.Delete(step.Key); err != nil {
				return err
			}
		default:
			continue
		}
		w.sum -= uint64(step.If)
		w.dirty = true
	}
	return nil
}

// inKeyOrder returns g sorted by key, which bbolt finds faster, as a copy if need be.
func inKeyOrder(g keystore.Group) keystore.Group {
	byKey := func(a, b keystore.Write) int { return bytes.Compare(a.Key, b.Key) }
	if slices.IsSortedFunc(g, byKey) {
		return g
	}
	g = slices.Clone(g)
	slices.SortFunc(g, byKey)
	return g
}
