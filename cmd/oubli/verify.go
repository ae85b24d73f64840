package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/keystore"
)

func (a *app) verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check that every page and ring opens, and that nothing is left over",
		Long: `Reads the whole keystore: every page and ring opens and stands where it belongs, under
a generation that its page holds; no root lives that should be dead; no temporary file
stands beside the keystore or the root. Changes nothing. Exits 1 if there is a problem.
Where other processes write meanwhile, what seems wrong is looked at again.

With --db it then reads all rows of the tables of the data map, as "oubli adopt verify".`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			err := a.verify(c.Context())
			if err != nil || a.db == "" {
				return err
			}
			return a.verifyTables(c.Context(), a.withTablesToo, false)
		},
	}
}

// looks bounds how often a keystore that processes share is looked at. One at work leaves
// things in between for a moment; a look that finds none of that is the truth.
const looks = 3

func (a *app) verify(ctx context.Context) error {
	at, err := a.location()
	if err != nil {
		return err
	}
	return a.withKeystore(ctx, reading, func(keys *openKeystore) error {
		report, err := look(ctx, keys, at)
		for n := 1; n < looks && at.shared() && err == nil && len(report.Problems) > 0; n++ {
			time.Sleep(300 * time.Millisecond)
			report, err = look(ctx, keys, at)
		}
		if err != nil {
			return err
		}
		for _, p := range report.Problems {
			a.say("error: %s", p)
		}
		if len(report.Problems) > 0 {
			return fmt.Errorf("%d problems", len(report.Problems))
		}
		a.say("all is well: %d pages, %d rings", report.Pages, report.Rings)
		return nil
	})
}

// look verifies the keystore, and counts what is left over as a problem.
func look(ctx context.Context, keys *openKeystore, at location) (keystore.VerifyReport, error) {
	report, err := keys.Verify(ctx)
	if err != nil {
		return report, err
	}
	h, err := keys.Health(ctx)
	if err != nil {
		return report, err
	}
	left, err := leftovers(ctx, at, keys.at(h.Root)) // it may have been moved to where --root-next says
	for _, path := range left {
		report.Problems = append(report.Problems, "a temporary file is left over: "+path)
	}
	return report, err
}

// leftovers finds temporary files of the keystore and the root. The keystore is open
// for reading; where that keeps writers out, they belong to nobody.
func leftovers(ctx context.Context, at location, root *root) ([]string, error) {
	found, err := at.leftovers()
	if err != nil {
		return nil, err
	}
	more, err := root.leftovers(ctx)
	return append(found, more...), err
}

// beside lists the files in the folder of path whose names is says yes to.
func beside(path string, is func(name, base string) bool) ([]string, error) {
	dir, base := filepath.Dir(path), filepath.Base(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if is(e.Name(), base) {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	return found, nil
}
