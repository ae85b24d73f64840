package pgadopt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

const (
	// lockWait is how long a definition's change waits for a lock. Whoever comes after it
	// waits as long, so it is short; it is longer than the second after which PostgreSQL
	// sends an autovacuum away that is in the way.
	lockWait = 2 * time.Second
	// lockTries is how often it is tried.
	lockTries = 10
)

// RetryDDL runs f, which changes the definition of t, in a transaction whose locks are
// waited for shortly, and with pauses again if they were not had. The error of the last
// try says who holds them. The search path is empty in the transaction: what PostgreSQL
// prints of a definition is qualified then, and means the same wherever it is run.
func RetryDDL(ctx context.Context, db *pgxpool.Pool, t *pgmap.Table, what string, f func(ctx context.Context, tx pgx.Tx) error) error {
	return retryDDL(ctx, db, t, what, lockTries, f)
}

func retryDDL(ctx context.Context, db *pgxpool.Pool, t *pgmap.Table, what string, tries int, f func(ctx context.Context, tx pgx.Tx) error) error {
	what = fmt.Sprintf("%s table %q", what, t.Map.Table)
	for n := 1; ; n++ {
		err := inDDL(ctx, db, what, f)
		if err == nil || !refusedLock(err) || ctx.Err() != nil {
			return err
		}
		if n >= tries {
			return fmt.Errorf("%s: %w: %s is in use, and was so %d times for %v: %s (end these, or try again when there is less going on; nothing was changed)",
				what, keystore.ErrUnavailable, t.Quoted, n, lockWait, holders(ctx, db, t))
		}
		pause := min(100*time.Millisecond<<n, 5*time.Second)
		if !sleep(ctx, pause/2+rand.N(pause)) {
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
	}
}

func inDDL(ctx context.Context, db *pgxpool.Pool, what string, f func(ctx context.Context, tx pgx.Tx) error) error {
	// What the database has set for its users holds for none of these. Numbers and intervals
	// become texts that are the same when they come back.
	const settings = `SELECT pg_catalog.set_config(name, value, true) FROM (VALUES
	('search_path', ''), ('statement_timeout', '0'), ('idle_in_transaction_session_timeout', '0'), ('lock_timeout', $1),
	('quote_all_identifiers', 'off'), ('default_tablespace', ''), ('row_security', 'on'), ('synchronous_commit', 'on'),
	('extra_float_digits', '3'), ('intervalstyle', 'postgres')) AS s(name, value)`
	var failed error // of f, which says what it was about
	err := pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, settings, fmt.Sprint(lockWait.Milliseconds())); err != nil {
			return err
		}
		failed = f(ctx, tx)
		return failed
	})
	if failed != nil {
		return fmt.Errorf("%s: %w", what, failed)
	}
	return pgmap.Fail(what, err)
}

// ddlFail is pgmap.Fail, and says what depends on something that cannot be changed: that
// detail names objects alone.
func ddlFail(what string, err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Detail != "" && (pg.Code == "2BP01" || pg.Code == "0A000") {
		return fmt.Errorf("%w: %s", pgmap.Fail(what, err), strings.ReplaceAll(pg.Detail, "\n", "; "))
	}
	return pgmap.Fail(what, err)
}

// run runs statements in a transaction.
func run(ctx context.Context, tx pgx.Tx, what string, statements ...string) error {
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return ddlFail(what, err)
		}
	}
	return nil
}

// Lock takes the locks that changing the type of t's personal columns needs: those of the
// views on them, the outermost first, and then that of the table, which is the order in
// which a query takes them. It belongs into RetryDDL.
func Lock(ctx context.Context, tx pgx.Tx, t *pgmap.Table) error {
	parts, err := partsOf(ctx, tx, t)
	if err != nil {
		return err
	}
	views, err := viewsOn(ctx, tx, parts, fieldNames(t))
	if err != nil {
		return err
	}
	for i := len(views) - 1; i >= 0; i-- {
		// Changes nothing. LOCK TABLE would lock all tables of the view.
		if err := run(ctx, tx, "lock view "+views[i].quoted, "ALTER VIEW "+views[i].quoted+" OWNER TO "+views[i].owner); err != nil {
			return err
		}
	}
	return run(ctx, tx, "lock "+t.Quoted, "LOCK TABLE "+t.Quoted+" IN ACCESS EXCLUSIVE MODE")
}

// holders names who holds locks on a table, its partitions or the views on it.
func holders(ctx context.Context, db pgmap.DB, t *pgmap.Table) string {
	var who []string
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		parts, err := partsOf(ctx, tx, t)
		if err != nil {
			return err
		}
		views, err := viewsOn(ctx, tx, parts, fieldNames(t))
		if err != nil {
			return err
		}
		var oids []uint32
		for _, p := range parts {
			oids = append(oids, p.oid)
		}
		for _, v := range views {
			oids = append(oids, v.oid)
		}
		who, err = holding(ctx, tx, oids)
		return err
	})
	if err != nil || len(who) == 0 {
		return "held by somebody who has let go of it meanwhile"
	}
	return "held by " + strings.Join(who, "; ")
}

// holding names the sessions that hold locks on relations.
func holding(ctx context.Context, db pgmap.DB, relations []uint32) ([]string, error) {
	rows, err := db.Query(ctx, `
SELECT DISTINCT COALESCE(l.pid, 0), COALESCE(a.backend_type, 'prepared transaction'), COALESCE(a.application_name, ''), COALESCE(a.state, ''),
       COALESCE(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.xact_start), 0)::float8 AS age
FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a USING (pid)
WHERE l.locktype = 'relation' AND l.granted AND l.relation = ANY ($1::text[]::pg_catalog.oid[])
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
  AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
ORDER BY age DESC LIMIT 10`, oidTexts(relations))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanSession)
}

func scanSession(row pgx.CollectableRow) (string, error) {
	var s session
	err := row.Scan(&s.pid, &s.kind, &s.app, &s.state, &s.age)
	return s.String(), err
}

// session is somebody who is in the way.
type session struct {
	pid              int32
	kind, app, state string
	age              float64 // of the transaction, seconds; 0: not to be seen
}

func (s session) String() string {
	var b strings.Builder
	if s.pid == 0 {
		return s.kind
	}
	fmt.Fprintf(&b, "process %d (", s.pid)
	if s.app != "" {
		fmt.Fprintf(&b, "%q, ", s.app)
	} else if s.kind != "" {
		b.WriteString(s.kind + ", ")
	}
	if s.state != "" {
		b.WriteString(s.state + ", ")
	}
	if s.age > 0 {
		fmt.Fprintf(&b, "in a transaction for %v", time.Duration(s.age*float64(time.Second)).Round(time.Second/10))
	} else {
		b.WriteString("of another user")
	}
	return b.String() + ")"
}

func oidTexts(oids []uint32) []string {
	texts := make([]string, len(oids))
	for i, o := range oids {
		texts[i] = fmt.Sprint(o)
	}
	return texts
}

func fieldNames(t *pgmap.Table) []string {
	names := make([]string, len(t.Fields))
	for i, f := range t.Fields {
		names[i] = f.Name
	}
	return names
}
