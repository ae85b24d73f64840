package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
stands beside the keystore or the root. Changes nothing. Exits 1 if there is a problem.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return a.verify(c.Context()) },
	}
}

func (a *app) verify(ctx context.Context) error {
	return a.withStore(ctx, reading, func(keys *keystore.Store) error {
		report, err := keys.Verify(ctx)
		if err != nil {
			return err
		}
		problems := report.Problems
		left, err := a.leftovers(ctx)
		if err != nil {
			return err
		}
		for _, path := range left {
			problems = append(problems, "a temporary file is left over: "+path)
		}
		for _, p := range problems {
			a.say("error: %s", p)
		}
		if len(problems) > 0 {
			return fmt.Errorf("%d problems", len(problems))
		}
		a.say("all is well: %d pages, %d rings", report.Pages, report.Rings)
		return nil
	})
}

// leftovers finds temporary files of the keystore and the root that belong to nobody.
func (a *app) leftovers(ctx context.Context) ([]string, error) {
	at, err := a.location()
	if err != nil {
		return nil, err
	}
	found, err := a.temporary(ctx, at)
	if err == nil && len(found) > 0 && at.shared() {
		// A process may be at work right now, on a file that bears another name later.
		time.Sleep(300 * time.Millisecond)
		found = existing(found)
	}
	return found, err
}

func (a *app) temporary(ctx context.Context, at location) ([]string, error) {
	store, roots, err := a.rootStore(a.rootURL)
	if err != nil {
		return nil, err
	}
	found, err := at.leftovers()
	if err != nil {
		return nil, err
	}
	old, err := store.Leftovers(ctx)
	if err != nil {
		return nil, err
	}
	found = append(found, old...)
	for _, root := range roots {
		more, err := beside(root, func(name, base string) bool { return strings.HasPrefix(name, base+".anchor.new-") })
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
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
