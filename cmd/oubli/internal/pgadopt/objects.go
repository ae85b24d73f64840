package pgadopt

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
)

// anObject stands on a table and is dropped while a column of it changes: how to do so,
// and how to make it again.
type anObject struct {
	SavedObject
	drop string // "": goes with another
}

// objectKind is a query for objects on columns: of table $1, which is called $2, and has
// the columns $3. It gives name, how to drop, and how to make each.
type objectKind struct{ what, query string }

var (
	// checks on any of the columns. Those that a partition has from its parent go and come
	// with it.
	checks = objectKind{"checks", `
SELECT q.name, 'ALTER TABLE ' || $2::text || ' DROP CONSTRAINT ' || q.name,
       ARRAY['ALTER TABLE ' || $2::text || ' ADD CONSTRAINT ' || q.name || ' ' || pg_catalog.pg_get_constraintdef(k.oid)]
       || ARRAY(SELECT 'COMMENT ON CONSTRAINT ' || q.name || ' ON ' || $2::text || ' IS ' || pg_catalog.quote_literal(s.description)
                FROM pg_catalog.pg_description s WHERE s.objoid = k.oid AND s.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass)
FROM pg_catalog.pg_constraint k, LATERAL (SELECT pg_catalog.quote_ident(k.conname) AS name) q
WHERE k.conrelid = $1::text::pg_catalog.oid AND k.contype = 'c' AND k.coninhcount = 0 AND k.conkey && $3::text[]::int2[]
ORDER BY k.conname COLLATE "C"`}

	// indexes on any of the columns, also in expressions and predicates, and unique
	// constraints. One that belongs to that of a parent goes with it. They are made on
	// partitions first: the parent's takes what it finds there.
	indexes = objectKind{"indexes", `
SELECT q.name,
       CASE WHEN i.relispartition THEN '' WHEN k.oid IS NULL THEN 'DROP INDEX ' || q.path ELSE 'ALTER TABLE ' || $2::text || ' DROP CONSTRAINT ' || q.name END,
       ARRAY['SELECT pg_catalog.set_config(''default_tablespace'', ' || COALESCE(pg_catalog.quote_literal(t.spcname), '''''') || ', true)']
       || CASE WHEN k.oid IS NULL THEN pg_catalog.replace(pg_catalog.pg_get_indexdef(i.oid), ' INDEX ' || q.name || ' ON ONLY ', ' INDEX ' || q.name || ' ON ')
               ELSE 'ALTER TABLE ' || $2::text || ' ADD CONSTRAINT ' || q.name || ' ' || pg_catalog.pg_get_constraintdef(k.oid) END
       || ARRAY(SELECT 'ALTER INDEX ' || q.path || ' SET (' || pg_catalog.quote_ident(pg_catalog.split_part(o, '=', 1)) || '=' || pg_catalog.quote_literal(pg_catalog.substr(o, pg_catalog.strpos(o, '=') + 1)) || ')'
                FROM pg_catalog.unnest(i.reloptions) o WHERE k.oid IS NOT NULL)
       || ARRAY(SELECT 'ALTER INDEX ' || q.path || ' ALTER COLUMN ' || a.attnum || ' SET STATISTICS ' || a.attstattarget
                FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.oid AND a.attstattarget >= 0)
       || ARRAY(SELECT 'ALTER TABLE ' || $2::text || ' CLUSTER ON ' || q.name WHERE x.indisclustered)
       || ARRAY(SELECT 'ALTER TABLE ' || $2::text || ' REPLICA IDENTITY USING INDEX ' || q.name WHERE x.indisreplident)
       || ARRAY(SELECT 'COMMENT ON INDEX ' || q.path || ' IS ' || pg_catalog.quote_literal(s.description)
                FROM pg_catalog.pg_description s WHERE s.objoid = i.oid AND s.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass)
       || ARRAY(SELECT 'COMMENT ON CONSTRAINT ' || q.name || ' ON ' || $2::text || ' IS ' || pg_catalog.quote_literal(s.description)
                FROM pg_catalog.pg_description s WHERE s.objoid = k.oid AND s.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass)
FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace
LEFT JOIN pg_catalog.pg_tablespace t ON t.oid = i.reltablespace
LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.oid AND k.conrelid = x.indrelid AND k.contype = 'u',
LATERAL (SELECT pg_catalog.quote_ident(i.relname) AS name, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(i.relname) AS path) q
WHERE x.indrelid = $1::text::pg_catalog.oid AND NOT x.indisprimary AND NOT x.indisexclusion AND (x.indkey::int2[] && $3::text[]::int2[] OR EXISTS (
	SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.oid
	AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = x.indrelid AND d.refobjsubid = ANY ($3::text[]::int2[])))
ORDER BY i.relname COLLATE "C"`}

	// indexTargets are what PostgreSQL forgets of an index when it makes it anew itself.
	indexTargets = objectKind{"statistics of indexes", `
SELECT q.path, '', ARRAY(SELECT 'ALTER INDEX ' || q.path || ' ALTER COLUMN ' || a.attnum || ' SET STATISTICS ' || a.attstattarget
                         FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.oid AND a.attstattarget >= 0)
FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace,
LATERAL (SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(i.relname) AS path) q
WHERE x.indrelid = $1::text::pg_catalog.oid AND $2::text IS NOT NULL AND $3::text[] IS NOT NULL
  AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.oid AND a.attstattarget >= 0)
ORDER BY q.path COLLATE "C"`}

	// statistics that somebody created on several columns, or expressions, one of which is
	// among the columns.
	statistics = objectKind{"statistics", `
SELECT q.name, 'DROP STATISTICS ' || q.name,
       ARRAY[pg_catalog.pg_get_statisticsobjdef(s.oid), 'ALTER STATISTICS ' || q.name || ' OWNER TO ' || pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(s.stxowner))]
       || ARRAY(SELECT 'ALTER STATISTICS ' || q.name || ' SET STATISTICS ' || s.stxstattarget WHERE s.stxstattarget >= 0)
       || ARRAY(SELECT 'COMMENT ON STATISTICS ' || q.name || ' IS ' || pg_catalog.quote_literal(c.description)
                FROM pg_catalog.pg_description c WHERE c.objoid = s.oid AND c.classoid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass)
FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace,
LATERAL (SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(s.stxname) AS name) q
WHERE s.stxrelid = $1::text::pg_catalog.oid AND $2::text IS NOT NULL AND (s.stxkeys::int2[] && $3::text[]::int2[] OR EXISTS (
	SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass AND d.objid = s.oid
	AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = s.stxrelid AND d.refobjsubid = ANY ($3::text[]::int2[])))
ORDER BY s.stxname COLLATE "C"`}
)

// take drops the objects of a kind on columns, and returns them in the order in which they
// are made again.
func take(ctx context.Context, tx pgx.Tx, kind objectKind, parts []part, columns []string) ([]SavedObject, error) {
	what := fmt.Sprintf("%s on %s", kind.what, parts[0].quoted)
	var all []anObject
	for i := range parts {
		found, err := objectsOn(ctx, tx, kind, &parts[i], columns)
		if err != nil {
			return nil, pgmap.Fail("look for "+what, err)
		}
		all = append(all, found...)
	}
	taken := make([]SavedObject, 0, len(all))
	for i, o := range all {
		if o.drop != "" {
			if err := run(ctx, tx, "drop "+o.Name, o.drop); err != nil {
				return nil, err
			}
		}
		if kind.what == indexes.what { // partitions first
			o = all[len(all)-1-i]
		}
		taken = append(taken, o.SavedObject)
	}
	if kind.what != checks.what || len(all) == 0 || len(parts) == 1 {
		return taken, nil
	}
	// A partition may have had a check of its own besides the one from its parent.
	more, err := take(ctx, tx, kind, parts, columns)
	return append(taken, more...), err
}

func objectsOn(ctx context.Context, tx pgx.Tx, kind objectKind, p *part, columns []string) ([]anObject, error) {
	nums := []string{}
	for _, n := range p.numbers(columns) {
		nums = append(nums, fmt.Sprint(n))
	}
	rows, err := tx.Query(ctx, kind.query, oidTexts([]uint32{p.oid})[0], p.quoted, nums)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (anObject, error) {
		o := anObject{SavedObject: SavedObject{On: p.quoted}}
		err := row.Scan(&o.Name, &o.drop, &o.Make)
		return o, err
	})
}

// give makes objects again, but for those of partitions that are gone.
func give(ctx context.Context, tx pgx.Tx, objects []SavedObject) error {
	for _, o := range objects {
		what := fmt.Sprintf("make %s on %s again", o.Name, o.On)
		var there bool
		if err := tx.QueryRow(ctx, `SELECT pg_catalog.to_regclass($1) IS NOT NULL`, o.On).Scan(&there); err != nil {
			return pgmap.Fail(what, err)
		}
		if !there {
			continue
		}
		if err := run(ctx, tx, what, o.Make...); err != nil {
			return err
		}
	}
	return nil
}
