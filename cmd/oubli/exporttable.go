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
	fields, err := bindEach(keys, in.spec, x.names)
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
		values, err := x.exportRow(ctx, row, fields)
		if err != nil {
			return data, err
		}
		data.Rows = append(data.Rows, values)
	}
}

// bindEach binds every personal column by itself, for then the counts of opening tell
// how it was opened.
func bindEach(keys *keystore.Store, spec fieldcrypt.Spec, columns []string) ([]*fieldcrypt.BoundRows, error) {
	var list []*fieldcrypt.BoundRows
	for i := range spec.Fields {
		one := spec
		one.Fields = spec.Fields[i : i+1]
		codec, err := fieldcrypt.NewRowCodec(keys, one, nil)
		if err != nil {
			return nil, err
		}
		b, err := codec.Bind(columns)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}

// exportRow opens a row column by column.
func (x *conversion) exportRow(ctx context.Context, row *rows.Row, fields []*fieldcrypt.BoundRows) ([]fieldcrypt.NamedValue, error) {
	ids := len(row.Cells) - len(fields)
	states := make([]fieldcrypt.Status, len(fields))
	for i, f := range fields {
		null := row.Cells[ids+i].Null
		n, err := f.Open(ctx, [][]fieldcrypt.Cell{row.Cells})
		var bad *fieldcrypt.BatchError
		if errors.As(err, &bad) {
			return nil, x.placed([]*rows.Row{row}, bad.Rows[0])
		}
		if err != nil {
			return nil, err
		}
		switch {
		case null:
			states[i] = fieldcrypt.StatusOpen
		case n.Erased > 0:
			states[i] = fieldcrypt.StatusErased
		case n.Withheld > 0:
			states[i] = fieldcrypt.StatusWithheld
		default:
			states[i] = fieldcrypt.StatusOpen
		}
	}
	vs, err := x.reader.Values(row)
	if err != nil {
		return nil, err
	}
	out := make([]fieldcrypt.NamedValue, len(vs))
	for i, v := range vs {
		out[i] = fieldcrypt.NamedValue{Name: v.Name, Value: v.Value, State: fieldcrypt.StatusOpen}
		if v.Column >= ids {
			out[i].Personal, out[i].State = true, states[v.Column-ids]
		}
	}
	return out, nil
}
