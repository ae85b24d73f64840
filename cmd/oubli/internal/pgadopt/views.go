package pgadopt

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
)

// A view on a column keeps PostgreSQL from changing the column's type, so it is dropped
// and made again in the transaction that does, with all that belongs to it. Its query is
// printed by PostgreSQL, and a type that changes there and back prints differently: that
// is why the original is saved, and used for as long as the view is what was made of it.

// aView reads a personal column, directly or through other views.
type aView struct {
	oid    uint32
	quoted string
	owner  string // quoted
	query  string
}

// viewsOn returns the views on columns, those that others read first. Materialized views
// are not among them: the plan refuses these, and so does PostgreSQL.
func viewsOn(ctx context.Context, tx pgx.Tx, parts []part, columns []string) ([]aView, error) {
	var rels, nums []string
	for _, p := range parts {
		for _, n := range p.numbers(columns) {
			rels, nums = append(rels, fmt.Sprint(p.oid)), append(nums, fmt.Sprint(n))
		}
	}
	rows, err := tx.Query(ctx, `
WITH RECURSIVE reads(view, depth) AS (
	SELECT r.ev_class, 0
	FROM ROWS FROM (pg_catalog.unnest($1::text[]::pg_catalog.oid[]), pg_catalog.unnest($2::text[]::int2[])) AS c(rel, num)
	JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = c.rel AND d.refobjsubid = c.num
	JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid = d.objid AND r.rulename = '_RETURN'
	UNION
	SELECT r.ev_class, s.depth + 1
	FROM reads s
	JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = s.view
	JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid = d.objid AND r.rulename = '_RETURN' AND r.ev_class <> s.view
)
SELECT v.oid, n.nspname::text, v.relname::text, pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(v.relowner)), pg_catalog.pg_get_viewdef(v.oid)
FROM (SELECT view, pg_catalog.max(depth) AS depth FROM reads GROUP BY view) s
JOIN pg_catalog.pg_class v ON v.oid = s.view AND v.relkind = 'v'
JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
ORDER BY s.depth, n.nspname::text COLLATE "C", v.relname::text COLLATE "C"`, rels, nums)
	if err == nil {
		var views []aView
		views, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (v aView, err error) {
			var schema, name string
			err = row.Scan(&v.oid, &schema, &name, &v.owner, &v.query)
			v.quoted = pgx.Identifier{schema, name}.Sanitize()
			return v, err
		})
		if err == nil {
			return views, nil
		}
	}
	return nil, pgmap.Fail("look for views on "+parts[0].quoted, err)
}

// dropViews drops views in the order in which nothing depends on them, and returns how to
// make each again.
func dropViews(ctx context.Context, tx pgx.Tx, views []aView, saved []SavedView) ([]viewAgain, error) {
	again := make([]viewAgain, len(views))
	for i := len(views) - 1; i >= 0; i-- {
		v := views[i]
		query := v.query
		if n := slices.IndexFunc(saved, func(s SavedView) bool { return s.Name == v.quoted }); n >= 0 && saved[n].Made == v.query {
			query = saved[n].Query
		}
		var err error
		if again[i], err = v.again(ctx, tx, query); err != nil {
			return nil, err
		}
		if err := run(ctx, tx, "make view "+v.quoted+" anew", "DROP VIEW "+v.quoted); err != nil {
			return nil, err
		}
	}
	return again, nil
}

// viewAgain makes a view that was dropped.
type viewAgain struct {
	SavedView
	create string
	attend []string // what belongs to it
}

// again reads what belongs to a view.
func (v aView) again(ctx context.Context, tx pgx.Tx, query string) (viewAgain, error) {
	a := viewAgain{SavedView: SavedView{Name: v.quoted, Query: query}}
	rows, err := tx.Query(ctx, attendView, fmt.Sprint(v.oid), v.quoted)
	if err == nil {
		a.attend, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return a, pgmap.Fail("look at view "+v.quoted, err)
	}
	a.create, a.attend = a.attend[0]+" AS "+query, a.attend[1:]
	return a, nil
}

// attendView gives, for the view $1 that is called $2, how CREATE begins and then what is
// run afterwards, but for what ALTER DEFAULT PRIVILEGES gave to the new one.
const attendView = `
WITH v AS (SELECT c.*, $2::text AS name FROM pg_catalog.pg_class c WHERE c.oid = $1::text::pg_catalog.oid),
cols AS (SELECT v.name, a.*, pg_catalog.quote_ident(a.attname) AS col FROM v JOIN pg_catalog.pg_attribute a ON a.attrelid = v.oid AND a.attnum > 0 AND NOT a.attisdropped),
grants AS (
	SELECT v.name, '' AS col, g.*, 0 AS num FROM v, pg_catalog.aclexplode(v.relacl) g
	UNION ALL
	SELECT c.name, ' (' || c.col || ')', g.*, c.attnum FROM cols c, pg_catalog.aclexplode(c.attacl) g)
SELECT sql FROM (
	SELECT 0, 0, 'CREATE VIEW ' || v.name || COALESCE(' WITH (' || (
		SELECT pg_catalog.string_agg(pg_catalog.quote_ident(pg_catalog.split_part(o, '=', 1)) || '=' || pg_catalog.quote_literal(pg_catalog.substr(o, pg_catalog.strpos(o, '=') + 1)), ', ')
		FROM pg_catalog.unnest(v.reloptions) o) || ')', '') FROM v
	UNION ALL SELECT 1, c.attnum, 'ALTER VIEW ' || c.name || ' ALTER COLUMN ' || c.col || ' SET DEFAULT ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid)
	FROM cols c JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.attrelid AND d.adnum = c.attnum
	UNION ALL SELECT 2, r.oid::int8, pg_catalog.pg_get_ruledef(r.oid) FROM v JOIN pg_catalog.pg_rewrite r ON r.ev_class = v.oid AND r.rulename <> '_RETURN'
	UNION ALL SELECT 3, t.oid::int8, pg_catalog.pg_get_triggerdef(t.oid) FROM v JOIN pg_catalog.pg_trigger t ON t.tgrelid = v.oid AND NOT t.tgisinternal
	UNION ALL SELECT 4, t.oid::int8, 'COMMENT ON TRIGGER ' || pg_catalog.quote_ident(t.tgname) || ' ON ' || v.name || ' IS ' || pg_catalog.quote_literal(s.description)
	FROM v JOIN pg_catalog.pg_trigger t ON t.tgrelid = v.oid JOIN pg_catalog.pg_description s ON s.objoid = t.oid AND s.classoid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
	UNION ALL SELECT 5, s.objsubid, 'COMMENT ON ' || CASE WHEN s.objsubid = 0 THEN 'VIEW ' || v.name ELSE 'COLUMN ' || v.name || '.' || c.col END || ' IS ' || pg_catalog.quote_literal(s.description)
	FROM v JOIN pg_catalog.pg_description s ON s.objoid = v.oid AND s.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass LEFT JOIN cols c ON c.attnum = s.objsubid
	UNION ALL SELECT 6, 0, 'ALTER VIEW ' || v.name || ' OWNER TO ' || pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(v.relowner)) FROM v
	UNION ALL SELECT 7, 0, 'REVOKE ALL ON TABLE ' || v.name || ' FROM PUBLIC, ' || pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(v.relowner)) FROM v WHERE v.relacl IS NOT NULL
	UNION ALL SELECT 8, g.num, 'GRANT ' || pg_catalog.string_agg(g.privilege_type || g.col, ', ' ORDER BY g.privilege_type) || ' ON TABLE ' || g.name || ' TO '
		|| CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) END || CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
	FROM grants g GROUP BY g.name, g.col, g.num, g.grantee, g.is_grantable
) AS x(step, num, sql) ORDER BY step, num, sql COLLATE "C"`

// makeViews makes views again, those that others read first.
func makeViews(ctx context.Context, tx pgx.Tx, again []viewAgain) ([]SavedView, error) {
	var made []SavedView
	for _, a := range again {
		what := "make view " + a.Name + " anew"
		if err := run(ctx, tx, what, a.create); err != nil {
			return nil, fmt.Errorf("%w (does the view need the column's type as it was? change it, or drop it meanwhile; nothing was changed)", err)
		}
		if err := revokeDefaults(ctx, tx, a.Name); err != nil {
			return nil, ddlFail(what, err)
		}
		if err := run(ctx, tx, what, a.attend...); err != nil {
			return nil, err
		}
		if err := tx.QueryRow(ctx, `SELECT pg_catalog.pg_get_viewdef($1::text::pg_catalog.regclass)`, a.Name).Scan(&a.Made); err != nil {
			return nil, pgmap.Fail(what, err)
		}
		made = append(made, a.SavedView)
	}
	return made, nil
}

// revokeDefaults takes from others than the owner what ALTER DEFAULT PRIVILEGES gave them
// on a new view.
func revokeDefaults(ctx context.Context, tx pgx.Tx, view string) error {
	rows, err := tx.Query(ctx, `
SELECT DISTINCT CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) END
FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) g
WHERE c.oid = $1::text::pg_catalog.regclass AND g.grantee <> c.relowner`, view)
	if err != nil {
		return err
	}
	grantees, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, g := range grantees {
		if _, err := tx.Exec(ctx, "REVOKE ALL ON TABLE "+view+" FROM "+g); err != nil {
			return err
		}
	}
	return nil
}
