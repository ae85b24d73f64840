package pgadopt

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
)

// catalog is what the database's catalog says about the mapped tables, their partitions
// and children, and what depends on their personal columns.
type catalog struct {
	Relations   []relation
	Columns     []column
	Constraints []constraint
	Indexes     []index
	Views       []view
	Triggers    []trigger
	Others      []dependent
}

// relation is a mapped table, or a partition or child of one.
type relation struct {
	Root        uint32 // the mapped table that it belongs to
	OID         uint32
	Schema      string
	Name        string
	Kind        string // relkind
	Persistence string
	Partition   bool
	Parents     []string // that it inherits from
	Typed       bool
	Owner       string
	Owned       bool
	Readable    bool
	Writable    bool
	Hides       bool // row-level security is in force for us
	Identity    string
	Publishes   []string // publications that publish its updates
	Subscribed  bool
	Extension   string
	HeapBytes   int64 // with TOAST
	IndexBytes  int64
	RowType     []string // columns of other tables that are of its row type
	UpdateRules []string // rules on INSERT and UPDATE
	NoVacuum    bool     // autovacuum is switched off for it
}

func (r relation) quoted() string { return pgx.Identifier{r.Schema, r.Name}.Sanitize() }

// column is a personal column, in the mapped table or in a partition of it.
type column struct {
	Root          uint32
	Rel           uint32
	Name          string
	Generated     string
	Identity      string
	NotNull       bool
	Default       bool
	Storage       string
	Deterministic bool
	Collation     string
	TypeKind      string // typtype of what a domain is over
	Category      string
	Width         float64 // average bytes over all rows, from the statistics
}

// constraint uses a personal column.
type constraint struct {
	Root    uint32
	Rel     string
	Name    string
	Kind    string // contype
	Columns []string
	Other   string // foreign keys: the other side
	Refers  bool   // the mapped table is the one referred to
}

// index uses a personal column.
type index struct {
	Root      uint32
	OID       uint32
	Rel       uint32
	Name      string
	Columns   []string // personal ones
	Method    string
	Unique    bool // by a personal column
	Primary   bool
	Exclusion bool
	Exprs     []string // of its columns, if there are expressions
	Predicate string
	Replica   bool
}

// view reads a personal column, directly or through other views.
type view struct {
	Root      uint32
	OID       uint32
	Name      string
	Kind      string // v, m
	Column    string // "" if through another view
	Owned     bool
	Creatable bool // we may create in its schema
	Extension string
	Extras    []string // what depends on it and does not come back with it
}

// trigger stands on a mapped table.
type trigger struct {
	Root     uint32
	Rel      string
	Name     string
	Enabled  string
	Columns  []string // personal columns of UPDATE OF, and of WHEN
	Row      bool
	Update   bool
	Truncate bool // fires for nothing else
	Function string
	Source   string
}

// dependent is something else that depends on a personal column.
type dependent struct {
	Root   uint32
	Column string
	Class  string // catalog that it stands in
	Name   string
}

// mapped finds the personal columns ($1 tables, $2 names), in partitions and children too.
const mapped = `
WITH RECURSIVE mapped(root, name) AS (
	SELECT * FROM unnest($1::text[]::oid[], $2::text[])
), tree(root, rel, depth) AS (
	SELECT DISTINCT root, root, 0 FROM mapped
	UNION ALL
	SELECT t.root, i.inhrelid, t.depth + 1 FROM tree t JOIN pg_inherits i ON i.inhparent = t.rel
), cols AS (
	SELECT t.root, t.rel, t.depth, a.attnum, a.attname
	FROM tree t JOIN mapped m USING (root)
	JOIN pg_attribute a ON a.attrelid = t.rel AND a.attname = m.name AND NOT a.attisdropped
)`

// readCatalog reads the catalog within a transaction that has search_path = pg_catalog.
func readCatalog(ctx context.Context, tx pgx.Tx, tables []*pgmap.Table) (*catalog, error) {
	var roots, names []string
	for _, t := range tables {
		for _, f := range t.Fields {
			roots, names = append(roots, strconv.FormatUint(uint64(t.OID), 10)), append(names, f.Name)
		}
	}
	c := &catalog{}
	for _, q := range []struct {
		what string
		read func() error
	}{
		{"tables", func() error { return collect(ctx, tx, &c.Relations, relationQuery, roots, names) }},
		{"columns", func() error { return collect(ctx, tx, &c.Columns, columnQuery, roots, names) }},
		{"constraints", func() error { return collect(ctx, tx, &c.Constraints, constraintQuery, roots, names) }},
		{"indexes", func() error { return collect(ctx, tx, &c.Indexes, indexQuery, roots, names) }},
		{"views", func() error { return collect(ctx, tx, &c.Views, viewQuery, roots, names) }},
		{"triggers", func() error { return collect(ctx, tx, &c.Triggers, triggerQuery, roots, names) }},
		{"what depends on the columns", func() error { return collect(ctx, tx, &c.Others, dependentQuery, roots, names) }},
	} {
		if err := q.read(); err != nil {
			return nil, pgmap.Fail(fmt.Sprintf("plan: read the catalog: %s", q.what), err)
		}
	}
	return c, nil
}

// collect appends the rows of a query to a list of structs, column by column.
func collect[T any](ctx context.Context, tx pgx.Tx, to *[]T, sql string, args ...any) error {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	*to, err = pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	return err
}

// of gives what belongs to one mapped table.
func of[T any](all []T, root uint32, rootOf func(T) uint32) (mine []T) {
	for _, v := range all {
		if rootOf(v) == root {
			mine = append(mine, v)
		}
	}
	return mine
}

const (
	relationQuery = mapped + `
SELECT t.root, c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
       c.relispartition, ARRAY(SELECT h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = c.oid ORDER BY 1), c.reloftype <> 0, pg_get_userbyid(c.relowner)::text, pg_has_role(c.relowner, 'USAGE'),
       has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'UPDATE'),
       row_security_active(c.oid),
       CASE WHEN c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index x WHERE x.indrelid = c.oid AND x.indisprimary) THEN 'n' ELSE c.relreplident END::text,
       COALESCE((SELECT array_agg(DISTINCT p.pubname::text ORDER BY p.pubname::text) FROM pg_publication p
         JOIN pg_publication_tables pt ON pt.pubname = p.pubname
         WHERE p.pubupdate AND pt.schemaname = n.nspname AND pt.tablename = c.relname), '{}'),
       EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = c.oid),
       COALESCE((SELECT e.extname::text FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
         WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass LIMIT 1), ''),
       COALESCE(CASE WHEN c.relkind IN ('r', 'm') THEN pg_table_size(c.oid) END, 0),
       COALESCE(CASE WHEN c.relkind IN ('r', 'm') THEN pg_indexes_size(c.oid) END, 0),
       COALESCE((SELECT array_agg(a.attrelid::regclass || '.' || quote_ident(a.attname) ORDER BY 1)
         FROM pg_attribute a JOIN pg_class u ON u.oid = a.attrelid JOIN pg_type y ON y.oid = a.atttypid
         WHERE c.reltype <> 0 AND (a.atttypid = c.reltype OR y.typelem = c.reltype) AND a.attnum > 0 AND NOT a.attisdropped AND u.relkind IN ('r', 'p', 'm')), '{}'),
       COALESCE((SELECT array_agg(r.rulename::text ORDER BY r.rulename::text) FROM pg_rewrite r
         WHERE r.ev_class = c.oid AND r.ev_type IN ('2', '3') AND r.ev_enabled <> 'D'), '{}'),
       COALESCE(c.reloptions && '{autovacuum_enabled=false,autovacuum_enabled=off,autovacuum_enabled=0}', false)
FROM (SELECT root, rel, min(depth) AS depth FROM tree GROUP BY 1, 2) t JOIN pg_class c ON c.oid = t.rel JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY t.root, t.depth, 3, 4`

	columnQuery = mapped + `, base AS (
	SELECT c.rel, c.attnum, a.atttypid AS typ FROM cols c JOIN pg_attribute a ON a.attrelid = c.rel AND a.attnum = c.attnum
	UNION ALL
	SELECT b.rel, b.attnum, y.typbasetype FROM base b JOIN pg_type y ON y.oid = b.typ WHERE y.typtype = 'd'
)
SELECT c.root, c.rel, c.attname::text, a.attgenerated::text, a.attidentity::text, a.attnotnull, a.atthasdef AND a.attgenerated = '',
       a.attstorage::text, COALESCE(l.collisdeterministic, true), COALESCE(quote_ident(l.collname), ''), y.typtype::text, y.typcategory::text,
       COALESCE((SELECT s.avg_width * (1 - s.null_frac) FROM pg_stats s
         WHERE s.schemaname = n.nspname AND s.tablename = r.relname AND s.attname = c.attname ORDER BY s.inherited DESC LIMIT 1), 16)::float8
FROM cols c
JOIN pg_attribute a ON a.attrelid = c.rel AND a.attnum = c.attnum
JOIN base b ON b.rel = c.rel AND b.attnum = c.attnum JOIN pg_type y ON y.oid = b.typ AND y.typtype <> 'd'
JOIN pg_class r ON r.oid = c.rel JOIN pg_namespace n ON n.oid = r.relnamespace
LEFT JOIN pg_collation l ON l.oid = a.attcollation
ORDER BY c.root, c.depth, c.rel, c.attnum`

	constraintQuery = mapped + `
SELECT c.root, k.conrelid::regclass::text, quote_ident(k.conname), k.contype::text, array_agg(c.attname::text ORDER BY c.attname::text),
       CASE WHEN k.contype <> 'f' THEN '' WHEN k.confrelid = c.rel THEN k.conrelid::regclass::text ELSE k.confrelid::regclass::text END,
       k.contype = 'f' AND k.confrelid = c.rel AND c.attnum = ANY (k.confkey)
FROM cols c JOIN pg_constraint k ON k.conrelid = c.rel AND c.attnum = ANY (k.conkey) OR k.contype = 'f' AND k.confrelid = c.rel AND c.attnum = ANY (k.confkey)
WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND k.coninhcount = 0 AND k.conparentid = 0
GROUP BY 1, 2, 3, 4, 6, 7 ORDER BY 1, 2, 3, 7`

	indexQuery = mapped + `
SELECT c.root, x.indexrelid, c.rel, quote_ident(i.relname), array_agg(c.attname::text ORDER BY c.attname::text), m.amname::text,
       x.indisunique AND bool_or(x.indexprs IS NOT NULL OR c.attnum = ANY ((x.indkey::int2[])[0:x.indnkeyatts - 1])), x.indisprimary, x.indisexclusion,
       CASE WHEN x.indexprs IS NULL THEN '{}' ELSE ARRAY(SELECT pg_get_indexdef(x.indexrelid, g, false) FROM generate_series(1, x.indnatts) g) END,
       COALESCE((SELECT pg_get_expr(y.indpred, y.indrelid) FROM pg_index y WHERE y.indexrelid = x.indexrelid), ''), x.indisreplident
FROM cols c JOIN pg_index x ON x.indrelid = c.rel
JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
WHERE NOT i.relispartition AND (c.attnum = ANY (x.indkey::int2[]) OR EXISTS (
	SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = x.indexrelid
	  AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.rel AND d.refobjsubid = c.attnum))
GROUP BY c.root, c.rel, x.indexrelid, i.relname, m.amname, x.indisunique, x.indisprimary, x.indisexclusion, x.indexprs::text, x.indnatts, x.indisreplident
ORDER BY 1, 4`

	viewQuery = mapped + `, reads(root, view, via) AS (
	SELECT DISTINCT c.root, r.ev_class, c.attname::text
	FROM cols c JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.rel AND d.refobjsubid = c.attnum AND d.classid = 'pg_rewrite'::regclass
	JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN'
	UNION
	SELECT s.root, r.ev_class, ''
	FROM reads s JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = s.view AND d.classid = 'pg_rewrite'::regclass
	JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN' AND r.ev_class <> s.view
)
SELECT s.root, v.oid, v.oid::regclass::text, v.relkind::text, max(s.via), pg_has_role(v.relowner, 'USAGE'), has_schema_privilege(v.relnamespace, 'CREATE'),
       COALESCE((SELECT e.extname::text FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
         WHERE d.classid = 'pg_class'::regclass AND d.objid = v.oid AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass LIMIT 1), ''),
       ARRAY(SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_depend d
         WHERE d.deptype IN ('n', 'a') AND d.classid <> 'pg_class'::regclass AND d.classid <> 'pg_attrdef'::regclass
           AND (d.refclassid = 'pg_class'::regclass AND d.refobjid = v.oid OR d.refclassid = 'pg_type'::regclass AND d.refobjid = v.reltype)
           AND NOT (d.classid = 'pg_rewrite'::regclass AND EXISTS (SELECT FROM pg_rewrite r WHERE r.oid = d.objid AND (r.rulename = '_RETURN' OR r.ev_class = v.oid)))
           AND NOT (d.classid = 'pg_trigger'::regclass AND EXISTS (SELECT FROM pg_trigger g WHERE g.oid = d.objid AND g.tgrelid = v.oid))
         UNION SELECT 'column ' || a.attrelid::regclass || '.' || quote_ident(a.attname) FROM pg_attribute a JOIN pg_class u ON u.oid = a.attrelid
         WHERE v.reltype <> 0 AND a.atttypid = v.reltype AND a.attnum > 0 AND NOT a.attisdropped AND u.relkind IN ('r', 'p', 'm')
         ORDER BY 1)
FROM reads s JOIN pg_class v ON v.oid = s.view
GROUP BY 1, 2, 3, 4, 6, 7, v.reltype ORDER BY 1, 3`

	triggerQuery = mapped + `
SELECT t.root, g.tgrelid::regclass::text, g.tgname::text, g.tgenabled::text,
       ARRAY(SELECT DISTINCT c.attname::text FROM cols c WHERE c.root = t.root AND c.rel = t.rel AND (c.attnum = ANY (g.tgattr::int2[])
         OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_trigger'::regclass AND d.objid = g.oid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.rel AND d.refobjsubid = c.attnum)) ORDER BY 1),
       g.tgtype & 1 = 1, g.tgtype & 16 = 16, g.tgtype & 28 = 0,
       g.tgfoid::regproc::text, COALESCE(p.prosrc, '')
FROM (SELECT DISTINCT root, rel FROM tree) t JOIN pg_trigger g ON g.tgrelid = t.rel AND NOT g.tgisinternal AND g.tgparentid = 0
JOIN pg_proc p ON p.oid = g.tgfoid
ORDER BY 1, 2, 3`

	// What depends on the columns and is none of the above (pg_class: indexes and sequences),
	// and partition keys: a column of one depends on its table.
	dependentQuery = mapped + `
SELECT DISTINCT c.root, c.attname::text,
       CASE WHEN d.classid = 'pg_attrdef'::regclass THEN 'generated column'
            ELSE (SELECT y.relname FROM pg_class y WHERE y.oid = d.classid) END::text,
       CASE WHEN d.classid = 'pg_attrdef'::regclass THEN (SELECT quote_ident(a.attname) FROM pg_attrdef f JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum WHERE f.oid = d.objid)
            WHEN d.classid = 'pg_rewrite'::regclass THEN (SELECT quote_ident(w.rulename) || ' on ' || w.ev_class::regclass FROM pg_rewrite w WHERE w.oid = d.objid)
            ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END
FROM cols c JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.rel AND d.refobjsubid = c.attnum
WHERE d.classid NOT IN ('pg_class'::regclass, 'pg_constraint'::regclass, 'pg_trigger'::regclass)
  AND NOT (d.classid = 'pg_attrdef'::regclass AND NOT EXISTS (
	SELECT FROM pg_attrdef f JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum WHERE f.oid = d.objid AND a.attgenerated <> '' AND (a.attrelid, a.attnum) <> (c.rel, c.attnum)))
  AND NOT (d.classid = 'pg_rewrite'::regclass AND EXISTS (SELECT FROM pg_rewrite w WHERE w.oid = d.objid AND w.rulename = '_RETURN'))
UNION
SELECT c.root, c.attname::text, 'partition key', ''
FROM cols c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.rel AND d.objsubid = c.attnum
  AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.rel AND d.refobjsubid = 0 AND d.deptype = 'i'
JOIN pg_partitioned_table p ON p.partrelid = c.rel
ORDER BY 1, 2, 3, 4`
)
