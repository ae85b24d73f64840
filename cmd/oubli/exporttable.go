package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/cmd/oubli/internal/rows"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// exportTable reads one file and keeps the rows of one subject, opened.
func (a *app) exportTable(ctx context.Context, keys *keystore.Store, s keystore.Subject, table, file, format string) (anonymize.TableData, error) {
	data := anonymize.TableData{Table: table}
	x := &conversion{app: a, dir: rows.Open, table: table, file: file, format: format}
	in, err := x.open(ctx)
	if err != nil {
		return data, err
	}
	defer in.Close()
	if in.spec.Kind != s.Kind() {
		return data, fmt.Errorf("table %s holds rows of %s subjects, and %s is none", table, in.spec.Kind, s)
	}
	codec, err := fieldcrypt.NewRowCodec(keys, in.spec, nil)
	if err != nil {
		return data, fmt.Errorf("%s: %w", x.mapFile, err)
	}
	bound, err := codec.Bind(x.names)
	if err != nil {
		return data, fmt.Errorf("%s: %w", x.mapFile, err)
	}
	for {
		row, err := x.reader.Read()
		switch {
		case err == io.EOF:
			return data, nil
		case err != nil:
			return data, err
		case row.Cells[0].Text != s.ID():
			continue
		}
		values, err := x.exportRow(ctx, row, bound, len(in.spec.Fields))
		if err != nil {
			return data, err
		}
		data.Rows = append(data.Rows, values)
	}
}

// exportRow opens a row, whose last cells are the personal ones.
func (x *conversion) exportRow(ctx context.Context, row *rows.Row, bound *fieldcrypt.BoundRows, personal int) ([]fieldcrypt.NamedValue, error) {
	_, err := bound.Open(ctx, [][]fieldcrypt.Cell{row.Cells})
	var bad *fieldcrypt.BatchError
	if errors.As(err, &bad) {
		return nil, x.placed([]*rows.Row{row}, bad.Rows[0])
	}
	if err != nil {
		return nil, err
	}
	vs, err := x.reader.Values(row)
	if err != nil {
		return nil, err
	}
	out := make([]fieldcrypt.NamedValue, len(vs))
	for i, v := range vs {
		out[i] = fieldcrypt.NamedValue{Name: v.Name, Value: v.Value, State: fieldcrypt.StatusOpen}
		if v.Column >= len(row.Cells)-personal {
			out[i].Personal = true
			if read := row.Cells[v.Column].Status; read != "" { // NULL is open
				out[i].State = read
			}
		}
	}
	return out, nil
}
