// Package boltstore keeps a keystore in one bbolt file.
//
// A file is for one process at a time: who opens it while another has it gets
// [keystore.ErrLocked]. Reading only, several share it. Every commit is durable when
// it returns, by two fsyncs; commits that come at the same time share a transaction.
//
// bbolt maps its file and follows what it finds there; a file that was cut or altered
// makes it fault or panic. So the whole file is read and checked, by ordinary reads,
// before bbolt sees it: the shape of every page in use, the checksum of every record,
// and that no record is missing or from an earlier state, by the sum of all revisions.
// This takes a fraction of a second for a million subjects. A file that fails is
// refused with [keystore.ErrTampered]. Faults later on, when something alters the
// file under a running process, become that error too. The checks meet accidents; what
// an attacker writes on purpose is met by the encryption and the anchor above.
//
// Deleted records stay in the file's free pages until these are used again, and in
// every copy. This is why an erasure does not rest on deletion.
package boltstore

import (
	"context"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/oubli/oubli/keystore"
)

const (
	// allocSize is the step by which the file grows. bbolt's own, 16 MB, would make
	// a small keystore large.
	allocSize = 1 << 20

	// mapSize is the address space that is taken at once. When a file outgrows what
	// is mapped, the writer, and behind it everybody, waits for all reads to end; a
	// backup is a long one. Nothing is used up but addresses.
	mapSize = 1 << 30 * (strconv.IntSize / 64)

	// fillPercent is how full bbolt leaves a page that it splits. Subjects come in
	// random key order, so both halves of a split page will be filled on.
	fillPercent = 0.5
)

var bucketName = []byte("o")

// Options are the choices in opening or creating a file.
type Options struct {
	ReadOnly bool          // write nothing; several processes may read together
	Timeout  time.Duration // how long to wait for another process to let go; 0: 3 seconds
	MaxSize  int64         // bytes that the file may grow to; 0: no limit
}

func (o *Options) withDefaults() *Options {
	var c Options
	if o != nil {
		c = *o
	}
	if c.Timeout <= 0 {
		c.Timeout = 3 * time.Second
	}
	return &c
}

// Store is a [keystore.Backend] in a bbolt file, safe for concurrent use. Make one
// with [Create] or [Open].
type Store struct {
	path     string
	readOnly bool
	db       *bolt.DB

	running sync.RWMutex // held for reading by each operation, for writing by Close
	closed  atomic.Bool
	broken  atomic.Pointer[error] // what makes the open file unusable until it is opened again

	queue  queue
	leader chan struct{} // holds one token: whoever has put it writes
}

// Create makes an empty keystore file with mode 0600 and opens it. It fails with
// ErrExists where there is something already; what it leaves under path is whole.
func Create(path string, o *Options) (*Store, error) {
	err := createFile(path, func(db *bolt.DB) error {
		return db.Update(func(tx *bolt.Tx) error {
			_, err := tx.CreateBucket(bucketName)
			return err
		})
	})
	if err != nil {
		return nil, explain(path, "create", err)
	}
	return Open(path, o)
}

// Open opens an existing keystore file. It fails with ErrNotFound where there is
// none, with ErrLocked when another process has it, and with ErrTampered when it was
// cut or altered. It never creates.
func Open(path string, o *Options) (*Store, error) {
	o = o.withDefaults()
	db, err := openDB(path, o)
	if err != nil {
		return nil, explain(path, "open", err)
	}
	return &Store{path: path, readOnly: o.ReadOnly, db: db, leader: make(chan struct{}, 1)}, nil
}

// Name implements [keystore.Backend].
func (s *Store) Name() string { return "bolt:" + s.path }

// Close waits for running operations and closes the file. Later calls fail with
// ErrClosed.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return explain(s.path, "close", keystore.ErrClosed)
	}
	s.running.Lock()
	defer s.running.Unlock()
	return explain(s.path, "close", recovering(s.db.Close))
}

// enter begins an operation; leave ends it.
func (s *Store) enter(ctx context.Context) error {
	if err := canceled(ctx); err != nil {
		return err
	}
	if s.closed.Load() { // before taking the lock: Close may wait for a long copy
		return keystore.ErrClosed
	}
	s.running.RLock()
	if s.closed.Load() {
		s.running.RUnlock()
		return keystore.ErrClosed
	}
	if err := s.broken.Load(); err != nil {
		s.running.RUnlock()
		return *err
	}
	return nil
}

func (s *Store) leave() { s.running.RUnlock() }

// breakDown makes all later calls fail.
func (s *Store) breakDown(cause error) {
	err := fmt.Errorf("%w: an earlier write failed (%v); %s", keystore.ErrUnavailable, cause, hintReopen)
	s.broken.CompareAndSwap(nil, &err)
}

// recovering runs f; a fault in mapped memory or a panic becomes ErrTampered.
func recovering(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", keystore.ErrTampered, p)
		}
	}()
	return f()
}
