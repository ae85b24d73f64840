package pgadopt

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
)

// part is a table, or one of its partitions, with the personal columns as they are now.
type part struct {
	oid     uint32
	quoted  string
	kind    string // relkind
	columns map[string]partColumn
}

type partColumn struct {
	num         int16
	quoted      string
	typ         string // as SQL writes it
	collate     string // COLLATE clause that the type needs; empty if it is the type's own
	collation   string // COLLATE clause that a text needs
	storage     string // attstorage, "" if it is the type's own
	compression string // attcompression, "" if it is the default
	def         string // default, as SQL
	length      int16  // of the type; -1: it varies
}

// partsOf returns the table and its partitions, parents first.
func partsOf(ctx context.Context, tx pgx.Tx, t *pgmap.Table) ([]part, error) {
	what := "look at " + t.Quoted
	rows, err := tx.Query(ctx, `
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text
FROM (SELECT $1::text::pg_catalog.oid AS oid, 0 AS level
      UNION SELECT p.relid, p.level FROM pg_catalog.pg_partition_tree($1::text::pg_catalog.oid::pg_catalog.regclass) p) AS x
JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY x.level, c.oid`, oidTexts([]uint32{t.OID})[0])
	if err != nil {
		return nil, pgmap.Fail(what, err)
	}
	parts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p part, err error) {
		var schema, name string
		err = row.Scan(&p.oid, &schema, &name, &p.kind)
		p.quoted, p.columns = pgx.Identifier{schema, name}.Sanitize(), map[string]partColumn{}
		return p, err
	})
	if err != nil {
		return nil, pgmap.Fail(what, err)
	}
	for i := range parts {
		if err := parts[i].load(ctx, tx, fieldNames(t)); err != nil {
			return nil, pgmap.Fail(what, err)
		}
	}
	return parts, nil
}

func (p *part) load(ctx context.Context, tx pgx.Tx, names []string) error {
	rows, err := tx.Query(ctx, `
SELECT a.attname::text, a.attnum, pg_catalog.format_type(a.atttypid, a.atttypmod), t.typlen,
       CASE WHEN a.attcollation NOT IN (0, t.typcollation) THEN col.clause ELSE '' END,
       CASE WHEN a.attcollation NOT IN (0, 'pg_catalog."default"'::pg_catalog.regcollation) THEN col.clause ELSE '' END,
       CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage::text ELSE '' END, a.attcompression::text,
       COALESCE(CASE WHEN a.attgenerated = '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END, '')
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN LATERAL (
	SELECT ' COLLATE ' || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.collname) AS clause
	FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation) AS col ON true
WHERE a.attrelid = $1::text::pg_catalog.oid AND a.attname::text = ANY ($2) AND NOT a.attisdropped`, oidTexts([]uint32{p.oid})[0], names)
	if err != nil {
		return err
	}
	var name string
	var c partColumn
	_, err = pgx.ForEachRow(rows, []any{&name, &c.num, &c.typ, &c.length, &c.collate, &c.collation, &c.storage, &c.compression, &c.def}, func() error {
		c.quoted = pgx.Identifier{name}.Sanitize()
		p.columns[name] = c
		return nil
	})
	return err
}

// numbers are those of the named columns.
func (p *part) numbers(names []string) (nums []int16) {
	for _, n := range names {
		if c, ok := p.columns[n]; ok {
			nums = append(nums, c.num)
		}
	}
	return nums
}
