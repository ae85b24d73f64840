package pgadopt

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

// Widen makes the personal columns of t take envelopes: they become text, or stay bytea.
// Checks on them go, and of columns that were no text defaults, indexes and statistics,
// too; what goes is saved in the same transaction. A table that is widened already is left
// as it is, one that came back from before its adoption is widened anew. Load t anew afterwards: its columns have changed.
//
// It fails with keystore.ErrInvalid if the plan, which may be nil where it was looked at
// before, names anything that stands in the way.
func Widen(ctx context.Context, db *pgxpool.Pool, t *pgmap.Table, plan *Plan) error {
	r, err := recordOf(ctx, db, t)
	if err == nil && r != nil && r.stale(t) {
		r, err = nil, forget(ctx, db, t)
	}
	if err != nil || r != nil && r.Phase != PhaseUndoing {
		return err
	}
	if r != nil {
		return fmt.Errorf("%w: the adoption of table %q is being undone: finish that with: oubli adopt undo", keystore.ErrState, t.Map.Table)
	}
	if plan != nil {
		if blocked := plan.BlockedFor(t.Map.Table); len(blocked) > 0 {
			return fmt.Errorf("%w: table %q cannot be adopted as it stands: %s", keystore.ErrInvalid, t.Map.Table, blocked[0])
		}
	}
	return RetryDDL(ctx, db, t, "widen", func(ctx context.Context, tx pgx.Tx) error {
		if err := prepareState(ctx, tx); err != nil {
			return err
		}
		if err := Lock(ctx, tx, t); err != nil {
			return err
		}
		if r, err := lockRecord(ctx, tx, t); err != nil || r != nil {
			return err // somebody else was quicker
		}
		return widen(ctx, tx, t)
	})
}

func widen(ctx context.Context, tx pgx.Tx, t *pgmap.Table) error {
	s := Saved{}
	a, err := newAlteration(ctx, tx, t, &s)
	if err != nil {
		return err
	}
	var retyped []string
	for _, f := range t.Fields {
		c, ok := a.root().columns[f.Name]
		if !ok {
			return fmt.Errorf("%w: table %q has no column %s any more", keystore.ErrInvalid, t.Map.Table, f.Quoted)
		}
		if err := asLoaded(ctx, tx, t, f, c.typ); err != nil {
			return err
		}
		col := SavedColumn{Name: f.Name, Type: c.typ, Collate: c.collate, Collation: c.collation, Widened: "text"}
		using := pgmap.Canonical(c.quoted, f.Base)
		switch {
		case f.Binary:
			col.Widened, using = "bytea", ""
		case !textual(f.Base) || f.Base == "name":
			col.Retyped = true
			retyped = append(retyped, f.Name)
		}
		if c.typ != col.Widened {
			a.types[f.Name] = newType{to: "pg_catalog." + col.Widened + col.Collation, using: using}
		}
		s.Columns = append(s.Columns, col)
	}
	for _, k := range []struct {
		kind    objectKind
		columns []string
	}{{checks, fieldNames(t)}, {statistics, retyped}, {indexes, retyped}} {
		taken, err := take(ctx, tx, k.kind, a.parts, k.columns)
		if err != nil {
			return err
		}
		s.Objects = append(taken, s.Objects...)
	}
	a.away = func(column string) bool {
		for _, c := range s.Columns {
			if c.Name == column {
				return c.Retyped
			}
		}
		return false
	}
	if err := a.run(ctx, tx); err != nil {
		return err
	}
	return insertRecord(ctx, tx, t, s)
}

// asLoaded looks, under the lock, whether a column is still what it was when it was
// looked at without: a value would be changed without a word that its text does not tell.
func asLoaded(ctx context.Context, tx pgx.Tx, t *pgmap.Table, f pgmap.Field, typ string) error {
	if typ != f.Type {
		return fmt.Errorf("%w: column %s of table %q has become %s, and was %s: plan again", keystore.ErrConflict, f.Quoted, t.Map.Table, typ, f.Type)
	}
	if !dated(f.Base) {
		return nil
	}
	var odd bool
	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+t.Quoted+" WHERE NOT "+inRange(f.Quoted)+")").Scan(&odd)
	if err == nil && odd {
		return fmt.Errorf("%w: column %s of table %q has dates now that RFC 3339 does not write: infinity, before the year 1, or after 9999; correct them", keystore.ErrInvalid, f.Quoted, t.Map.Table)
	}
	return pgmap.Fail("look at the dates of "+t.Quoted, err)
}

// recordOf returns the record of a table, nil if there is none, and refuses one that is
// about something else.
func recordOf(ctx context.Context, db pgmap.DB, t *pgmap.Table) (*Record, error) {
	all, err := Records(ctx, db)
	if err != nil {
		return nil, err
	}
	r := all[t.Map.Table]
	return r, r.check(t)
}

// check tells whether the record is about the table, with the columns that it has now.
func (r *Record) check(t *pgmap.Table) error {
	if r == nil {
		return nil
	}
	if r.Relation != t.Quoted {
		return fmt.Errorf("%w: table %q was adopted as %s, and the data map says %s: name it as it was, or undo the adoption first", keystore.ErrInvalid, t.Map.Table, r.Relation, t.Quoted)
	}
	var more []string
	for _, f := range t.Fields {
		if r.column(f.Name) == nil {
			more = append(more, f.Logical)
		}
	}
	if more != nil {
		return fmt.Errorf("%w: table %q was adopted without %s: undo the adoption with the map as it was, and adopt the table anew", keystore.ErrInvalid, t.Map.Table, strings.Join(more, ", "))
	}
	for _, c := range r.Saved.Columns {
		if !hasField(t, c.Name) {
			return fmt.Errorf("%w: column %q of table %q was adopted, and the data map does not name it any more: undo the adoption with the map as it was", keystore.ErrInvalid, c.Name, t.Map.Table)
		}
	}
	return nil
}

func (r *Record) column(name string) *SavedColumn {
	for i := range r.Saved.Columns {
		if r.Saved.Columns[i].Name == name {
			return &r.Saved.Columns[i]
		}
	}
	return nil
}

func hasField(t *pgmap.Table, name string) bool {
	for _, f := range t.Fields {
		if f.Name == name {
			return true
		}
	}
	return false
}
