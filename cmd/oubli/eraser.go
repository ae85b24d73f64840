package main

import (
	"context"
	"slices"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

// withEraser opens the keystore and calls f with an Eraser for subjects, which has the
// tables of the data map if --db names a database.
func (a *app) withEraser(ctx context.Context, how access, subjects []keystore.Subject, actor string, f func(*keystore.Store, *anonymize.Eraser) error) error {
	run := func(t *tables) error {
		return a.withStore(ctx, how, func(keys *keystore.Store) error {
			eraser, err := anonymize.New(keys, &anonymize.Options{Actor: actor})
			if err != nil {
				return err
			}
			if t != nil {
				mapped, err := t.mapped(keys)
				if err != nil {
					return err
				}
				eraser.RegisterTables(mapped)
			}
			return f(keys, eraser)
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
