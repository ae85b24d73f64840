package pgmap

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// All calls each with every row of a table, by its logical name, in the order of its key,
// from one snapshot of the database and in flat memory: as Export has the values. Rows
// that do not open are left out, and bad is called with what is the matter with each. The
// counts are those of [fieldcrypt.BoundRows.Open].
func (ts *Tables) All(ctx context.Context, table string, each func([]fieldcrypt.NamedValue) error, bad func(error)) (fieldcrypt.OpenCounts, error) {
	var counts fieldcrypt.OpenCounts
	t, err := ts.named(table)
	if err != nil {
		return counts, err
	}
	err = ts.inTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		columns, err := columnsOf(ctx, tx, t.OID)
		if err != nil {
			return Fail("look at "+t.Quoted, err)
		}
		var after []string
		size := firstPage()
		for {
			tail, args := t.pageFrom(PageOptions{After: after, Limit: size.rows})
			rows, err := t.read(ctx, tx, t.selects()+tail, args...)
			if err != nil || len(rows) == 0 {
				return err
			}
			others, more, err := t.others(ctx, tx, tail, args, columns)
			if err != nil {
				return err
			}
			if len(others) != len(rows) { // cannot be: it is one snapshot, read by a unique key
				return fmt.Errorf("%w: %s has rows that share their key", keystore.ErrTampered, t.Quoted)
			}
			read := bytesOf(rows)
			n, err := t.codec.Open(ctx, cellsOf(rows))
			var failed *fieldcrypt.BatchError
			if err != nil && !errors.As(err, &failed) {
				return err
			}
			counts.Open, counts.Withheld, counts.Erased = counts.Open+n.Open, counts.Withheld+n.Withheld, counts.Erased+n.Erased
			out := map[int]bool{}
			if failed != nil {
				for _, e := range failed.Rows {
					out[e.Row] = true
					bad(t.about(rows, e))
				}
			}
			for i, row := range rows {
				if out[i] {
					continue
				}
				if err := each(t.values(row, columns, others[i])); err != nil {
					return err
				}
			}
			after = rows[len(rows)-1].Key
			size.next(len(rows), read+more)
		}
	})
	return counts, err
}

// named finds a table by its logical name.
func (ts *Tables) named(table string) (codecTable, error) {
	for _, t := range ts.tables {
		if t.Map.Table == table {
			return t, nil
		}
	}
	return codecTable{}, fmt.Errorf("%w: there is no table %q", keystore.ErrInvalid, table)
}

// Columns are the names that All gives the values of a table, in their order.
func (ts *Tables) Columns(ctx context.Context, table string) ([]string, error) {
	t, err := ts.named(table)
	if err != nil {
		return nil, err
	}
	columns, err := columnsOf(ctx, ts.pool, t.OID)
	if err != nil {
		return nil, Fail("look at "+t.Quoted, err)
	}
	var names []string
	for _, c := range columns {
		name := c.Name
		if at := t.field(c); at >= 0 {
			name = t.Fields[at].Logical
		}
		names = append(names, name)
	}
	return names, nil
}
