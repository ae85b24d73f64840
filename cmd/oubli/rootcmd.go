package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/keystore"
)

func (a *app) rootCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "root",
		Short: "The root keys: where they are, and when they die",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("oubli root has no command %q: move and status are there", args[0])
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error { return usagef("oubli root move, or oubli root status?") },
	}
	c.AddCommand(&cobra.Command{
		Use:   "move [file:PATH[,file:PATH]]",
		Short: "Move the root to another path, or accept where it now stands",
		Long: `With an argument, moves the root to these files: the new ones are written, the keystore
names them, the old ones are wiped. Without, accepts that the root was moved to this
host or to the path of --root by hand, on purpose, or finishes a move that was
interrupted. Where it came from, no copy of it may be left: what lives there opens old
backups for good.

To add a mirror, or to replace a lost one: end the application, copy PATH and PATH.anchor
of a good mirror to the new place, name all mirrors with --root, and call this without an
argument. To give a lost mirror up, name those that are left.

Processes that share the keystore are started again afterwards, with the new place: until
then they refuse to write.`,
		Args: between(0, 1, "at most one place"),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.adoptRoot(c.Context())
			}
			return a.moveRoot(c.Context(), args[0])
		},
	}, &cobra.Command{
		Use:   "status",
		Short: "Which roots live, and when they die",
		Args:  between(0, 0, "no arguments"),
		RunE:  func(c *cobra.Command, _ []string) error { return a.rootStatus(c.Context()) },
	})
	return c
}

func (a *app) moveRoot(ctx context.Context, to string) error {
	roots, _, err := a.rootStore(to)
	if err != nil {
		return err
	}
	return a.withStore(ctx, writing, func(keys *keystore.Store) error {
		if err := keys.MoveRoots(ctx, roots); err != nil {
			return err
		}
		a.say("the root is now in %s; name it with --root or OUBLI_ROOT", roots.Place().URL)
		return nil
	})
}

// adoptRoot finishes a move that was interrupted, or accepts where the root stands.
func (a *app) adoptRoot(ctx context.Context) error {
	done := false
	err := a.withStore(ctx, writing, func(keys *keystore.Store) error {
		h, err := keys.Health(ctx)
		if err != nil {
			return err
		}
		if h.Moving == "" {
			done = true // it opened: the keystore names this very host and place
			a.say("nothing to do: the keystore's root is here already; it stays where it is")
			return nil
		}
		other, _, err := a.rootStore(h.Moving)
		if err != nil {
			return err
		}
		if err := keys.FinishMove(ctx, other); err != nil {
			return err
		}
		done = true
		a.say("the move is finished: %s holds no root any more", h.Moving)
		return nil
	})
	if done || err != nil && !errors.Is(err, keystore.ErrMismatch) {
		return err
	}
	at, err := a.location()
	if err != nil {
		return err
	}
	roots, _, err := a.rootStore(a.rootURL)
	if err != nil {
		return err
	}
	b, err := at.open(ctx, writing)
	if err != nil {
		return err
	}
	if err := errors.Join(keystore.AdoptRoots(ctx, b, roots), b.Close()); err != nil {
		return err
	}
	a.say("the root belongs to this host now, in %s", roots.Place().URL)
	a.warn("wipe every copy of it on the host or path that it came from")
	return nil
}

func (a *app) rootStatus(ctx context.Context) error {
	return a.withKeystore(ctx, reading, func(keys *openKeystore) error {
		r, _, err := health(ctx, keys)
		if err != nil {
			return err
		}
		p := &printer{w: a.out}
		p.roots(r)
		return p.err
	})
}
