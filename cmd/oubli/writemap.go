package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
)

// writeMap proposes a data map. It never replaces one, which somebody may have corrected.
func (a *app) writeMap(ctx context.Context, file string) error {
	there := func() error {
		return withHint(fmt.Errorf("%s is there already", file), "write the proposal to another file, and compare")
	}
	if file != "-" {
		switch _, err := os.Lstat(file); {
		case err == nil:
			return there()
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return a.withDB(ctx, func(db *pgmap.Pool) error {
		proposals, err := pgadopt.Propose(ctx, db)
		if err != nil {
			return err
		}
		if len(proposals) == 0 {
			return errors.New("no column of this database looks personal; nothing was written")
		}
		if file == "-" {
			return datamap.Write(a.out, proposals)
		}
		out, err := createOut(file, a.out)
		if err != nil {
			return err
		}
		defer out.discard()
		if err := datamap.Write(out, proposals); err != nil {
			return err
		}
		switch err := out.finishNew(); {
		case errors.Is(err, fs.ErrExist): // since we looked: sampling takes its time
			return there()
		case err != nil:
			return err
		}
		a.say("%s proposes %s: correct it, it was guessed; then oubli adopt plan", file, count(len(proposals), "table", "tables"))
		return nil
	})
}
