package pgstore

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oubli/oubli/keystore"
)

// sqlFiles holds init.sql, which makes the schema at version 0, and for each version n
// a file n.sql that brings a schema of the version before to it.
//
//go:embed sql
var sqlFiles embed.FS

// migrations returns the steps to each version, the first of them to version 1.
func migrations() []string {
	var steps []string
	for {
		b, err := sqlFiles.ReadFile(fmt.Sprintf("sql/%d.sql", len(steps)+1))
		if err != nil {
			return steps
		}
		steps = append(steps, string(b))
	}
}

// found is what stands in the database under the names of our tables.
type found struct {
	schema  bool     // the schema is there
	tables  []string // those of ours that are there
	version int      // -1: none
	foreign error    // somebody else's table has one of our names
	unfit   error    // a table is ours, and must not be used as it is
	role    string
	lacks   []string // privileges that the role lacks, as "SELECT on oubli.records"
}

var columns = map[string]string{
	"records":       "rev bigint, page smallint, key bytea, value bytea",
	"oubli_version": "version integer",
}

// inspect looks at the catalogs, which need no privilege, and then at the version.
func (s *Store) inspect(ctx context.Context, db querier) (f found, err error) {
	f.version = -1
	var standby bool
	var fsync string
	if err = db.QueryRow(ctx, `select pg_is_in_recovery(), current_setting('fsync'), current_user,
		exists (select from pg_catalog.pg_namespace where nspname = $1)`, s.schema).Scan(&standby, &fsync, &f.role, &f.schema); err != nil {
		return f, err
	}
	if standby {
		return f, errStandby
	}
	if fsync != "on" {
		return f, errFsync
	}
	rows, err := db.Query(ctx, `
select c.relname, c.relkind::text, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum),
	has_schema_privilege(c.relnamespace, 'USAGE'),
	has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'INSERT'),
	has_table_privilege(c.oid, 'UPDATE'), has_table_privilege(c.oid, 'DELETE'),
	row_security_active(c.oid), c.relpersistence = 'p',
	exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary and i.indisvalid
		and (select string_agg(a.attname, ' ' order by a.attnum) from pg_catalog.pg_attribute a where a.attrelid = i.indexrelid) = 'page key')
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where n.nspname = $1 and c.relname in ('records', 'oubli_version')
group by c.oid, c.relname, c.relkind, c.relnamespace`, s.schema)
	if err != nil {
		return f, err
	}
	var name, kind string
	var shape *string
	var use, sel, ins, upd, del, hidden, durable, unique bool
	_, err = pgx.ForEachRow(rows, []any{&name, &kind, &shape, &use, &sel, &ins, &upd, &del, &hidden, &durable, &unique}, func() error {
		if !strings.Contains("rp", kind) || shape == nil || *shape != columns[name] {
			f.foreign = fmt.Errorf("%s.%s is not a table of oubli's: it was left as it is; choose another schema, or move it away", s.schema, name)
			return nil
		}
		f.tables = append(f.tables, name)
		switch {
		case hidden: // a record that is hidden would pass for one that is not there
			f.unfit = fmt.Errorf("row-level security applies to the role %s on %s.%s: disable it there, or use a role with bypassrls", quote(f.role), quote(s.schema), name)
		case !durable:
			f.unfit = fmt.Errorf("%s.%s is unlogged, and empty after a crash: alter table %[1]s.%[2]s set logged", quote(s.schema), name)
		case name == "records" && !unique: // as while a dump is restored: two could make a person's first key
			f.unfit = fmt.Errorf("%s.%s has no primary key on (page, key): is a restore under way, or did one fail?", quote(s.schema), name)
		}
		if !use {
			f.lack("USAGE on schema " + quote(s.schema))
		}
		need := map[string]bool{"SELECT": sel}
		if name == "records" && !s.readOnly {
			need["INSERT"], need["UPDATE"], need["DELETE"] = ins, upd, del
		}
		for _, p := range []string{"SELECT", "INSERT", "UPDATE", "DELETE"} {
			if has, needed := need[p]; needed && !has {
				f.lack(p + " on table " + quote(s.schema) + "." + name)
			}
		}
		return nil
	})
	if err != nil || f.foreign != nil || len(f.tables) == 0 {
		return f, err
	}
	if len(f.tables) == 1 && f.tables[0] == "records" {
		f.foreign = fmt.Errorf("%s.records stands without %[1]s.oubli_version, which oubli makes next to it: it was left as it is; choose another schema, or move it away", s.schema)
		return f, nil
	}
	if slices.ContainsFunc(f.lacks, func(l string) bool { return !strings.HasSuffix(l, "records") }) {
		return f, nil // the version can't be read
	}
	return f, db.QueryRow(ctx, "select max(version) from "+quote(s.schema)+".oubli_version").Scan(&f.version)
}

func (f *found) lack(privilege string) {
	if !slices.Contains(f.lacks, privilege) {
		f.lacks = append(f.lacks, privilege)
	}
}

// querier is a connection, a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// open checks that the schema is there, ours, of this version, and ours to use.
func (s *Store) open(ctx context.Context) error {
	f, err := s.inspect(ctx, s.pool)
	if err != nil {
		return err
	}
	current := len(migrations())
	switch {
	case f.foreign != nil:
		return fmt.Errorf("%w: %w", keystore.ErrUnavailable, f.foreign)
	case len(f.tables) == 0:
		return fmt.Errorf("%w: the database has no tables of a keystore in schema %s; is it the right one? a new keystore is made with oubli init", keystore.ErrNotFound, quote(s.schema))
	case len(f.lacks) > 0:
		return fmt.Errorf("%w: the role %s lacks %s: grant it", keystore.ErrUnavailable, quote(f.role), strings.Join(f.lacks, ", "))
	case f.unfit != nil:
		return fmt.Errorf("%w: %w", keystore.ErrUnavailable, f.unfit)
	case f.version < current:
		return fmt.Errorf("%w: schema %s is of version %d, and this is version %d: run oubli upgrade, which calls pgstore.Upgrade", keystore.ErrUnavailable, quote(s.schema), f.version, current)
	case f.version > current:
		return fmt.Errorf("%w: schema %s is of version %d, and this oubli knows version %d: use a newer oubli", keystore.ErrUnavailable, quote(s.schema), f.version, current)
	}
	return nil
}

// create makes the tables unless they are there, empty.
func (s *Store) create(ctx context.Context) error {
	for n := 0; ; n++ {
		err := s.createOnce(ctx)
		var pg *pgconn.PgError
		if errors.As(err, &pg) && n < 3 {
			switch pg.Code {
			case "23505", "42P06", "42P07", "42710": // somebody else made it at the same time
				continue
			case "42501":
				return fmt.Errorf("%w: %s: grant create on the database to this role, or have its owner make schema %s and grant create and usage on it", keystore.ErrUnavailable, pg.Message, quote(s.schema))
			}
		}
		return err
	}
}

func (s *Store) createOnce(ctx context.Context) error {
	f, err := s.inspect(ctx, s.pool)
	if err != nil {
		return err
	}
	if f.foreign != nil {
		return fmt.Errorf("%w: %w", keystore.ErrExists, f.foreign)
	}
	if len(f.tables) == 0 {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			init, err := sqlFiles.ReadFile("sql/init.sql")
			if err != nil {
				return err
			}
			text := string(init)
			if f.schema { // whoever may not make a schema may still use one
				_, text, _ = strings.Cut(text, ";")
			}
			steps := migrations()
			return s.script(ctx, tx, append([]string{text}, steps...), len(steps))
		})
		if err != nil {
			return err
		}
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	recs, err := s.Scan(ctx, []byte{0}, []byte{0xff, 0xff}, 1)
	if err == nil && len(recs) > 0 {
		err = fmt.Errorf("%w: a keystore is never overwritten", keystore.ErrExists)
	}
	return err
}

// script runs texts, which bring the schema to version.
func (s *Store) script(ctx context.Context, tx pgx.Tx, texts []string, version int) error {
	for _, text := range texts {
		for part := range strings.SplitSeq(strings.ReplaceAll(text, "{schema}", quote(s.schema)), ";\n") {
			if strings.TrimSpace(part) == "" {
				continue
			}
			if _, err := tx.Exec(ctx, part); err != nil {
				return err
			}
		}
	}
	_, err := tx.Exec(ctx, "update "+quote(s.schema)+".oubli_version set version = $1", version)
	return err
}

// upgrade runs the steps to versions that the schema lacks.
func (s *Store) upgrade(ctx context.Context, to []string) error {
	f, err := s.inspect(ctx, s.pool)
	if err != nil {
		return err
	}
	if f.foreign != nil || len(f.tables) == 0 {
		return s.open(ctx) // says so
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var version int
		// one upgrade at a time
		if err := tx.QueryRow(ctx, "select version from "+quote(s.schema)+".oubli_version for update").Scan(&version); err != nil {
			return err
		}
		if version >= len(to) {
			return nil
		}
		return s.script(ctx, tx, to[version:], len(to))
	})
}
