package pgmap

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// Export implements anonymize.Tables. It reads one snapshot of the database: personal
// columns opened, under their logical names, and all others, in the order of the table.
func (ts *Tables) Export(ctx context.Context, s keystore.Subject) ([]anonymize.TableData, error) {
	tables, err := ts.of(ctx, s)
	if err != nil {
		return nil, ts.failed("export rows", s, err)
	}
	var list []anonymize.TableData
	err = ts.inTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		for _, t := range tables {
			data, err := t.export(ctx, tx, s)
			if err != nil {
				return err
			}
			list = append(list, data)
		}
		return nil
	})
	if err != nil {
		return nil, ts.failed("export rows", s, err)
	}
	return list, nil
}

// export reads the rows of s in one table.
func (t codecTable) export(ctx context.Context, tx pgx.Tx, s keystore.Subject) (anonymize.TableData, error) {
	data := anonymize.TableData{Table: t.Map.Table}
	columns, err := columnsOf(ctx, tx, t.OID)
	if err != nil {
		return data, Fail("look at "+t.Quoted, err)
	}
	err = t.eachPage(ctx, tx, s, false, func(rows []Row, tail string, args []any) error {
		others, _, err := t.others(ctx, tx, tail, args, columns)
		if err != nil {
			return err
		}
		if len(others) != len(rows) { // cannot be: it is one snapshot, read by a unique key
			return fmt.Errorf("%w: %s has rows that share their key", keystore.ErrTampered, t.Quoted)
		}
		if _, err := t.codec.Open(ctx, cellsOf(rows)); err != nil {
			return t.about(rows, err)
		}
		for i, row := range rows {
			data.Rows = append(data.Rows, t.values(row, columns, others[i]))
		}
		return nil
	})
	return data, err
}

// values are a row's opened cells and other values, in the order of the columns.
func (t *Table) values(row Row, columns []Column, others []any) []fieldcrypt.NamedValue {
	values := make([]fieldcrypt.NamedValue, len(columns))
	for i, c := range columns {
		at := t.field(c)
		if at < 0 {
			values[i] = fieldcrypt.NamedValue{Name: c.Name, Value: others[i], State: fieldcrypt.StatusOpen}
			continue
		}
		f, cell := t.Fields[at], row.Cells[t.FieldAt()+at]
		v := fieldcrypt.NamedValue{Name: f.Logical, Personal: true, State: cell.Status}
		if v.State == "" {
			v.State = fieldcrypt.StatusOpen // NULL
		}
		switch {
		case cell.Null:
		case f.Binary:
			v.Value = []byte(cell.Text)
		default:
			v.Value = cell.Text
		}
		values[i] = v
	}
	return values
}

// field is the index of the personal field that is this column, or -1.
func (t *Table) field(c Column) int {
	for i, f := range t.Fields {
		if f.Num == c.Num {
			return i
		}
	}
	return -1
}

// others reads the rows of a query that ends so: what is not personal in them, each value
// where its column stands in columns, and how many bytes that is.
func (t *Table) others(ctx context.Context, tx pgx.Tx, tail string, args []any, columns []Column) (list [][]any, bytes int, err error) {
	exprs := make([]string, len(columns))
	for i, c := range columns {
		switch {
		case t.field(c) >= 0:
			exprs[i] = "NULL::pg_catalog.text"
		case c.Base == "bytea":
			exprs[i] = "t." + c.Quoted
		default:
			exprs[i] = "pg_catalog.to_jsonb(t." + c.Quoted + ")::pg_catalog.text"
		}
	}
	found, err := tx.Query(ctx, "SELECT "+strings.Join(exprs, ", ")+" FROM "+t.Quoted+" AS t"+tail, args...)
	if err != nil {
		return nil, 0, Fail("read "+t.Quoted, err)
	}
	list, err = pgx.CollectRows(found, func(row pgx.CollectableRow) ([]any, error) {
		texts, data, into := make([]*string, len(columns)), make([][]byte, len(columns)), make([]any, len(columns))
		for i, c := range columns {
			if into[i] = &texts[i]; c.Base == "bytea" && t.field(c) < 0 {
				into[i] = &data[i]
			}
		}
		if err := row.Scan(into...); err != nil {
			return nil, err
		}
		values := make([]any, len(columns))
		for i, text := range texts {
			switch {
			case data[i] != nil:
				bytes += len(data[i])
				values[i] = data[i]
			case text != nil:
				bytes += len(*text)
				d := json.NewDecoder(strings.NewReader(*text))
				d.UseNumber() // exact, however many digits
				if err := d.Decode(&values[i]); err != nil {
					return nil, fmt.Errorf("%w: column %s: the database's JSON does not parse", keystore.ErrTampered, columns[i].Quoted)
				}
			}
		}
		return values, nil
	})
	return list, bytes, Fail("read "+t.Quoted, err)
}
