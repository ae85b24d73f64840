package pgadopt

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
)

// elsewhere adds to the report where plaintext may be that no statement reaches, as far as
// the server tells.
func (c *cleaning) elsewhere(ctx context.Context) error {
	since := "this enforcement"
	if c.report.LSN != "" {
		since = fmt.Sprintf("WAL position %s", c.report.LSN)
	}
	add := func(what, do string) { c.report.Elsewhere = append(c.report.Elsewhere, Advice{what, do}) }
	add("base backups, dumps, disk snapshots and copies of the database from before "+since, "let them expire, or destroy them; erasing a person does not reach their plaintext")
	add("WAL from before "+since+", and segments of it that the server keeps to write over",
		"it goes with the work of the server; sooner with min_wal_size lowered, pg_switch_wal() and CHECKPOINT")
	err := readOnly(ctx, c.db, func(tx pgx.Tx) error {
		values, err := settingsOf(ctx, tx)
		if err != nil {
			return err
		}
		if err := copies(ctx, tx, values, add); err != nil {
			return err
		}
		return logs(ctx, tx, values, add)
	})
	if err != nil {
		return pgmap.Fail("look for copies of the plaintext", err)
	}
	add("blocks that the file system has freed, and tables of your own that plaintext was copied to", "nothing here reaches them")
	return nil
}

func settingsOf(ctx context.Context, tx pgx.Tx) (map[string]string, error) {
	names := append([]string{"logging_collector", "log_directory", "log_error_verbosity", "wal_keep_size"}, settings...)
	var all []setting
	if err := collect(ctx, tx, &all, settingQuery, strings.Join(names, ",")); err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, s := range all {
		values[s.Name] = s.Value
	}
	return values, nil
}

// copies names who gets the WAL.
func copies(ctx context.Context, tx pgx.Tx, values map[string]string, add func(what, do string)) error {
	if m := values["archive_mode"]; m == "on" || m == "always" {
		add("the WAL archive (archive_mode = "+m+")", "let what is older expire, together with the base backups that need it")
	}
	if k := values["wal_keep_size"]; k != "" && k != "0" {
		add("WAL that wal_keep_size = "+k+"MB keeps", "it goes with the work of the server")
	}
	for _, q := range []struct{ sql, what, do string }{
		{`SELECT slot_name || ' (' || slot_type || CASE WHEN active THEN '' ELSE ', not in use' END || ')' FROM pg_replication_slots ORDER BY 1`,
			"WAL, and changes spilled to disk, that replication slots keep: %s", "see that they move on; drop those that nobody reads: SELECT pg_drop_replication_slot(…)"},
		{`SELECT DISTINCT COALESCE(NULLIF(application_name, ''), 'process ' || pid) FROM pg_stat_replication ORDER BY 1`,
			"standbys, and what else receives WAL: %s", "a standby's own files are as clean as these once it has replayed this position and made a restartpoint"},
		{`SELECT DISTINCT 'process ' || pid FROM pg_stat_progress_basebackup ORDER BY 1`,
			"a base backup is being taken: %s", "it holds plaintext: take another"},
	} {
		rows, err := tx.Query(ctx, q.sql)
		if err != nil {
			return err
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		if len(names) > 0 {
			add(fmt.Sprintf(q.what, list(names)), q.do)
		}
	}
	return nil
}

// logs names what the server writes down of statements.
func logs(ctx context.Context, tx pgx.Tx, values map[string]string, add func(what, do string)) error {
	var statements bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements')`).Scan(&statements); err != nil {
		return err
	}
	if statements || strings.Contains(values["shared_preload_libraries"], "pg_stat_statements") {
		add("pg_stat_statements, which keeps the text of utility statements (EXECUTE, COPY) with the values in it, in a file of the data directory", "SELECT pg_stat_statements_reset()")
	}
	if dir := values["log_directory"]; values["logging_collector"] == "on" && dir != "" && !strings.HasPrefix(dir, "/") {
		add("the server's log, which stands in the data directory ("+dir+")", "let what is older expire")
	}
	f := &findings{}
	f.logs(values)
	for _, n := range f.all {
		add(n.Object+": "+n.What, n.Do)
	}
	if values["log_error_verbosity"] != "terse" {
		add("COPY … FROM in text form: when an enforced column refuses a value, PostgreSQL quotes it, to the client and, as CONTEXT, in the log; other statements' errors don't",
			"ALTER SYSTEM SET log_error_verbosity = terse keeps it out of the log; let programs use the binary form, or INSERT")
	}
	return nil
}
