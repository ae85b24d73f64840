package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

type exportOptions struct {
	from                []string
	format, purpose, in string
	output, actor       string
}

func (a *app) exportCommand() *cobra.Command {
	var o exportOptions
	c := &cobra.Command{
		Use:   "export SUBJECT --from TABLE=FILE... | --db DSN",
		Short: "What is held about one person, readable",
		Long: `Writes the rows of one person in sealed files, or in the tables of a database, opened, as
one JSON document or as CSV with a line for each value. What is restricted or erased is marked so. The output is
all plaintext: handle it so. The export is entered into the person's history, which
"oubli status SUBJECT" shows, unless the keystore can't be written.`,
		Args: between(1, 1, "one SUBJECT"),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.oneSubject(args)
			if err != nil {
				return err
			}
			return a.export(c.Context(), s, &o)
		},
	}
	c.Flags().StringArrayVar(&o.from, "from", nil, "TABLE=FILE, a sealed file of a table; may be given again")
	c.Flags().StringVar(&o.format, "format", "json", "of the output: json or csv")
	c.Flags().StringVar(&o.in, "input-format", "", "of the files: csv or ndjson (default: by their names)")
	c.Flags().StringVar(&o.purpose, "purpose", "", "why it is read: opens what is restricted to this purpose")
	actorFlag(c, &o.actor)
	c.Flags().StringVarP(&o.output, "output", "o", "", "write to this file, whole or not at all (default: standard output)")
	return c
}

func (a *app) export(ctx context.Context, s keystore.Subject, o *exportOptions) error {
	if o.format != "json" && o.format != "csv" {
		return usagef("--format %q: json or csv is needed", o.format)
	}
	collect := a.exportFiles
	switch {
	case len(o.from) == 0 && a.db == "":
		return usagef("--from TABLE=FILE says where to look, or --db a database")
	case len(o.from) == 0:
		collect = a.exportRows
	case a.given("db") != "":
		return usagef("--from and --db are two places: export them one after the other")
	}
	doc, err := collect(forPurpose(ctx, o.purpose), s, o)
	if err != nil {
		return err
	}
	if err := a.noteExport(keystore.WithActor(ctx, o.actor), doc); err != nil {
		return err
	}
	return a.writeDocument(doc, o)
}

// exportRows collects what the tables of a database hold about somebody.
func (a *app) exportRows(ctx context.Context, s keystore.Subject, o *exportOptions) (doc *anonymize.Document, err error) {
	err = a.withEraser(ctx, reading, nil, "", func(_ *keystore.Store, eraser *anonymize.Eraser, _ *pgmap.Tables) (err error) {
		doc, err = eraser.Export(ctx, s)
		return err
	})
	return doc, err
}

// exportFiles collects what sealed files hold about somebody.
func (a *app) exportFiles(ctx context.Context, s keystore.Subject, o *exportOptions) (doc *anonymize.Document, err error) {
	err = a.withStore(ctx, reading, func(keys *keystore.Store) error {
		st, err := keys.Status(ctx, s)
		if err != nil {
			return err
		}
		doc = &anonymize.Document{Subject: s, State: st[0].State}
		found := 0
		for _, from := range o.from {
			table, file, ok := strings.Cut(from, "=")
			if !ok || table == "" || file == "" {
				return usagef("--from %q: TABLE=FILE is needed", from)
			}
			data, err := a.exportTable(ctx, keys, s, table, file, o.in)
			if err != nil {
				return err
			}
			found += len(data.Rows)
			doc.Tables = append(doc.Tables, data)
		}
		if found == 0 && st[0].State == keystore.StateUnknown {
			return fmt.Errorf("export %s: %w: no key was ever made and no file has a row", s, keystore.ErrUnknownSubject)
		}
		return nil
	})
	return doc, err
}

// noteExport enters an export into the subject's history, before any of it is written. What
// is exported is read through a keystore that is open for reading only, beside others who
// read and by those who may not write; where it can't be opened for writing then, people
// get their data all the same, and a warning says what is missing.
func (a *app) noteExport(ctx context.Context, doc *anonymize.Document) error {
	if doc.State == keystore.StateUnknown { // nothing was ever sealed for it: there is no history
		return nil
	}
	err := a.withStore(ctx, writing, func(keys *keystore.Store) error {
		errs, err := keys.Note(ctx, keystore.ChangeExported, doc.Subject)
		return errors.Join(append(errs, err)...)
	})
	if err != nil && ctx.Err() == nil {
		a.warn("the history of %s does not have this export: %v", doc.Subject, err)
		return nil
	}
	return err
}

func (a *app) writeDocument(doc *anonymize.Document, o *exportOptions) error {
	out, err := createOut(o.output, a.out)
	if err != nil {
		return err
	}
	defer out.discard()
	write := doc.WriteJSON
	if o.format == "csv" {
		write = doc.WriteCSV
	}
	if err := write(out); err != nil {
		return err
	}
	return out.finish()
}
