package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oubli/oubli/keystore"
)

var _ keystore.Traced = (*Store)(nil)

// lineQuery gives the timeline that a primary writes, which a promotion ends.
const lineQuery = "select case when pg_is_in_recovery() then '' else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end"

// Line implements [keystore.Traced]. A server is on one timeline for as long as it is a
// primary, so a direct connection is asked once, when it is made. Behind a pooler the
// server may change at any time, and each call asks.
func (s *Store) Line(ctx context.Context) string {
	if s.pooled.Load() && s.usable(ctx) == nil {
		if c, err := s.pool.Acquire(ctx); err == nil {
			s.trace(ctx, c.Conn().PgConn())
			c.Release()
		}
	}
	line, _ := s.line.Load().(string)
	return line
}

// trace notes the line of the server that a connection leads to. Engines that are not quite
// PostgreSQL may not know theirs.
func (s *Store) trace(ctx context.Context, c *pgconn.PgConn) {
	r := c.ExecParams(ctx, lineQuery, nil, nil, nil, nil).Read()
	if r.Err == nil && len(r.Rows) == 1 && len(r.Rows[0][0]) > 0 {
		s.line.Store(string(r.Rows[0][0]))
	}
	if !sessionOf(c).direct {
		s.pooled.Store(true)
	}
}
