package pgadopt

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
)

// stale tells whether a record is about a table that has come back from before its
// adoption, as from a dump that was restored over it, or whose columns somebody has put back
// by hand: they all have the types of then, and adoption had changed one of them. Nothing
// of the record is true any more.
func (r *Record) stale(t *pgmap.Table) bool {
	changed := false
	for _, f := range t.Fields {
		c := r.column(f.Name)
		if c == nil || c.Type != f.Type {
			return false
		}
		changed = changed || c.Type != c.Widened
	}
	return changed
}

// forget removes a stale record, so that the table can be adopted anew.
func forget(ctx context.Context, db *pgxpool.Pool, t *pgmap.Table) error {
	return RetryDDL(ctx, db, t, "look again", func(ctx context.Context, tx pgx.Tx) error {
		if err := Lock(ctx, tx, t); err != nil {
			return err
		}
		r, err := lockRecord(ctx, tx, t)
		if err != nil || r == nil || !r.stale(t) {
			return err
		}
		return dropRecord(ctx, tx, t.Map.Table)
	})
}
