package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/keystore"
)

func (a *app) advanceCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "advance",
		Short: "Finish what is due: an advance that was interrupted, and roots whose time is up",
		Long: `Finishes an advance that was interrupted, destroys the roots whose time is up, and asks about
those that a service is still destroying. Whoever opens the keystore for writing does the
same, and so does a running worker: this is for a keystore that nobody has open for days,
from a timer, and to learn what is in the way. Exits 1 if something is.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return a.advance(c.Context()) },
	}
}

func (a *app) advance(ctx context.Context) error {
	return a.withStore(ctx, writing, func(keys *keystore.Store) error {
		if err := keys.Advance(ctx); err != nil {
			return err
		}
		h, err := keys.Health(ctx)
		if err != nil {
			return err
		}
		if h.Overdue > 0 {
			return withHint(errors.New(count(h.Overdue, "root is overdue", "roots are overdue")), "oubli root status tells which, and why")
		}
		return nil
	})
}
