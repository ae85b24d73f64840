package pgadopt

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

// Binding is what the values of a table are sealed with and bound to, besides the table's
// logical name, since its first run. Under another data map or with another keystore a run
// would seal the rest of the table so that no map and no keystore opens all of it.
type Binding struct {
	Keystore string       `json:"keystore"`
	Kind     string       `json:"kind"`  // of subjects
	Keyed    bool         `json:"keyed"` // values are bound to their row
	Fields   []BoundField `json:"fields"`
}

// BoundField is what the values of a column are bound to.
type BoundField struct {
	Column  string `json:"column"` // in the database
	Logical string `json:"logical"`
	Purpose string `json:"purpose,omitempty"`
}

func bindingOf(ctx context.Context, keys *keystore.Store, t *pgmap.Table) (*Binding, error) {
	info, err := keys.Info(ctx)
	if err != nil {
		return nil, keysAway{err}
	}
	b := &Binding{Keystore: info.ID.String(), Kind: t.Map.Kind, Keyed: t.Bound != nil}
	for i, f := range t.Fields {
		b.Fields = append(b.Fields, BoundField{Column: f.Name, Logical: f.Logical, Purpose: t.Map.Fields[i].Purpose})
	}
	return b, nil
}

// bind notes what a run binds values to, the first time, and refuses what differs from it
// later.
func bind(ctx context.Context, c Config, t *pgmap.Table) error {
	return retry(ctx, func() error {
		return fail("note what values are bound to", pgx.BeginFunc(ctx, c.DB, func(tx pgx.Tx) error {
			r, err := lockRecord(ctx, tx, t)
			if err != nil {
				return err
			}
			if r == nil {
				return fmt.Errorf("table %q: %w: it is being undone", t.Map.Table, ErrPhase)
			}
			if r.Saved.Binding != nil {
				return r.bound(ctx, c, t)
			}
			if r.Saved.Binding, err = bindingOf(ctx, c.Keys, t); err != nil {
				return err
			}
			return updateSaved(ctx, tx, t.Map.Table, r.Saved)
		}))
	})
}

// bound refuses a data map and a keystore that are not those of the first run.
func (r *Record) bound(ctx context.Context, c Config, t *pgmap.Table) error {
	was := r.Saved.Binding
	if was == nil {
		return nil
	}
	now, err := bindingOf(ctx, c.Keys, t)
	if err != nil {
		return err
	}
	differs := func(what string, was, now any) error {
		return fmt.Errorf("%w: the values of table %q were sealed with %s %v, and it is %v now: go on with what it was, or undo the adoption with that first", keystore.ErrInvalid, t.Map.Table, what, was, now)
	}
	switch {
	case was.Keystore != now.Keystore:
		return differs("the keystore", was.Keystore, now.Keystore)
	case was.Kind != now.Kind:
		return differs("subjects of the kind", was.Kind, now.Kind)
	case was.Keyed != now.Keyed:
		return differs("a key: in the data map", was.Keyed, now.Keyed)
	}
	for _, f := range now.Fields {
		i := slices.IndexFunc(was.Fields, func(w BoundField) bool { return w.Column == f.Column })
		switch {
		case i < 0: // the record's own check names it
		case was.Fields[i].Logical != f.Logical:
			return differs("column "+f.Column+" under the name", was.Fields[i].Logical, f.Logical)
		case was.Fields[i].Purpose != f.Purpose:
			return differs(fmt.Sprintf("column %s for the purpose", f.Column), fmt.Sprintf("%q", was.Fields[i].Purpose), fmt.Sprintf("%q", f.Purpose))
		}
	}
	return nil
}
