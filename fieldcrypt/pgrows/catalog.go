package pgrows

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/keystore"
)

// catalog is what the database says of the table, and the statements that follow from
// it. It does not change once made.
type catalog struct {
	columns []dbColumn // by column of the layout
	key     []int      // columns that a row is found by
	ids     ids

	list     string // what SELECT and RETURNING name
	selects  string // SELECT … FROM …
	byKey    string // … WHERE the key is $1, $2, …
	pageKeys string // the key's columns in parentheses, for comparing
	page     string // ORDER BY the key, LIMIT
}

// dbColumn is a column as the database has it.
type dbColumn struct {
	name       string
	quoted     string
	typ        string
	binary     bool   // bytea
	array      bool   // of some type
	json       bool   // or jsonb
	text       bool   // text, varchar, or another whose texts come back as they went in
	always     bool   // GENERATED ALWAYS AS IDENTITY
	generated  bool   // computed from other columns
	sequence   bool   // its default counts
	owned      bool   // … with a sequence of its own
	expression string // the default, empty if there is none
}

func (c dbColumn) hasDefault() bool { return c.sequence || c.expression != "" }

// The parameter is the table's quoted name. A char(n) is not text here: it comes back
// with spaces that never went in.
const (
	columnsQuery = `
SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod),
       pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL) = 'bytea',
       t.typcategory = 'A',
       pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL) IN ('json', 'jsonb'),
       t.typcategory = 'S' AND pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL) <> 'character',
       a.attidentity::text, a.attgenerated::text,
       coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), ''),
       pg_catalog.pg_get_serial_sequence($1::text, a.attname::text) IS NOT NULL
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = pg_catalog.to_regclass($1::text) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum`

	indexesQuery = `
SELECT i.indisprimary, ARRAY(
	SELECT a.attname::text FROM pg_catalog.pg_attribute a
	WHERE a.attrelid = i.indrelid AND a.attnotnull
	  AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts-1])
	ORDER BY pg_catalog.array_position(i.indkey::int2[], a.attnum)), i.indnkeyatts::int4, c.relkind::text
FROM pg_catalog.pg_class c
LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
WHERE c.oid = pg_catalog.to_regclass($1::text)`
)

// readCatalog asks the database about the table and fits the layout to it. The error
// names all that does not fit.
func readCatalog(ctx context.Context, db DB, l *layout, table string, id reflect.Type, keyNames []string) (*catalog, error) {
	all, err := readColumns(ctx, db, table)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: there is no table %s: is Options.Name right, and the search_path?", keystore.ErrInvalid, table)
	}
	c := &catalog{}
	mistakes := c.fit(l, all)
	key, err := c.readKey(ctx, db, table, keyNames)
	if err != nil {
		return nil, err
	}
	for _, name := range key {
		i := slices.IndexFunc(c.columns, func(d dbColumn) bool { return d.name == name })
		if i < 0 {
			mistakes = append(mistakes, fmt.Errorf("column %s of the key has no field", name))
		}
		c.key = append(c.key, i)
	}
	if mistakes == nil {
		c.ids, err = newIDs(l, c, id)
		mistakes = append(mistakes, err)
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, fmt.Errorf("%w: %s as table %s:\n%w", keystore.ErrInvalid, l.row, table, err)
	}
	c.prepare(table)
	return c, nil
}

func readColumns(ctx context.Context, db DB, table string) ([]dbColumn, error) {
	rows, err := db.Query(ctx, columnsQuery, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (d dbColumn, err error) {
		var identity, generated string
		err = row.Scan(&d.name, &d.typ, &d.binary, &d.array, &d.json, &d.text, &identity, &generated, &d.expression, &d.owned)
		d.quoted = pgx.Identifier{d.name}.Sanitize()
		d.always = identity == "a"
		d.generated = generated != ""
		d.sequence = d.owned || identity != "" || strings.HasPrefix(d.expression, "nextval(")
		return d, err
	})
}

// fit finds the columns of the fields.
func (c *catalog) fit(l *layout, all []dbColumn) (mistakes []error) {
	mistake := func(format string, args ...any) { mistakes = append(mistakes, fmt.Errorf(format, args...)) }
	c.columns = make([]dbColumn, len(l.columns))
	taken := map[string]string{} // columns, with the field that they are
	for i := range l.columns {
		f := &l.columns[i]
		at, best, twice := -1, 0, false
		for j, d := range all {
			if fit := f.fits(d.name); fit > best {
				at, best, twice = j, fit, false
			} else if fit == best && fit > 0 {
				twice = true
			}
		}
		if at < 0 {
			mistake("field %s has no column%s", f.field, f.hint())
			continue
		}
		d := all[at]
		if twice {
			mistake("field %s fits several columns: say which one with a db tag", f.field)
		}
		if other := taken[d.name]; other != "" {
			mistake("%s and %s are both column %s", other, f.field, d.name)
		}
		taken[d.name] = f.field
		c.columns[i] = d
		switch {
		case f.personal && d.generated:
			mistake("column %s is personal and computed by the database, from plaintext that it must not have", d.name)
		case f.hold == holdsNone:
		case f.hold == holdsBytes && !d.binary:
			mistake("column %s is of type %s, and a []byte holds a binary envelope: make the column bytea, or the field a string", d.name, d.typ)
		case !d.text && !d.binary:
			mistake("column %s is of type %s, which cannot hold an envelope: make it text or bytea", d.name, d.typ)
		}
	}
	return mistakes
}

func (c *column) hint() string {
	if c.tag != "" {
		return fmt.Sprintf(" %s, which its db tag names", c.tag)
	}
	return fmt.Sprintf(": add one, or name it with a db tag, as `db:%q`", strings.ToLower(c.goName()))
}

// readKey returns the names of the columns that a row is found by: the primary key, or
// those given, which must be unique and not null, for rows are paged by them.
func (c *catalog) readKey(ctx context.Context, db DB, table string, given []string) ([]string, error) {
	rows, err := db.Query(ctx, indexesQuery, table)
	if err != nil {
		return nil, err
	}
	type index struct {
		Primary *bool
		Columns []string
		Width   *int
		Kind    string
	}
	indexes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[index])
	if err != nil {
		return nil, err
	}
	sorted := slices.Sorted(slices.Values(given))
	for _, x := range indexes {
		switch {
		case given == nil && x.Primary != nil && *x.Primary:
			return x.Columns, nil
		case given == nil:
		case x.Kind == "v", x.Width != nil && len(x.Columns) == *x.Width && slices.Equal(slices.Sorted(slices.Values(x.Columns)), sorted):
			return given, nil // the indexes of a view's tables are not looked at
		}
	}
	if given == nil {
		return nil, fmt.Errorf("%w: table %s has no primary key: name the columns of a unique one in Options.Key", keystore.ErrInvalid, table)
	}
	return nil, fmt.Errorf("%w: Options.Key: table %s has no unique index on (%s) alone whose columns are NOT NULL",
		keystore.ErrInvalid, table, strings.Join(given, ", "))
}

// prepare writes the statements that are always the same.
func (c *catalog) prepare(table string) {
	names := make([]string, len(c.columns))
	for i, d := range c.columns {
		names[i] = d.quoted
	}
	keys, is := make([]string, len(c.key)), make([]string, len(c.key))
	for n, i := range c.key {
		keys[n] = c.columns[i].quoted
		is[n] = keys[n] + " = $" + strconv.Itoa(n+1)
	}
	c.list = strings.Join(names, ", ")
	c.selects = "SELECT " + c.list + " FROM " + table
	c.byKey = " WHERE " + strings.Join(is, " AND ")
	c.pageKeys = "(" + strings.Join(keys, ", ") + ")"
	c.page = " ORDER BY " + strings.Join(keys, ", ") + " LIMIT " + strconv.Itoa(pageRows)
}
