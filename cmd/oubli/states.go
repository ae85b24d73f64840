package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/keystore"
)

func (a *app) restrictCommand() *cobra.Command {
	var o keystore.RestrictOptions
	var actor string
	c := &cobra.Command{
		Use:   "restrict SUBJECT",
		Short: "Let nobody read or write a subject, but for listed purposes",
		Long: `Restricts a subject (GDPR art. 18): its fields read as withheld and nothing new is
sealed for it, but for readers that name one of the purposes given with --for.
"oubli release" ends it. With --hold erasing is refused as well.`,
		Args: between(1, 1, "one SUBJECT"),
		RunE: a.forOne(&actor, func(keys *keystore.Store, ctx context.Context, s keystore.Subject) error {
			return a.outwaiting(ctx, keys, "restricting "+s.String(), []keystore.Subject{s}, func() error {
				errs, err := keys.Restrict(ctx, &o, s)
				return errors.Join(append(errs, err)...)
			})
		}),
	}
	c.Flags().StringSliceVar(&o.Purposes, "for", nil, "purposes that may still read and write")
	c.Flags().StringVar(&o.Hold, "hold", "", "refuse erasing, for this reason")
	actorFlag(c, &actor)
	return c
}

func (a *app) releaseCommand() *cobra.Command {
	return a.stateCommand("release", "End a restriction",
		`Ends the restriction of a subject and its hold. What an erasure kept stays restricted to
its purposes; only a hold on it is released.`, func(keys *keystore.Store, ctx context.Context, s keystore.Subject) error {
			errs, err := keys.Release(ctx, s)
			return errors.Join(append(errs, err)...)
		})
}

func (a *app) cancelCommand() *cobra.Command {
	return a.stateCommand("cancel", "Take back an erasure that has destroyed nothing yet",
		`Takes a subject back to the state before its erasure was requested, until the first of its
rows is blanked. What pre-anonymize receivers did already is theirs to undo.`, (*keystore.Store).Cancel)
}

func (a *app) readmitCommand() *cobra.Command {
	return a.stateCommand("readmit", "Allow an erased subject a new key; what was sealed before stays erased",
		`Lets an erased subject be written again; the next value that is sealed for it makes a new
key. What was sealed before stays erased.`, (*keystore.Store).Readmit)
}

func (a *app) retireCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "retire KIND RECEIVER",
		Short: "Stop waiting for a pre-anonymize receiver that will never come back",
		Long: `Takes a receiver out of those that erasures of a kind wait for, also out of the pending
ones. An application that still connects it records it again when it starts: disconnect it
there first. "oubli status" names who is waited for.`,
		Args: between(2, 2, "KIND and RECEIVER"),
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
		Long: `Gives each subject a new key for every purpose that it has. What was sealed before still
opens; seal it anew to have it under the new key.`,
		Args: between(1, -1, "one or more SUBJECTs"),
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

// stateCommand is a command that changes the state of one subject.
func (a *app) stateCommand(name, short, long string, change func(*keystore.Store, context.Context, keystore.Subject) error) *cobra.Command {
	var actor string
	c := &cobra.Command{
		Use:   name + " SUBJECT",
		Short: short,
		Long:  long,
		Args:  between(1, 1, "one SUBJECT"),
		RunE:  a.forOne(&actor, change),
	}
	actorFlag(c, &actor)
	return c
}

// actorFlag has --actor say who asks.
func actorFlag(c *cobra.Command, actor *string) {
	c.Flags().StringVar(actor, "actor", "oubli", "who asks, for the subject's history; it is stored and not sealed")
}

// forOne does change to the one subject that is named, for actor.
func (a *app) forOne(actor *string, change func(*keystore.Store, context.Context, keystore.Subject) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		s, err := a.oneSubject(args)
		if err != nil {
			return err
		}
		ctx := keystore.WithActor(c.Context(), *actor)
		err = a.withStore(ctx, writing, func(keys *keystore.Store) error { return change(keys, ctx, s) })
		if errors.Is(err, keystore.ErrUnknownSubject) {
			err = withHint(err, "no key was ever made for %s: check the identifier, and that this is the keystore", s)
		}
		return err
	}
}
