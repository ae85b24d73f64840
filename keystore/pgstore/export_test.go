package pgstore

import "context"

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
