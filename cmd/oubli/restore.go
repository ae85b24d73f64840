package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/keystore"
)

func (a *app) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore [KEYSTORE-COPY]",
		Short: "Put a backup of the keystore in place, without bringing anybody back",
		Long: `Makes an old keystore fit to serve: erases again who was erased since it was made, and
advances past every living root.

A bolt keystore takes the file KEYSTORE-COPY, works on a copy of it, and only then puts
that in place. The copy that was given is not changed. A keystore of which one meta page
is damaged can be given as its own copy. What stood there before is kept as
PATH.replaced-TIME; its data keys die with the roots. If it is interrupted,
"oubli restore PATH.restoring" goes on.

A keystore in PostgreSQL takes no argument. Stop every process that uses it, put the
database back by its own means (a point-in-time recovery, or pg_restore into an empty
schema), then call this: it works in place. Until it has, the keystore is refused by
whoever opens it. If it is interrupted, call it again.`,
		Args: between(0, 1, "at most one KEYSTORE-COPY"),
		RunE: func(c *cobra.Command, args []string) error {
			at, err := a.location()
			if err != nil {
				return err
			}
			return at.restore(c.Context(), a, args)
		},
	}
}

// revive makes an old keystore fit to serve where it stands, and checks that it opens.
func (a *app) revive(ctx context.Context, at location, roots *root) (keystore.RestoreReport, error) {
	b, err := at.open(ctx, writing)
	if err != nil {
		return keystore.RestoreReport{}, err
	}
	report, err := keystore.Restore(ctx, b, roots, nil)
	if err := errors.Join(err, b.Close()); err != nil {
		return report, err
	}
	keys, _, err := a.openAt(ctx, at, roots, nil, writing)
	if err != nil {
		return report, err
	}
	h, err := keys.Health(ctx)
	if err == nil && h.Moving != "" {
		a.warn("it is from before a move, and %s may hold its roots: nothing is final until oubli root move has finished that", h.Moving)
	}
	return report, errors.Join(err, keys.Close())
}

// revived says what a restore did.
func (a *app) revived(name string, report keystore.RestoreReport) {
	a.say("restored %s at epoch %d", name, report.Epoch)
	for _, s := range report.Replayed {
		a.say("erased again: %s", s)
	}
}

// untouched tells whether nothing was done to the roots.
func untouched(before, after keystore.RootContents) bool {
	if len(before.Living) != len(after.Living) || before.Anchor.Advances != after.Anchor.Advances {
		return false
	}
	for i := range before.Living {
		if before.Living[i].ID != after.Living[i].ID {
			return false
		}
	}
	return true
}
