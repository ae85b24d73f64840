package pgadopt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
)

// PostgreSQL keeps the most common values of a column, and a sample of the others, in
// pg_statistic. Rewriting a table deletes the row there; it is gone from the file only when
// that catalog is rewritten, and only when no transaction is left that could still see it.

// cleaning takes plaintext out of what the database keeps beside the tables.
type cleaning struct {
	db     *pgxpool.Pool
	tables []*pgmap.Table
	wait   time.Duration
	report *Report
}

// clean clears away what tables left behind, and completes the report.
func clean(ctx context.Context, db *pgxpool.Pool, tables []*pgmap.Table, o EnforceOptions, report *Report) error {
	c := &cleaning{db: db, tables: tables, wait: o.Wait, report: report}
	steps := []func(context.Context) error{c.orphans, c.position, c.elsewhere}
	if done, err := c.already(ctx); err != nil {
		return err
	} else if !done {
		steps = append([]func(context.Context) error{c.analyze, c.statistics, c.checkpoint}, steps...)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *cleaning) left(what, do string) {
	c.report.Left = append(c.report.Left, Advice{what, do})
}

// already tells whether an earlier run cleaned up after all tables.
func (c *cleaning) already(ctx context.Context) (bool, error) {
	records, err := Records(ctx, c.db)
	if err != nil {
		return false, err
	}
	for _, t := range c.tables {
		if r := records[t.Map.Table]; r == nil || r.Cleaned.IsZero() {
			return false, nil
		}
	}
	c.report.Done = append(c.report.Done, "the statistics were cleared by an earlier run")
	return true, nil
}

func (c *cleaning) analyze(ctx context.Context) error {
	for _, t := range c.tables {
		if err := c.unhurried(ctx, "ANALYZE "+t.Quoted); err != nil {
			return err
		}
	}
	c.report.Done = append(c.report.Done, "the tables were analyzed")
	return nil
}

// unhurried runs a statement that may take longer than statements of this user are meant to.
func (c *cleaning) unhurried(ctx context.Context, sql string) error {
	err := pgx.BeginFunc(ctx, c.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, sql)
		return err
	})
	return pgmap.Fail(sql, err)
}

// enforceAgain is what to do about what was left.
const enforceAgain = "then run again: oubli adopt enforce"

// statistics rewrites the catalogs of the statistics.
func (c *cleaning) statistics(ctx context.Context) error {
	older, err := c.outlive(ctx)
	if err != nil {
		return err
	}
	if len(older) > 0 {
		c.left("pg_statistic still holds values of the columns, for transactions that began before: "+strings.Join(older, "; "), "end or drop them, "+enforceAgain)
		return nil
	}
	catalogs := []string{"pg_catalog.pg_statistic", "pg_catalog.pg_statistic_ext_data"}
	for _, catalog := range catalogs {
		rewritten, why, err := c.vacuum(ctx, catalog)
		if err != nil {
			return err
		}
		if !rewritten {
			c.left(catalog+" still holds values of the columns in rows that are dead: "+why, "run as a superuser or the owner of the database: VACUUM FULL "+catalog+"; "+enforceAgain)
		}
	}
	if c.report.Clean() {
		c.report.Done = append(c.report.Done, "the statistics were rewritten: "+strings.Join(catalogs, ", "))
		return noteCleaned(ctx, c.db, c.tables)
	}
	return nil
}

// outlive waits until every transaction has ended that may still see what was deleted up
// to now, and names those that have not.
func (c *cleaning) outlive(ctx context.Context) ([]string, error) {
	const what = "wait for older transactions"
	var mark string
	if err := c.db.QueryRow(ctx, `SELECT pg_catalog.pg_current_xact_id()::pg_catalog.xid::text`).Scan(&mark); err != nil {
		return nil, pgmap.Fail(what, err)
	}
	for end := time.Now().Add(c.wait); ; {
		var older []string
		err := readOnly(ctx, c.db, func(tx pgx.Tx) (err error) {
			older, err = olderThan(ctx, tx, mark)
			return err
		})
		if err != nil {
			return nil, pgmap.Fail(what, err)
		}
		if len(older) == 0 || time.Now().After(end) {
			return older, nil
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return nil, context.Cause(ctx)
		}
	}
}

// olderThan names what keeps PostgreSQL from removing rows of this database that were
// deleted before a transaction.
func olderThan(ctx context.Context, db pgmap.DB, xid string) ([]string, error) {
	rows, err := db.Query(ctx, `
WITH mark AS (SELECT pg_catalog.age($1::text::pg_catalog.xid) AS age)
SELECT a.pid, COALESCE(a.backend_type, ''), COALESCE(a.application_name, ''), COALESCE(a.state, ''),
       COALESCE(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.xact_start), 0)::float8
FROM pg_catalog.pg_stat_activity a, mark
WHERE a.pid <> pg_catalog.pg_backend_pid() AND (a.datid IS NULL OR a.datname = pg_catalog.current_database())
  AND GREATEST(pg_catalog.age(a.backend_xmin), pg_catalog.age(a.backend_xid)) > mark.age
UNION ALL
SELECT 0, 'replication slot ' || s.slot_name, '', '', 0 FROM pg_catalog.pg_replication_slots s, mark
WHERE GREATEST(pg_catalog.age(s.xmin), pg_catalog.age(s.catalog_xmin)) > mark.age
UNION ALL
SELECT 0, 'prepared transaction ' || p.gid, '', '', 0 FROM pg_catalog.pg_prepared_xacts p, mark
WHERE p.database = pg_catalog.current_database() AND pg_catalog.age(p.transaction) > mark.age`, xid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanSession)
}

// vacuum rewrites a catalog, and says why if it was not rewritten: the server merely warns
// whoever may not.
func (c *cleaning) vacuum(ctx context.Context, catalog string) (rewritten bool, why string, err error) {
	// A setting of the session would stay with another one behind a pooler, so it comes
	// with a connection of its own.
	config := c.db.Config().ConnConfig.Copy()
	config.RuntimeParams["lock_timeout"] = fmt.Sprint(lockWait.Milliseconds())
	config.RuntimeParams["statement_timeout"] = "0"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		if ctx.Err() != nil {
			return false, "", context.Cause(ctx)
		}
		return false, "no connection with a lock_timeout is to be had (a pooler may refuse it: give --db the database itself)", nil
	}
	defer conn.Close(context.WithoutCancel(ctx))
	node := func() (n uint32, err error) {
		err = conn.QueryRow(ctx, `SELECT pg_catalog.pg_relation_filenode($1::text::pg_catalog.regclass)`, catalog).Scan(&n)
		return n, err
	}
	before, err := node()
	if err != nil {
		return false, "", pgmap.Fail("rewrite "+catalog, err)
	}
	for n := 1; ; n++ {
		_, err = conn.Exec(ctx, "VACUUM FULL "+catalog)
		err = pgmap.Fail("rewrite "+catalog, err)
		if err == nil || !refusedLock(err) || n == lockTries {
			break
		}
		if !sleep(ctx, 200*time.Millisecond<<min(n, 4)) {
			return false, "", context.Cause(ctx)
		}
	}
	var pg *pgmap.Error
	switch {
	case err != nil && refusedLock(err):
		return false, "it is in use", nil
	case errors.As(err, &pg) && pg.Code() == "42501":
		return false, "this user may not rewrite it", nil
	case err != nil:
		return false, "", err
	}
	after, err := node()
	if err != nil {
		return false, "", pgmap.Fail("rewrite "+catalog, err)
	}
	return before != after, "this user may not rewrite it", nil
}

// checkpoint makes what was dropped dispensable for recovery.
func (c *cleaning) checkpoint(ctx context.Context) error {
	err := c.unhurried(ctx, "CHECKPOINT")
	var pg *pgmap.Error
	switch {
	case errors.As(err, &pg) && pg.Code() == "42501":
		c.report.Elsewhere = append(c.report.Elsewhere, Advice{"the WAL since the last checkpoint: this user may not make one, so a crash of the server until the next would replay plaintext, and then drop it",
			"CHECKPOINT, as a superuser or a member of pg_checkpoint"})
		return nil
	case err != nil:
		return err
	}
	c.report.Done = append(c.report.Done, "a checkpoint was made")
	return nil
}

// orphans names files in the directories of the database that belong to nothing: a crash
// leaves there what a transaction was writing.
func (c *cleaning) orphans(ctx context.Context) error {
	var names []string
	err := readOnly(ctx, c.db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, orphanQuery)
		if err == nil {
			names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		return err
	})
	err = pgmap.Fail("look for files that belong to nothing", err)
	var pg *pgmap.Error
	switch {
	case errors.As(err, &pg) && pg.Code() == "42501":
		c.report.Elsewhere = append(c.report.Elsewhere, Advice{"files in the data directory that a crash of the server left behind: this user may not look for them",
			"run again as a superuser: oubli adopt enforce"})
		return nil
	case err != nil:
		return err
	case len(names) > 0:
		c.left("files in the data directory belong to no table, and may hold rows that a crash of the server left there: "+list(names),
			"see that they are old, stop the server, remove them, "+enforceAgain)
	}
	return nil
}

// orphanQuery: a file is of a transaction that goes on if it was changed since the oldest
// of them began. What was dropped is empty, and waits for a checkpoint.
const orphanQuery = `
WITH dirs AS (
	SELECT CASE WHEN t.spcname = 'pg_default' THEN 'base/' || d.oid
	            ELSE 'pg_tblspc/' || t.oid || '/' || v.name || '/' || d.oid END AS dir,
	       CASE WHEN t.oid = d.dattablespace THEN 0::pg_catalog.oid ELSE t.oid END AS tablespace
	FROM pg_catalog.pg_database d, pg_catalog.pg_tablespace t
	LEFT JOIN LATERAL (SELECT n AS name FROM pg_catalog.pg_ls_dir('pg_tblspc/' || t.oid, true, false) n
		WHERE t.spcname NOT IN ('pg_default', 'pg_global')
		AND n LIKE 'PG\_' || (pg_catalog.current_setting('server_version_num')::int4 / 10000) || '\_%') v ON true
	WHERE d.datname = pg_catalog.current_database() AND t.spcname <> 'pg_global'
), files AS (
	SELECT dir, tablespace, pg_catalog.substring(f, '^[0-9]+') AS node, (pg_catalog.pg_stat_file(dir || '/' || f, true)).*
	FROM dirs, LATERAL pg_catalog.pg_ls_dir(dir, true, false) f
	WHERE f ~ '^[0-9]+(_(fsm|vm|init))?(\.[0-9]+)?$'
)
SELECT DISTINCT dir || '/' || node FROM files
WHERE size > 0 AND pg_catalog.pg_filenode_relation(tablespace, node::pg_catalog.oid) IS NULL
  AND modification < (SELECT pg_catalog.min(x) FROM (
	SELECT xact_start FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL OR pid = pg_catalog.pg_backend_pid()
	UNION ALL SELECT prepared FROM pg_catalog.pg_prepared_xacts) AS s(x)) - interval '1 second'
ORDER BY 1`

// position says from when on files are clean. A database that was restored from a dump
// has no WAL of the server that enforced.
func (c *cleaning) position(ctx context.Context) error {
	if !c.report.Clean() {
		return nil
	}
	records, err := Records(ctx, c.db)
	if err != nil {
		return err
	}
	var server string
	if err := c.db.QueryRow(ctx, "SELECT "+systemIdentifier).Scan(&server); err != nil {
		return pgmap.Fail("ask for the server's identifier", err)
	}
	for _, t := range c.tables {
		r := records[t.Map.Table]
		if r == nil || !r.Cleaned.After(c.report.At) {
			continue
		}
		if c.report.At, c.report.LSN = r.Cleaned, ""; r.Server == server {
			c.report.LSN = r.LSN
		}
	}
	return nil
}

// sleep waits, and reports false if ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
