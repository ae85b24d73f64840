package pgmap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/keystore"
)

// Load finds the tables of a data map. The error names all that is missing, and wraps
// keystore.ErrInvalid.
func Load(ctx context.Context, db DB, m *datamap.Map) ([]*Table, error) {
	var tables []*Table
	var mistakes []error
	relations := map[uint32]string{}
	for _, entry := range m.Tables() {
		t, err := load(ctx, db, entry)
		var not notFound
		switch {
		case errors.As(err, &not):
			mistakes = append(mistakes, err)
			continue
		case err != nil:
			return nil, err
		}
		if other, twice := relations[t.OID]; twice {
			mistakes = append(mistakes, notFound{fmt.Errorf("tables %q and %q are both %s: list its columns under one", other, entry.Table, t.Quoted)})
		}
		relations[t.OID] = entry.Table
		tables = append(tables, t)
	}
	if mistakes != nil {
		return nil, fmt.Errorf("%w: the data map %s does not fit the database:\n%w", keystore.ErrInvalid, m.File(), errors.Join(mistakes...))
	}
	return tables, nil
}

// notFound is what somebody has to correct in the map.
type notFound struct{ error }

const (
	tableQuery = `
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.reltuples::float8, pg_catalog.row_security_active(c.oid),
       c.relkind OPERATOR(pg_catalog.<>) 'p' AND EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhparent OPERATOR(pg_catalog.=) c.oid)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)`

	columnQuery = `
WITH RECURSIVE base AS (
	SELECT a.attnum, t.oid, t.typtype, t.typbasetype, 0 AS depth
	FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
	WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
	UNION ALL
	SELECT b.attnum, t.oid, t.typtype, t.typbasetype, b.depth + 1
	FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
)
SELECT a.attname::text, a.attnum, pg_catalog.format_type(a.atttypid, a.atttypmod),
       pg_catalog.format_type(b.oid, NULL), b.depth > 0, a.attnotnull
FROM pg_catalog.pg_attribute a JOIN base b ON b.attnum = a.attnum AND b.typtype <> 'd'
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum`

	// The columns of the primary key, or of the narrowest other unique index that finds
	// every row.
	keyQuery = `
SELECT (i.indkey::int2[])[0:i.indnkeyatts-1]
FROM pg_catalog.pg_index i
WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
  AND NOT EXISTS (
	SELECT FROM pg_catalog.pg_attribute a
	WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts-1])
	AND (NOT a.attnotnull OR EXISTS ( -- NOT NULL, but for rows of before
		SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = i.indrelid AND k.contype = 'n' AND NOT k.convalidated AND a.attnum = ANY (k.conkey))))
ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid`
)

func load(ctx context.Context, db DB, entry datamap.Table) (*Table, error) {
	t := &Table{Map: entry}
	wrong := func(format string, args ...any) error {
		return notFound{fmt.Errorf("table %q: %s", entry.Table, fmt.Sprintf(format, args...))}
	}
	what := fmt.Sprintf("look at table %q", entry.Table)
	var kind string
	var rows float64
	given := pgx.Identifier(entry.DB).Sanitize()
	err := db.QueryRow(ctx, tableQuery, given).Scan(&t.OID, &t.Schema, &t.Name, &kind, &rows, &t.hidden, &t.children)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, wrong("the database has no table %s: say which one with db:", given)
	}
	if err != nil {
		return nil, Fail(what, err)
	}
	t.Kind, t.Rows = kind[0], int64(rows)
	t.Quoted = pgx.Identifier{t.Schema, t.Name}.Sanitize()
	var columns []Column
	err = qualified(ctx, db, func(tx pgx.Tx) error {
		if columns, err = columnsOf(ctx, tx, t.OID); err != nil {
			return err
		}
		t.Key, err = keyOf(ctx, tx, t.OID, columns)
		return err
	})
	if err != nil {
		return nil, Fail(what, err)
	}
	var missing []string
	find := func(name string) Column {
		for _, c := range columns {
			if c.Name == name {
				return c
			}
		}
		missing = append(missing, name)
		return Column{}
	}
	t.Subject = find(entry.SubjectColumn)
	if entry.Key != "" {
		c := find(entry.Key)
		t.Bound = &c
	}
	for i, f := range entry.Fields {
		c := find(entry.Columns[i].DB)
		original := entry.Columns[i].Type
		if original == "" {
			original = c.Type
		}
		t.Fields = append(t.Fields, Field{Column: c, Logical: f.Name, Binary: c.Base == "bytea", Original: original})
	}
	for _, name := range entry.Show {
		if i := slices.IndexFunc(t.Fields, func(f Field) bool { return f.Logical == name }); i >= 0 {
			t.Shown = append(t.Shown, t.Fields[i].Column)
		} else {
			t.Shown = append(t.Shown, find(name))
		}
	}
	if missing != nil {
		return nil, wrong("%s has no column %s: names are as in the catalog; a field's db: says which column it is", t.Quoted, strings.Join(missing, ", "))
	}
	return t, nil
}

// qualified runs f, which only reads, where names of types come with their schema unless
// they are PostgreSQL's own: so they mean the same under every search path. Nobody else's
// operators are in the way either.
func qualified(ctx context.Context, db DB, f func(pgx.Tx) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // takes the setting back, too
	if _, err := tx.Exec(ctx, "SELECT pg_catalog.set_config('search_path', 'pg_catalog', true)"); err != nil {
		return err
	}
	return f(tx)
}

func columnsOf(ctx context.Context, db DB, table uint32) ([]Column, error) {
	rows, err := db.Query(ctx, columnQuery, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Column, err error) {
		err = row.Scan(&c.Name, &c.Num, &c.Type, &c.Base, &c.Domain, &c.NotNull)
		c.Quoted = pgx.Identifier{c.Name}.Sanitize()
		return c, err
	})
}

func keyOf(ctx context.Context, db DB, table uint32, columns []Column) ([]Column, error) {
	rows, err := db.Query(ctx, keyQuery, table)
	if err != nil {
		return nil, err
	}
	indexes, err := pgx.CollectRows(rows, pgx.RowTo[[]int16])
	if err != nil || len(indexes) == 0 {
		return nil, err
	}
	var key []Column
	for _, num := range indexes[0] {
		for _, c := range columns {
			if c.Num == num {
				key = append(key, c)
			}
		}
	}
	return key, nil
}
