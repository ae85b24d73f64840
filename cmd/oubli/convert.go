package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/rows"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// A batch ends with whichever comes first. It is one round trip to the keystore.
const (
	batchRows  = 1000
	batchBytes = 1 << 20
)

// conversion is one run of seal or open.
type conversion struct {
	*app
	dir     rows.Direction
	table   string
	file    string // - is standard input
	format  string
	output  string
	purpose string

	bound  *fieldcrypt.BoundRows
	reader rows.Reader
	names  []string // of the bound columns
	out    *outFile
	bad    int     // opening: rows that could not be read or opened
	unread []error // sealing: rows that could not be read
	counts fieldcrypt.OpenCounts
}

func (a *app) sealCommand() *cobra.Command {
	x := &conversion{app: a, dir: rows.Seal}
	c := &cobra.Command{
		Use:   "seal TABLE FILE.csv|FILE.ndjson|-",
		Short: "Plaintext in, ciphertext out",
		Long: `Seals the personal fields of a file, as the data map names them, each under the key
of the person in its row. Everything else comes out byte for byte, and so does what
"oubli open" makes of it. Empty cells and null stay so.

A mistake in the file, or a row that is sealed already, ends it with exit code 1. With -o
nothing is written then; on standard output the rows before it have gone out.`,
		Args: between(2, 2, "TABLE and FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			x.table, x.file = args[0], args[1]
			return x.run(c.Context())
		},
	}
	x.flags(c)
	return c
}

func (a *app) openCommand() *cobra.Command {
	x := &conversion{app: a, dir: rows.Open}
	c := &cobra.Command{
		Use:   "open TABLE FILE|- | TABLE --db DSN",
		Short: "Ciphertext in, plaintext out; erased people read as erased",
		Long: `Opens the personal fields of a file that was sealed. A field of an erased person
becomes its replacement, or empty; one of a restricted person is withheld, and empty
too. How many were is told on standard error. A row that cannot be opened is named and
left out, the others are opened; then nothing is written with -o, and the exit code is 1.

Without FILE it opens the table in the database that --db names, in the order of its key.`,
		Args: between(1, 2, "TABLE and FILE, or TABLE and --db"),
		RunE: func(c *cobra.Command, args []string) error {
			x.table = args[0]
			if len(args) == 1 {
				return x.openTable(c.Context())
			}
			if x.given("db") != "" {
				return usagef("FILE and --db are two places: open them one after the other")
			}
			x.file = args[1]
			return x.run(c.Context())
		},
	}
	x.flags(c)
	return c
}

func (x *conversion) flags(c *cobra.Command) {
	c.Flags().StringVarP(&x.output, "output", "o", "", "write to this file, whole or not at all (default: standard output)")
	c.Flags().StringVar(&x.format, "format", "", "csv or ndjson (default: by the name; csv for standard input)")
	c.Flags().StringVar(&x.purpose, "purpose", "", "what for: works on people who are restricted to this purpose, too")
}

func (x *conversion) run(ctx context.Context) error {
	ctx = forPurpose(ctx, x.purpose)
	in, err := x.open(ctx)
	if err != nil {
		return err
	}
	defer in.Close()
	return x.withStore(ctx, access(x.dir == rows.Open), func(keys *keystore.Store) error {
		if err := x.bind(keys, in.spec); err != nil {
			return err
		}
		if x.out, err = createOut(x.output, x.app.out); err != nil {
			return err
		}
		defer x.out.discard()
		if err := x.convert(ctx); err != nil {
			x.out.Flush() // on standard output the last row must not be cut
			return err
		}
		x.report()
		if x.bad > 0 {
			x.out.Flush()
			if x.output != "" {
				return fmt.Errorf("%d rows of %s could not be opened; %s was not written", x.bad, x.name(), x.output)
			}
			return fmt.Errorf("%d rows of %s could not be opened and are left out", x.bad, x.name())
		}
		return x.out.finish()
	})
}

// input is an open table file.
type input struct {
	io.Closer
	spec fieldcrypt.Spec
}

// open opens the file and reads its header, before the keystore is touched.
func (x *conversion) open(ctx context.Context) (in *input, err error) {
	m, err := datamap.Load(x.mapFile)
	if err != nil {
		return nil, err
	}
	in = &input{Closer: io.NopCloser(nil)}
	table, err := m.Table(x.table)
	if err != nil {
		return nil, err
	}
	in.spec = table.Spec
	in.spec.AllowAt = in.spec.AllowAt || x.allowAt
	format, err := formatOf(x.file, x.format)
	if err != nil {
		return nil, err
	}
	var source io.Reader = x.in
	size := int64(-1)
	if x.file != "-" {
		f, err := os.Open(x.file)
		if err != nil {
			return nil, err
		}
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		in.Closer, source = f, f
	}
	source, end := x.progress(interruptible{ctx, source}, size, x.name(), x.output != "")
	in.Closer = closers{in.Closer, closeFunc(end)}
	cols := columnsOf(in.spec)
	x.names = cols.Names()
	if x.reader, err = rows.New(format, source, x.name(), cols, x.dir); err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

func (x *conversion) bind(keys *keystore.Store, spec fieldcrypt.Spec) error {
	codec, err := fieldcrypt.NewRowCodec(keys, spec, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", x.mapFile, err)
	}
	x.bound, err = codec.Bind(x.names)
	return err
}

func (x *conversion) name() string {
	if x.file == "-" {
		return "stdin"
	}
	return x.file
}

func (x *conversion) convert(ctx context.Context) error {
	head := x.reader.Head()
	for end := false; !end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var batch []*rows.Row
		var readErr, err error
		batch, end, readErr = x.read()
		if batch, err = x.convertBatch(ctx, batch); err != nil || len(x.unread) > 0 {
			return mistakes(x.name(), append(x.unread, err, readErr))
		}
		if _, err := x.out.Write(head); err != nil {
			return err
		}
		head = nil
		if err := x.write(batch); err != nil {
			return err
		}
		if readErr != nil { // the rows before it are out
			return readErr
		}
	}
	return nil
}

// read reads a batch. Rows that cannot be read are passed over: named in opening,
// kept for the error in sealing.
func (x *conversion) read() (batch []*rows.Row, end bool, err error) {
	for size := 0; len(batch) < batchRows && len(x.unread) < batchRows && size < batchBytes; {
		row, err := x.reader.Read()
		switch {
		case err == io.EOF:
			return batch, true, nil
		case errors.As(err, new(*rows.RowError)):
			if x.dir == rows.Open {
				x.badRow(err)
			} else {
				x.unread = append(x.unread, err)
			}
			continue
		case err != nil:
			return batch, true, err
		}
		size += row.Size()
		batch = append(batch, row)
	}
	return batch, false, nil
}

func (x *conversion) badRow(err error) {
	x.bad++
	x.say("error: %v", err)
}

func (x *conversion) write(batch []*rows.Row) error {
	var buf []byte
	for _, row := range batch {
		var err error
		if buf, err = x.reader.Append(buf[:0], row); err != nil {
			if x.dir == rows.Open && errors.As(err, new(*rows.RowError)) {
				x.badRow(err)
				continue
			}
			return err
		}
		if _, err := x.out.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

// report tells what the output does not show.
func (x *conversion) report() {
	if x.dir != rows.Open {
		return
	}
	if x.counts.Erased > 0 {
		x.say("%s with fields of erased people", count(int64(x.counts.Erased), "row", "rows"))
	}
	if x.counts.Withheld > 0 {
		x.say("%s with fields that are withheld: their people are restricted or being erased", count(int64(x.counts.Withheld), "row", "rows"))
	}
}

// columnsOf returns the columns of a table in the order in which they are bound.
func columnsOf(spec fieldcrypt.Spec) rows.Columns {
	c := rows.Columns{IDs: []string{spec.SubjectColumn}}
	if spec.Key != "" && spec.Key != spec.SubjectColumn {
		c.IDs = append(c.IDs, spec.Key)
	}
	for _, f := range spec.Fields {
		c.Personal = append(c.Personal, f.Name)
	}
	return c
}

// formatOf tells a file's format, by the flag or by its name.
func formatOf(file, flag string) (rows.Format, error) {
	if flag != "" {
		if f := rows.Format(flag); slices.Contains([]rows.Format{rows.CSV, rows.NDJSON}, f) {
			return f, nil
		}
		return "", usagef("--format %q: csv or ndjson is needed", flag)
	}
	if file == "-" {
		return rows.CSV, nil
	}
	switch strings.ToLower(filepath.Ext(file)) {
	case ".csv":
		return rows.CSV, nil
	case ".ndjson", ".jsonl":
		return rows.NDJSON, nil
	}
	return "", usagef("%s: its name tells no format: say --format csv or --format ndjson", file)
}
