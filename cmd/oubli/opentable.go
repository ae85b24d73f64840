package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/oubli/oubli/cmd/oubli/internal/rows"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// openTable opens a table of the database, as CSV or NDJSON.
func (x *conversion) openTable(ctx context.Context) error {
	if x.db == "" {
		return usagef("open which? write FILE, or --db for the table in a database")
	}
	format := rows.CSV
	if x.format != "" || x.output != "" {
		var err error
		if format, err = formatOf(x.output, x.format); err != nil {
			return err
		}
	}
	ctx = forPurpose(ctx, x.purpose)
	return x.withTables(ctx, func(t *tables) error {
		if _, err := t.m.Table(x.table); err != nil {
			return err
		}
		return x.withStore(ctx, reading, func(keys *keystore.Store) error {
			mapped, err := t.mapped(keys)
			if err != nil {
				return err
			}
			columns, err := mapped.Columns(ctx, x.table)
			if err != nil {
				return err
			}
			if x.out, err = createOut(x.output, x.app.out); err != nil {
				return err
			}
			defer x.out.discard()
			x.counts, err = mapped.All(ctx, x.table, x.writer(format, columns), func(err error) { x.badRow(err) })
			if err != nil {
				return errors.Join(x.out.Flush(), err) // on standard output the last row must not be cut
			}
			x.report()
			if x.bad > 0 {
				return fmt.Errorf("%s of table %s could not be opened; %w", count(int64(x.bad), "row", "rows"), x.table, x.leftOut())
			}
			return x.out.finish()
		})
	})
}

// leftOut ends the error about rows that could not be opened.
func (x *conversion) leftOut() error {
	if x.output != "" {
		return fmt.Errorf("%s was not written", x.output)
	}
	return errors.Join(x.out.Flush(), errors.New("what could is written"))
}

// writer writes rows; those of CSV have a header, which is there without rows, too.
func (x *conversion) writer(format rows.Format, columns []string) func([]fieldcrypt.NamedValue) error {
	if format == rows.NDJSON {
		return x.writeObject
	}
	w := csv.NewWriter(x.out)
	w.Write(columns)
	w.Flush()
	return func(values []fieldcrypt.NamedValue) error {
		line := make([]string, len(values))
		for i, v := range values {
			text, isText := v.Value.(string)
			if !isText && v.Value != nil {
				raw, err := rawJSON(v.Value)
				if err != nil {
					return err
				}
				text = strings.Trim(string(raw), `"`) // bytes are base64
			}
			line[i] = text
		}
		w.Write(line)
		w.Flush()
		return w.Error()
	}
}

// writeObject writes a row as an object with its columns in their order.
func (x *conversion) writeObject(values []fieldcrypt.NamedValue) error {
	for i, v := range values {
		name, err := rawJSON(v.Name)
		if err != nil {
			return err
		}
		value, err := rawJSON(v.Value)
		if err != nil {
			return err
		}
		x.out.WriteString([]string{"{", ","}[min(i, 1)])
		x.out.Write(name)
		x.out.WriteString(":")
		x.out.Write(value)
	}
	_, err := x.out.WriteString("}\n")
	return err
}

// rawJSON is JSON for people: < and > as they are.
func rawJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, errors.New("a value cannot be written as JSON") // the cause may quote it
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
