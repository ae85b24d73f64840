package pgadopt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
)

// Some things are found out by trying them, in a read-only transaction and on no row or a
// few: whether an index can be computed of an envelope, whether a view still has a meaning
// when a column is text, whether a type finds its way back from text.

// Two envelopes of nobody, for trials.
const (
	sampleText  = "'oubli1.sQAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'::text"
	sampleBytes = `'\xb100000001000000000000000000000000000000000000000000000000000000000000000000'::bytea`
)

// sampled is how many rows a trial of values reads at most.
const sampled = 1000

// trials look at what only PostgreSQL itself can tell.
func (p *planner) trials(ctx context.Context, s *subject) error {
	if s.Kind != 'r' && s.Kind != 'p' {
		return nil
	}
	err := readOnly(ctx, p.db, func(tx pgx.Tx) error {
		if err := p.lookups(ctx, tx, s); err != nil {
			return err
		}
		if s.phase != PhaseNone {
			return nil
		}
		if s.readable() {
			if err := s.tryValues(ctx, tx); err != nil {
				return err
			}
		}
		if err := p.tryIndexes(ctx, tx, s); err != nil {
			return err
		}
		return p.tryViews(ctx, tx, s)
	})
	return pgmap.Fail(fmt.Sprintf("plan: try table %q", s.Map.Table), err)
}

// lookups are about how rows are found.
func (p *planner) lookups(ctx context.Context, tx pgx.Tx, s *subject) error {
	first := `SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = $1::text::oid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = $2::text::int2)`
	var indexed bool
	if err := tx.QueryRow(ctx, first, fmt.Sprint(s.OID), fmt.Sprint(s.Subject.Num)).Scan(&indexed); err != nil {
		return err
	}
	if !indexed {
		s.add(Note, s.Subject.Name, "", "no index begins with it: each erasure and export reads the whole table", "CREATE INDEX CONCURRENTLY ON "+s.Quoted+" ("+s.Subject.Quoted+")")
	}
	if s.Bound == nil {
		return nil
	}
	unique := `SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = $1::text::oid AND i.indisvalid AND i.indisunique AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = $2::text::int2)`
	if err := tx.QueryRow(ctx, unique, fmt.Sprint(s.OID), fmt.Sprint(s.Bound.Num)).Scan(&indexed); err != nil {
		return err
	}
	if !indexed {
		s.add(Note, s.Bound.Name, "", "is the map's key:, and not unique by itself: a value that is moved between rows of one person and one key is not noticed", "bind to a column that is unique, if there is one")
	}
	return nil
}

// refused tells whether the server refused a trial, as against being away or interrupted.
func refused(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && !strings.HasPrefix(pg.Code, "57") && !strings.HasPrefix(pg.Code, "08") && !strings.HasPrefix(pg.Code, "53") && !strings.HasPrefix(pg.Code, "58")
}

// probe runs a query for nothing but whether the server takes it.
func probe(ctx context.Context, tx pgx.Tx, sql string) (ok bool, err error) {
	err = try(ctx, tx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql)
		return err
	})
	if err == nil || refused(err) {
		return err == nil, nil
	}
	return false, err
}

// tryValues converts the values of a few rows to text and back.
func (s *subject) tryValues(ctx context.Context, tx pgx.Tx) error {
	for _, f := range s.Fields {
		if f.Binary || textual(f.Base) && f.Type != "bpchar" || s.refused(f.Name) { // bpchar: its spaces at the end are there, and not in its text
			continue
		}
		column := "t." + f.Quoted
		where := column + " IS NOT NULL"
		if dated(f.Base) {
			where += " AND " + inRange(column)
		}
		back := pgmap.FromText(pgmap.Canonical(column, f.Base), f.Type)
		var changed int64 // compared byte by byte, as not every type has an equality
		err := try(ctx, tx, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FILTER (WHERE ROW(%s)::record *<> ROW(%s)::record) FROM (SELECT * FROM %s AS t WHERE %s LIMIT %d) AS t",
				back, column, s.Quoted, where, sampled)).Scan(&changed)
		})
		switch {
		case err != nil && !refused(err):
			return err
		case err != nil:
			s.add(Blocks, f.Name, "", "PostgreSQL does not take values of the type "+f.Type+" back from their text, so that undo could not", "make it a type that can be written as text, or take the column out of the map")
		case changed > 0:
			s.add(Blocks, f.Name, "", fmt.Sprintf("%d of the first %d values are not the same when they come back from text", changed, sampled), "make it text or numeric first, or take the column out of the map")
		}
	}
	return nil
}

// refused tells whether something stands in the way of a column already.
func (s *subject) refused(column string) bool {
	return slices.ContainsFunc(s.all, func(f Finding) bool { return f.Level == Blocks && f.Column == column })
}

// tryIndexes computes expressions and predicates of indexes of envelopes.
func (p *planner) tryIndexes(ctx context.Context, tx pgx.Tx, s *subject) error {
	for _, i := range s.indexes {
		if s.dropped(i) || i.Exprs == nil && i.Predicate == "" {
			continue
		}
		exprs := slices.Clone(i.Exprs)
		if i.Predicate != "" {
			exprs = append(exprs, i.Predicate)
		}
		row, err := s.standIn(ctx, tx, i.Rel, true)
		if err != nil {
			return err
		}
		ok, err := probe(ctx, tx, "SELECT "+strings.Join(exprs, ", ")+" FROM (SELECT "+row+") AS t")
		if err != nil {
			return err
		}
		if !ok {
			s.add(Blocks, list(i.Columns), "index "+i.Name, "its expression fails on an envelope, so that no row could be sealed", "DROP INDEX "+i.Name+": it would find nothing anyway")
		}
	}
	return nil
}

// standIn is the list of a SELECT that gives a row of a relation: NULLs of its types, and
// in personal columns envelopes, of the type that they have when they are widened.
func (s *subject) standIn(ctx context.Context, tx pgx.Tx, rel uint32, widened bool) (string, error) {
	rows, err := tx.Query(ctx, `SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
WHERE a.attrelid = $1::text::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, fmt.Sprint(rel))
	if err != nil {
		return "", err
	}
	var cells []string
	var name, typ string
	_, err = pgx.ForEachRow(rows, []any{&name, &typ}, func() error {
		value := "NULL::" + typ
		if f := s.field(name); f != nil && widened {
			if value = sampleText; f.Binary {
				value = sampleBytes
			}
		}
		cells = append(cells, value+" AS "+pgx.Identifier{name}.Sanitize())
		return nil
	})
	return strings.Join(cells, ", "), err
}

// tryViews asks PostgreSQL to understand each view with text in the place of the columns
// that change their type. The tables and views are shadowed by names of a WITH, so nothing
// is made. A view that is not understood with the old types either says nothing.
func (p *planner) tryViews(ctx context.Context, tx pgx.Tx, s *subject) error {
	views := of(p.catalog.Views, s.OID, func(v view) uint32 { return v.Root })
	views = slices.DeleteFunc(views, func(v view) bool { return v.Kind != "v" })
	if len(views) == 0 {
		return nil
	}
	schemas, err := s.shadowPath(ctx, tx, views)
	if err != nil {
		return err
	}
	for _, widened := range []bool{false, true} {
		var tables []string
		for _, r := range s.relations {
			row, err := s.standIn(ctx, tx, r.OID, widened)
			if err != nil {
				return err
			}
			tables = append(tables, pgx.Identifier{r.Name}.Sanitize()+" AS (SELECT "+row+")")
		}
		left := []view{}
		shadows := tables
		for _, v := range ordered(views) {
			name, definition, err := s.definition(ctx, tx, schemas, v)
			if err != nil {
				return err
			}
			var ok bool
			err = try(ctx, tx, func(tx pgx.Tx) (err error) {
				if _, err := tx.Exec(ctx, "SET LOCAL search_path = "+schemas); err != nil {
					return err
				}
				ok, err = probe(ctx, tx, "EXPLAIN WITH "+strings.Join(shadows, ", ")+" SELECT * FROM ("+definition+") AS v")
				return err
			})
			switch {
			case err != nil:
				return err
			case ok:
				left = append(left, v)
				shadows = append(shadows, name+" AS ("+definition+")")
			case widened:
				s.add(Blocks, v.Column, "view "+v.Name, "has no meaning any more when the column is text: it computes with its old type",
					"make the view again without that, or with "+"a cast that fails on no envelope, before adopt run")
			}
		}
		views = left
	}
	return nil
}

// shadowPath is a search path in which the tables and views go without their schemas.
func (s *subject) shadowPath(ctx context.Context, tx pgx.Tx, views []view) (string, error) {
	schemas := []string{"pg_catalog"}
	for _, r := range s.relations {
		schemas = append(schemas, pgx.Identifier{r.Schema}.Sanitize())
	}
	for _, v := range views {
		var schema string
		if err := tx.QueryRow(ctx, `SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = $1::text::oid`, fmt.Sprint(v.OID)).Scan(&schema); err != nil {
			return "", err
		}
		schemas = append(schemas, schema)
	}
	slices.Sort(schemas[1:])
	return strings.Join(slices.Compact(schemas), ", "), nil
}

// definition gives a view's name and query, as they are written in a search path.
func (s *subject) definition(ctx context.Context, tx pgx.Tx, schemas string, v view) (name, definition string, err error) {
	err = try(ctx, tx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL search_path = "+schemas); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT pg_catalog.quote_ident(relname), pg_catalog.rtrim(pg_catalog.pg_get_viewdef(oid), '; ')
FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.oid`, fmt.Sprint(v.OID)).Scan(&name, &definition)
	})
	return name, definition, err
}

// ordered puts views that others read first. A view is made after those that it reads, so
// that oids are in order, unless CREATE OR REPLACE changed that: then a trial finds the
// real view in the place of its shadow, and says too little rather than too much.
func ordered(views []view) []view {
	list := slices.Clone(views)
	slices.SortFunc(list, func(a, b view) int { return int(int64(a.OID) - int64(b.OID)) })
	return list
}
