package pgstore

import (
	"context"
	"time"
)

// UnlockGuards makes commits check what they only name without locking it.
func (s *Store) UnlockGuards() { s.texts = texts(s.schema, "limit 1") }

// UpgradeTo is Upgrade by an oubli that knows more steps than this one.
func UpgradeTo(ctx context.Context, dsn string, o *Options, more ...string) error {
	s, err := dial(dsn, o)
	if err != nil {
		return err
	}
	defer s.pool.Close()
	return s.explain("upgrade", s.upgrade(ctx, append(migrations(), more...)))
}

// Unchecked is a Store that was not asked what it leads to, and does not try for long.
func Unchecked(dsn string) (*Store, error) {
	s, err := dial(dsn, nil)
	if err == nil {
		s.retryFor = 200 * time.Millisecond
	}
	return s, err
}
