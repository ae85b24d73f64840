package pgadopt

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

// Reopen begins to undo the adoption of t: its columns take plaintext again, beside
// envelopes, and their defaults are back where these are text. No row is rewritten. A
// table that is being undone already is left as it is. Load t anew afterwards.
func Reopen(ctx context.Context, db *pgxpool.Pool, t *pgmap.Table) error {
	r, err := recordOf(ctx, db, t)
	if err != nil || r != nil && r.Phase == PhaseUndoing {
		return err
	}
	if r == nil {
		return fmt.Errorf("%w: table %q was never adopted", keystore.ErrState, t.Map.Table)
	}
	return RetryDDL(ctx, db, t, "undo the adoption of", func(ctx context.Context, tx pgx.Tx) error {
		if err := Lock(ctx, tx, t); err != nil {
			return err
		}
		r, err := lockRecord(ctx, tx, t)
		if err != nil || r == nil || r.Phase == PhaseUndoing {
			return err // somebody else was quicker
		}
		a, err := newAlteration(ctx, tx, t, &r.Saved)
		if err != nil {
			return err
		}
		a.away = r.retyped
		for _, c := range r.Saved.Columns {
			if now := a.root().columns[c.Name]; now.typ != c.Widened {
				a.types[c.Name] = newType{to: "pg_catalog." + c.Widened + c.Collation}
			}
		}
		if err := a.run(ctx, tx); err != nil {
			return err
		}
		if err := updateSaved(ctx, tx, t.Map.Table, r.Saved); err != nil {
			return err
		}
		return SetPhase(ctx, tx, t.Map.Table, r.Phase, PhaseUndoing)
	})
}

// retyped tells whether a column was no kind of text.
func (r *Record) retyped(column string) bool {
	c := r.column(column)
	return c != nil && c.Retyped
}

// Restore ends the undoing of t: types, defaults, checks, indexes, statistics and views
// are as they were, and the record is gone; with the last one all that adoption made. It
// runs in a transaction of RetryDDL that holds the locks of Lock, when nothing sealed is
// left: the database checks each value against the type and the checks that come back.
func Restore(ctx context.Context, tx pgx.Tx, t *pgmap.Table) error {
	r, err := lockRecord(ctx, tx, t)
	if err != nil {
		return err
	}
	if r == nil || r.Phase != PhaseUndoing {
		return fmt.Errorf("table %q: %w: it is not being undone", t.Map.Table, ErrPhase)
	}
	a, err := newAlteration(ctx, tx, t, &r.Saved)
	if err != nil {
		return err
	}
	for _, c := range r.Saved.Columns {
		now := a.root().columns[c.Name]
		if now.typ == c.Type {
			continue
		}
		n := newType{to: c.Type + c.Collate}
		if c.Retyped {
			// Texts are assigned: a cast would cut off what is too long.
			n.using = pgmap.FromText(now.quoted, c.Type)
		}
		a.types[c.Name] = n
	}
	if err := a.run(ctx, tx); err != nil {
		return err
	}
	if err := give(ctx, tx, r.Saved.Objects); err != nil {
		return err
	}
	return dropRecord(ctx, tx, t.Map.Table)
}
