package rows

import (
	"encoding/json"

	"github.com/oubli/oubli/fieldcrypt"
)

// Value is one column of a row, as it is now.
type Value struct {
	Name   string
	Column int // index in Row.Cells, -1 if it was not wanted
	Value  any // string, nil, or json.RawMessage
}

func (x *csvReader) Values(r *Row) ([]Value, error) {
	vs := make([]Value, len(x.header))
	for i, name := range x.header {
		vs[i] = Value{Name: name, Column: -1}
		if text := unquote(r.raw[r.spans[i].start:r.spans[i].end]); text != "" {
			vs[i].Value = text
		}
	}
	for i, col := range x.cols {
		vs[col].Column, vs[col].Value = i, text(r.Cells[i])
	}
	return vs, nil
}

func text(c fieldcrypt.Cell) any {
	if c.Null {
		return nil
	}
	return c.Text
}

func (x *ndjsonReader) Values(r *Row) ([]Value, error) {
	line, err := x.Append(nil, r)
	if err != nil {
		return nil, err
	}
	fields, _ := scanObject(line)
	vs := make([]Value, len(fields))
	for i, f := range fields {
		vs[i] = Value{Name: f.name, Column: -1, Value: json.RawMessage(line[f.value.start:f.value.end])}
		for k, name := range x.names {
			if name == f.name {
				vs[i].Column = k
			}
		}
		if string(vs[i].Value.(json.RawMessage)) == "null" {
			vs[i].Value = nil
		}
	}
	return vs, nil
}
