package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

// anonymizeBatch is how many subjects share an advance of the key tree.
const anonymizeBatch = 10_000

type anonymizeOptions struct {
	yes, unknown, dryRun bool
	keep                 []string
	file, actor          string
}

func (a *app) anonymizeCommand() *cobra.Command {
	var o anonymizeOptions
	c := &cobra.Command{
		Use:   "anonymize SUBJECT...",
		Short: "Erase people by destroying their keys; one JSON result a line",
		Long: `Destroys the keys of subjects, which makes their sealed fields unreadable in every
copy. No data file is touched. With --db the personal columns of the data map are blanked
first, in all tables of that database in one transaction; plaintext that stands there all
the same in the end is named, and the exit code is 1. With --keep what is sealed for a
purpose stays readable for it alone.

A kind of subjects may have receivers, recorded by an application, which must see the
plaintext first. This tool has none: it leaves such an erasure pending, names who is
missing in waiting_for, and exits 1. The application goes on with it. The same call
again resumes.

Where processes share the keystore it returns when none of them can still serve these
people from its memory, which takes the lease that "oubli status" shows. An interrupt
during that wait takes nothing back.

Each result has subject, state, final_at (the earliest time from which no copy of the
keystore opens what was destroyed), kept, waiting_for and error.`,
		Args: between(0, -1, "SUBJECTs"),
		RunE: func(c *cobra.Command, args []string) error { return a.anonymize(c.Context(), args, &o) },
	}
	c.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	c.Flags().StringSliceVar(&o.keep, "keep", nil, "purposes that stay readable, for themselves alone")
	c.Flags().BoolVar(&o.unknown, "unknown", false, "erase also who was never seen: the id is burned")
	c.Flags().StringVar(&o.file, "file", "", "read more subjects from this file, one a line (- is standard input)")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would happen, and change nothing")
	actorFlag(c, &o.actor)
	return c
}

func (a *app) anonymize(ctx context.Context, args []string, o *anonymizeOptions) error {
	if slices.Contains(o.keep, "") || o.keep != nil && len(o.keep) == 0 {
		return withHint(usagef("--keep names no purpose"), "without --keep everything is erased")
	}
	subjects, err := a.subjects(args)
	if err != nil {
		return err
	}
	if o.file != "" {
		more, err := a.subjectsIn(ctx, o.file)
		if err != nil {
			return err
		}
		subjects = append(subjects, more...)
	} else if len(subjects) == 0 {
		return usagef("whom? name one SUBJECT or more, as customer/42, or a --file of them")
	}
	if subjects = unique(subjects); len(subjects) == 0 {
		return fmt.Errorf("%s names nobody", o.file)
	}
	if o.dryRun {
		return a.withEraser(ctx, reading, subjects, o.actor, func(_ *keystore.Store, eraser *anonymize.Eraser, _ *pgmap.Tables) error {
			return a.preview(ctx, eraser, subjects, o)
		})
	}
	if err := a.confirm(ctx, subjects, o); err != nil {
		return err
	}
	return a.withEraser(ctx, writing, subjects, o.actor, func(keys *keystore.Store, eraser *anonymize.Eraser, mapped *pgmap.Tables) error {
		return a.erase(ctx, keys, eraser, mapped, subjects, o)
	})
}

// confirm has the id of one subject typed, or the number of several.
func (a *app) confirm(ctx context.Context, subjects []keystore.Subject, o *anonymizeOptions) error {
	if o.yes {
		return nil
	}
	if !a.asks || o.file == "-" {
		return withHint(usagef("this destroys keys for good, and there is no terminal to ask on"), "--yes does not ask; --dry-run shows what would happen")
	}
	what, answer := subjects[0].String(), subjects[0].ID()
	if n := len(subjects); n > 1 {
		what, answer = fmt.Sprintf("%d subjects", n), fmt.Sprint(n)
	}
	where := ""
	if a.db != "" { // it may stand in the environment, and be another than one thinks of
		err := checkURL("database", a.db)
		if err != nil {
			return err
		}
		if where, err = pgmap.Place(a.db); err != nil {
			return asUsage(err)
		}
		where = ", and blanks their rows in " + where
	}
	ok, err := a.ask(ctx, fmt.Sprintf("This destroys the keys of %s%s. It cannot be undone.", what, where), answer)
	if err == nil && !ok {
		err = errors.New("not confirmed; nothing was changed")
	}
	return err
}

func (a *app) erase(ctx context.Context, keys *keystore.Store, eraser *anonymize.Eraser, mapped *pgmap.Tables, subjects []keystore.Subject, o *anonymizeOptions) error {
	out := json.NewEncoder(a.out)
	failed, left, unknown := 0, 0, false
	for of := range chunks(subjects, anonymizeBatch) {
		var results []anonymize.Result
		err := a.outwaiting(ctx, keys, fmt.Sprintf("erasing %d of %d", len(of), len(subjects)), of, func() (err error) {
			results, err = eraser.AnonymizeWith(ctx, &anonymize.Request{Keep: o.keep, Unknown: o.unknown}, of...)
			return err
		})
		for _, r := range results {
			switch {
			case errors.Is(r.Err, context.Canceled) && ctx.Err() != nil:
				continue // err tells how far these came
			case r.Err != nil:
				failed++
				unknown = unknown || errors.Is(r.Err, keystore.ErrUnknownSubject)
				a.say("error: %v", r.Err)
			}
			if err := out.Encode(r); err != nil {
				return err
			}
			if r.Err != nil {
				continue
			}
			found, err := a.sayLeft(ctx, mapped, r)
			if err != nil {
				return err
			}
			if found {
				left++
			}
		}
		var some *anonymize.BatchError
		if err != nil && !errors.As(err, &some) {
			return err
		}
	}
	switch {
	case failed == 0 && left == 0:
		return nil
	case failed == 0:
		return withHint(fmt.Errorf("plaintext of %d of %d subjects is left", left, len(subjects)),
			"end what writes it; then oubli reconcile --plaintext blanks it, if it is not of somebody new who has the id")
	}
	err := fmt.Errorf("%d of %d subjects are not erased as asked", failed, len(subjects))
	if unknown {
		hint := "is the id right? --unknown erases also who was never seen, and burns the id"
		if a.db != "" {
			hint += "; so it does with people of whom nothing was sealed yet, and blanks their rows"
		}
		err = withHint(err, "%s", hint)
	}
	return err
}

func chunks(list []keystore.Subject, n int) func(func([]keystore.Subject) bool) {
	return func(yield func([]keystore.Subject) bool) {
		for len(list) > 0 {
			k := min(n, len(list))
			if !yield(list[:k]) {
				return
			}
			list = list[k:]
		}
	}
}
