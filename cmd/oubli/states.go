package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/keystore"
)

func (a *app) restrictCommand() *cobra.Command {
	var o keystore.RestrictOptions
	c := &cobra.Command{
		Use:   "restrict SUBJECT",
		Short: "Let nobody read or write a subject, but for listed purposes",
		Long: `Restricts a subject (GDPR art. 18): its fields read as withheld and nothing new is
sealed for it, but for readers that name one of the purposes given with --for.
"oubli release" ends it. With --hold erasing is refused as well.`,
		Args: between(1, 1, "one SUBJECT"),
		RunE: a.forOne(func(ctx context.Context, keys *keystore.Store, s keystore.Subject) error {
			return keys.Restrict(ctx, s, &o)
		}),
	}
	c.Flags().StringSliceVar(&o.Purposes, "for", nil, "purposes that may still read and write")
	c.Flags().StringVar(&o.Hold, "hold", "", "refuse erasing, for this reason")
	return c
}

func (a *app) releaseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "release SUBJECT",
		Short: "End a restriction",
		Args:  between(1, 1, "one SUBJECT"),
		RunE: a.forOne(func(ctx context.Context, keys *keystore.Store, s keystore.Subject) error {
			return keys.Release(ctx, s)
		}),
	}
}

func (a *app) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel SUBJECT",
		Short: "Take back an erasure that has destroyed nothing yet",
		Args:  between(1, 1, "one SUBJECT"),
		RunE: a.forOne(func(ctx context.Context, keys *keystore.Store, s keystore.Subject) error {
			return keys.Cancel(ctx, s)
		}),
	}
}

func (a *app) readmitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "readmit SUBJECT",
		Short: "Allow an erased subject a new key; what was sealed before stays erased",
		Args:  between(1, 1, "one SUBJECT"),
		RunE: a.forOne(func(ctx context.Context, keys *keystore.Store, s keystore.Subject) error {
			return keys.Readmit(ctx, s)
		}),
	}
}

func (a *app) retireCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "retire KIND RECEIVER",
		Short: "Stop waiting for a pre-anonymize receiver that will never come back",
		Args:  between(2, 2, "KIND and RECEIVER"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := keystore.CheckKind(args[0]); err != nil {
				return usageError{err}
			}
			return a.withStore(c.Context(), writing, func(keys *keystore.Store) error {
				return keys.Retire(c.Context(), args[0], args[1])
			})
		},
	}
}

func (a *app) rotateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate SUBJECT...",
		Short: "Give subjects fresh keys for what is sealed from now on",
		Args:  between(1, -1, "one or more SUBJECTs"),
		RunE: func(c *cobra.Command, args []string) error {
			subjects, err := a.subjects(args)
			if err != nil {
				return err
			}
			return a.withStore(c.Context(), writing, func(keys *keystore.Store) error {
				errs, err := keys.Rotate(c.Context(), unique(subjects)...)
				return errors.Join(append(errs, err)...)
			})
		},
	}
}

// forOne is a command that does f to one subject.
func (a *app) forOne(f func(context.Context, *keystore.Store, keystore.Subject) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		s, err := a.oneSubject(args)
		if err != nil {
			return err
		}
		return a.withStore(c.Context(), writing, func(keys *keystore.Store) error { return f(c.Context(), keys, s) })
	}
}
