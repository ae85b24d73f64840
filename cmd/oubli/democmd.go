package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/cmd/oubli/internal/demo"
	"github.com/oubli/oubli/keystore"
)

func (a *app) demoCommand() *cobra.Command {
	o := serveOptions{actor: "demo", permit: texts(permissions)}
	serve := false
	c := &cobra.Command{
		Use:   "demo",
		Short: "The whole story on real data, narrated, or the admin page on them",
		Long: `Shows in a temporary folder, on the customers and invoices of the Chinook music shop,
what oubli is for, and checks every claim as it goes. Exits 1 if one does not hold.

With --serve it opens the admin page on that shop instead, and prints a link to it. Some
customers are erased and restricted already, the others are yours. A newsletter that they
have subscribed to is told of each erasure before it happens, and can be made to refuse.
When the page ends, with Ctrl-C, the folder is removed.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case serve:
				return a.demoPage(c.Context(), &o)
			case c.Flags().Changed("listen"):
				return usagef("--listen is for --serve")
			}
			return demo.Run(c.Context(), a.out)
		},
	}
	c.Flags().BoolVar(&serve, "serve", false, "the admin page, in a browser on this machine")
	o.flags(c)
	return c
}

// demoPage serves the admin page of the demo's shop.
func (a *app) demoPage(ctx context.Context, o *serveOptions) (err error) {
	l, err := o.listening()
	if err != nil {
		return err
	}
	defer l.Close()
	dir, err := os.MkdirTemp("", "oubli-demo-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	shop, err := demo.Open(ctx, dir, &anonymize.Options{Actor: o.actor, Logger: a.logger(slog.LevelWarn)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shop.Close()) }()
	if err := shop.GivePast(keystore.WithActor(ctx, o.actor)); err != nil {
		return err
	}
	columns, err := shop.Columns()
	if err != nil {
		return err
	}
	a.say("the Chinook music shop in %s: 59 customers, and a newsletter that is told of each erasure first", dir)
	a.say("to see an erasure stop there: touch %s; to let it go on: rm it, and retry on the page", shop.Stop())
	return a.servePage(ctx, l, shop.Eraser, o, &admin.Options{Columns: columns})
}
