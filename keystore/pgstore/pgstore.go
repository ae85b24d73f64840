// Package pgstore is a keystore backend in a PostgreSQL database, for many processes.
package pgstore

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/keystore"
)

// Options of a [Store]. The zero value, and nil, are the defaults.
type Options struct {
	// Schema is the PostgreSQL schema that holds the tables. Default "oubli".
	Schema string

	// MaxConns bounds the connections of the keystore's own pool. Default 4.
	MaxConns int32

	// Standbys are the application_name values of the streaming standbys that must have
	// replayed an epoch before the root that it superseded is destroyed. Default: none.
	Standbys []string

	// ReadOnly refuses to write, with keystore.ErrReadOnly.
	ReadOnly bool
}

// Store is a [keystore.Backend] that several processes share.
type Store struct{}

var _ keystore.Shared = (*Store)(nil)

var errUnfinished = errors.New("unfinished")

// Create makes the schema in the database, and opens it.
func Create(ctx context.Context, dsn string, o *Options) (*Store, error) { return nil, errUnfinished }

// Open opens the keystore in the database that dsn names.
func Open(ctx context.Context, dsn string, o *Options) (*Store, error) { return nil, errUnfinished }

// OpenPool is Open with the settings of the application's pool, in a pool of its own.
func OpenPool(ctx context.Context, pool *pgxpool.Pool, o *Options) (*Store, error) {
	return nil, errUnfinished
}

// Upgrade brings the schema of an older version to this one.
func Upgrade(ctx context.Context, dsn string, o *Options) error { return errUnfinished }

func (s *Store) Get(ctx context.Context, keys [][]byte) ([]keystore.Record, error) {
	return nil, errUnfinished
}
func (s *Store) Scan(ctx context.Context, from, to []byte, limit int) ([]keystore.Record, error) {
	return nil, errUnfinished
}
func (s *Store) Commit(ctx context.Context, groups []keystore.Group) (int, error) {
	return 0, errUnfinished
}
func (s *Store) Replicated(ctx context.Context) error             { return errUnfinished }
func (s *Store) Notify(ctx context.Context) error                 { return errUnfinished }
func (s *Store) Listen(ctx context.Context, changed func()) error { return errUnfinished }
func (s *Store) Name() string                                     { return "" }
func (s *Store) Close() error                                     { return nil }
