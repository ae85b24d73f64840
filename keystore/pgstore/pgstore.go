// Package pgstore keeps a keystore in a PostgreSQL database, for many processes.
//
// All records stand in one table whose first key column is the page, so that an engine
// that speaks PostgreSQL's protocol and spreads rows by it keeps every page together.
// There is no trigger, secondary index or advisory lock, and correctness does not need
// LISTEN. Transactions run at READ COMMITTED; what a commit names is locked, row by row,
// and checked before its first write.
//
// Every commit sets synchronous_commit itself and is refused while the server runs with
// fsync=off. Reads and commits are refused on a standby, which may lag. Serialization
// failures, deadlocks, lost connections and a failover are tried again for some seconds,
// commits only where it is certain that nothing was applied.
//
// It works through a pooler in transaction mode, as pgbouncer: where one is noticed,
// statements are not prepared. That costs some tens of microseconds a statement. Listening
// needs a connection without a pooler; nothing else does.
//
// Commits lock what they name row by row. A page that very many sessions write under without
// a pause can make an advance wait for it for up to a second or so: PostgreSQL lets those who
// share a lock pass by one who waits to have it alone.
package pgstore

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/keystore"
)

// Options of a [Store]. The zero value, and nil, are the defaults.
type Options struct {
	// Schema is the PostgreSQL schema that holds the tables. Default "oubli".
	Schema string

	// MaxConns bounds the connections of the keystore's own pool. Default 4. Listening
	// takes one more.
	MaxConns int32

	// Standbys are the application_name values of the streaming standbys that must have
	// replayed an epoch before the root that it superseded is destroyed. Default: none.
	// One that is not named must never be promoted at grace 0: what it lacks of a single
	// advance makes all of it unreadable for good. Every process that writes names the same.
	// The role needs pg_monitor to see them.
	Standbys []string

	// ReadOnly refuses to write, with keystore.ErrReadOnly.
	ReadOnly bool
}

func (o *Options) withDefaults() *Options {
	var c Options
	if o != nil {
		c = *o
	}
	if c.Schema == "" {
		c.Schema = "oubli"
	}
	if c.MaxConns <= 0 {
		c.MaxConns = 4
	}
	return &c
}

// Store is a [keystore.Shared] in a PostgreSQL database, safe for concurrent use. Make
// one with [Create], [Open] or [OpenPool].
type Store struct {
	pool     *pgxpool.Pool
	name     string
	schema   string
	standbys []string
	readOnly bool
	texts    map[string]string // the SQL of each statement, by its name
	retryFor time.Duration
	closed   atomic.Bool
	line     atomic.Value // a string, see Line
	pooled   atomic.Bool  // a pooler stands between
}

var _ keystore.Shared = (*Store)(nil)

// forShare is the lock on what a commit names and does not write.
const forShare = "for share of r"

// Create makes the tables in the database, and their schema unless it is there, and
// opens the empty keystore. Tables that are there, of this version and empty, are taken
// as they are. It fails with ErrExists where there is a keystore, or a table of somebody
// else's in the way; nothing is then changed.
func Create(ctx context.Context, dsn string, o *Options) (*Store, error) {
	s, err := dial(dsn, o)
	if err != nil {
		return nil, err
	}
	return s.orClose("create", s.create(ctx))
}

// Open opens the keystore in the database that dsn names, a URL or a list of key=value
// as libpq has it. It fails with ErrNotFound where there is none, and with ErrUnavailable
// where the database can't be reached or used: a schema of another version, a missing
// privilege, a standby, a server without fsync. It never creates.
//
// Of several hosts in dsn the primary is chosen, unless target_session_attrs says
// otherwise.
func Open(ctx context.Context, dsn string, o *Options) (*Store, error) {
	s, err := dial(dsn, o)
	if err != nil {
		return nil, err
	}
	return s.orClose("open", s.open(ctx))
}

// OpenPool is Open with the settings of the application's pool, in a pool of its own: a
// keystore that took connections of the application's pool would wait for ever for one
// while the application, in a transaction, waits for the keystore.
func OpenPool(ctx context.Context, pool *pgxpool.Pool, o *Options) (*Store, error) {
	s, err := newStore(pool.Config(), o)
	if err != nil {
		return nil, err
	}
	return s.orClose("open", s.open(ctx))
}

// Upgrade brings the schema of an older version to this one, in one transaction.
// A schema of this version stays as it is.
func Upgrade(ctx context.Context, dsn string, o *Options) error {
	s, err := dial(dsn, o)
	if err != nil {
		return err
	}
	defer s.pool.Close()
	return s.explain("upgrade", s.upgrade(ctx, migrations()))
}

func (s *Store) orClose(op string, err error) (*Store, error) {
	if err != nil {
		s.pool.Close()
		return nil, s.explain(op, err)
	}
	return s, nil
}

// Name implements [keystore.Backend]: host, port, database and schema.
func (s *Store) Name() string { return s.name }

// Close waits for running operations and closes the connections. Later calls fail with
// ErrClosed.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return s.explain("close", keystore.ErrClosed)
	}
	s.pool.Close()
	return nil
}

// usable is asked before each operation.
func (s *Store) usable(ctx context.Context) error {
	if s.closed.Load() {
		return keystore.ErrClosed
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", keystore.ErrUnavailable, context.Cause(ctx))
	}
	return nil
}
