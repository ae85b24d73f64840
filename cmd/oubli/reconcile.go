package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

type reconcileOptions struct {
	dryRun, plaintext, yes, asJSON bool
}

func (a *app) reconcileCommand() *cobra.Command {
	var o reconcileOptions
	c := &cobra.Command{
		Use:   "reconcile",
		Short: "After the application's database came back from a backup: blank the erased again",
		Long: `Reads all rows of the tables of the data map in the database that --db names. Values whose
key was destroyed since the backup are blanked again; one that opens is left alone, so is a
person who has the id of somebody erased and was readmitted.

Values that name a person or a key that the keystore does not know are an alarm, and so are
altered ones and blanks of people who are not erased: the exit code is 1, and nothing is done
about them. Is it the right keystore? A keystore that is away ends the command; nothing is
ever blanked because of that. Rows done by then were done rightly: run it again.

Plaintext of people who are erased, as it comes back from a backup of before the adoption,
is counted, blanked with --plaintext, and without it a reason to exit with 1. The columns
must take blanks for that: after a backup of before, "oubli adopt run --only-widen" comes
first.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return a.reconcile(c.Context(), &o) },
	}
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would be blanked, and change nothing")
	c.Flags().BoolVar(&o.plaintext, "plaintext", false, "blank also plaintext of people who are erased")
	c.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask before plaintext is blanked")
	c.Flags().BoolVar(&o.asJSON, "json", false, "as JSON")
	return c
}

func (a *app) reconcile(ctx context.Context, o *reconcileOptions) error {
	return a.withTables(ctx, func(t *tables) error {
		// Nothing in a plaintext proves that the keystore is the right one.
		if o.plaintext && !o.dryRun {
			if err := a.sure(ctx, o.yes, "This blanks plaintext of people who are erased in this keystore. It cannot be undone; --dry-run shows how much.", "blank"); err != nil {
				return err
			}
		}
		a.walks()
		return a.withStore(ctx, reading, func(keys *keystore.Store) error {
			show, end := a.adoptProgress()
			report, err := pgmap.Reconcile(ctx, pgmap.ReconcileConfig{DB: t.db, Keys: keys, Tables: t.list, Adopting: t.adopting,
				Plaintext: o.plaintext, DryRun: o.dryRun, Progress: func(p pgmap.ReconcileProgress) {
					show(pgadopt.Progress{Table: p.Table, Step: "reconcile", Rows: p.Rows, Total: max(0, p.Of)})
				}})
			end()
			return errors.Join(a.writeReconciled(report, o), resumable(ctx, err), alarmed(report))
		})
	})
}

func (a *app) writeReconciled(r *pgmap.ReconcileReport, o *reconcileOptions) error {
	if o.asJSON {
		return json.NewEncoder(a.out).Encode(r)
	}
	done := "blanked again"
	if r.DryRun {
		done = "to be blanked again"
	}
	p := &printer{w: a.out}
	for _, t := range r.Tables {
		line := t.Table + ": " + count(t.Rows, "row", "rows")
		if what := tally(t.Open, "open", t.Withheld, "withheld", t.Blank, "blank", t.Blanked+t.PlaintextBlanked, done,
			t.Plaintext-t.PlaintextErased, "plaintext", t.PlaintextErased-t.PlaintextBlanked, "plaintext of erased people", t.Alarms, "ALARMS"); what != "" {
			line += "; values: " + what
		}
		p.line("%s", line)
	}
	for _, al := range r.Alarms {
		words := []string{"row " + strings.Join(al.Key, ",")}
		if al.Subject != "" {
			words = append(words, "of "+al.Subject)
		}
		if al.KeyID != "" {
			words = append(words, "key "+al.KeyID)
		}
		a.say("alarm: %s.%s %s: %s", al.Table, al.Field, strings.Join(words, " "), al.Cause)
	}
	if r.PlaintextLeft {
		a.warn("plaintext of erased people was left, for there are keys that this keystore does not know: it may be the wrong one")
	}
	return p.err
}

// alarmed is the error of a database that does not fit the keystore, or in which people who
// are erased can still be read.
func alarmed(r *pgmap.ReconcileReport) error {
	if n := r.AlarmCount(); n > 0 {
		return withHint(fmt.Errorf("%s neither open nor erased; nothing was done about them", count(n, "value is", "values are")),
			"is this the keystore that they were sealed with? If keys were lost, restore the keystore first")
	}
	var left int64
	for _, t := range r.Tables {
		left += t.PlaintextErased - t.PlaintextBlanked
	}
	if left > 0 {
		return withHint(fmt.Errorf("%s in the clear belong to people who are erased", count(left, "value", "values")),
			"--plaintext blanks them, if they are not somebody new who has the id")
	}
	return nil
}
