package main

import (
	"context"
	"maps"
	"slices"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

// withEraser opens the keystore and calls f with an Eraser for subjects, which has the
// tables of the data map if --db names a database; else mapped is nil.
func (a *app) withEraser(ctx context.Context, how access, subjects []keystore.Subject, actor string,
	f func(keys *keystore.Store, eraser *anonymize.Eraser, mapped *pgmap.Tables) error,
) error {
	run := func(t *tables) error {
		return a.withStore(ctx, how, func(keys *keystore.Store) error {
			eraser, err := anonymize.New(keys, &anonymize.Options{Actor: actor})
			if err != nil {
				return err
			}
			var mapped *pgmap.Tables
			if t != nil {
				if mapped, err = t.mapped(keys); err != nil {
					return err
				}
				eraser.RegisterTables(mapped)
			}
			return f(keys, eraser, mapped)
		})
	}
	if a.db == "" {
		return run(nil)
	}
	return a.withTables(ctx, func(t *tables) error {
		if how == writing {
			a.withoutTables(t, subjects)
		}
		return run(t)
	})
}

// withoutTables warns of subjects of whom the data map has no table.
func (a *app) withoutTables(t *tables, subjects []keystore.Subject) {
	var kinds []string
	for _, s := range subjects {
		if !slices.Contains(kinds, s.Kind()) {
			kinds = append(kinds, s.Kind())
		}
	}
	for _, table := range t.list {
		kinds = slices.DeleteFunc(kinds, func(kind string) bool { return kind == table.Map.Kind })
	}
	for _, kind := range kinds {
		a.warn("no table of %s has rows of a %s: their keys are destroyed, and no row is blanked", a.mapFile, kind)
	}
}

// sayLeft looks for plaintext of somebody who is erased, and says where it is. Blanking is
// done once, before the keys are destroyed: somebody erased without --db has not been
// blanked, and a program without codecs may write at any time.
func (a *app) sayLeft(ctx context.Context, mapped *pgmap.Tables, r anonymize.Result) (found bool, err error) {
	if mapped == nil {
		return false, nil
	}
	left, err := mapped.Left(ctx, r.Subject, r.Kept)
	for _, table := range slices.Sorted(maps.Keys(left)) {
		a.say("error: %s is erased, and %s of table %s still in the clear", r.Subject, count(left[table], "row", "rows"), table)
	}
	return len(left) > 0, err
}
