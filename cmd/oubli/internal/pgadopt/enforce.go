package pgadopt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

// EnforceOptions of Enforce. Zero values are the defaults.
type EnforceOptions struct {
	// Wait is how long to wait for transactions that are older than the enforcement, for
	// whom PostgreSQL keeps the statistics as they were. 0: 30 seconds.
	Wait time.Duration
}

// Enforce makes the personal columns of tables take nothing but envelopes, blanks and
// NULL, whoever writes, and takes the plaintext out of all that the database keeps of
// them: each table is rewritten, under a lock that its report names the duration of, with
// the rows that are alive; its statistics are made anew. Tables in which plaintext is left
// are refused before any is changed. What is enforced already stays so, unless somebody
// has given a column another type since; what an earlier Enforce left in the statistics is
// cleared away: run it again for that.
//
// The report says what could not be done, and where plaintext may be that no statement
// reaches: backups, WAL, logs.
func Enforce(ctx context.Context, db *pgxpool.Pool, tables []*pgmap.Table, o EnforceOptions) (Report, error) {
	if o.Wait == 0 {
		o.Wait = 30 * time.Second
	}
	report := Report{}
	for _, t := range tables {
		if err := ready(ctx, db, t); err != nil {
			return report, err
		}
	}
	for _, t := range tables {
		done, err := enforceTable(ctx, db, t)
		if err != nil {
			return report, err
		}
		report.Tables = append(report.Tables, done)
	}
	return report, clean(ctx, db, tables, o, &report)
}

// ready tells whether a table can be enforced.
func ready(ctx context.Context, db *pgxpool.Pool, t *pgmap.Table) error {
	r, err := recordOf(ctx, db, t)
	switch {
	case err != nil:
		return err
	case r == nil:
		return fmt.Errorf("%w: table %q is not adopted: do that with: oubli adopt run", keystore.ErrState, t.Map.Table)
	case r.Phase == PhaseUndoing:
		return fmt.Errorf("%w: the adoption of table %q is being undone: finish that with: oubli adopt undo", keystore.ErrState, t.Map.Table)
	case r.Phase == PhaseEnforced && enforced(t):
		return nil
	}
	var plain []pgmap.Row
	err = reading(ctx, db, func(tx pgx.Tx) (err error) {
		plain, err = t.Page(ctx, tx, pgmap.PageOptions{Limit: 1, Only: pgmap.Plain})
		return err
	})
	if err != nil {
		return err
	}
	if len(plain) > 0 {
		return fmt.Errorf("%w: there is plaintext left in table %q: seal it with: oubli adopt run", keystore.ErrState, t.Map.Table)
	}
	return nil
}

func enforceTable(ctx context.Context, db *pgxpool.Pool, t *pgmap.Table) (EnforcedTable, error) {
	done := EnforcedTable{Table: t.Map.Table, Relation: t.Quoted}
	err := RetryDDL(ctx, db, t, "enforce", func(ctx context.Context, tx pgx.Tx) error {
		if err := Lock(ctx, tx, t); err != nil {
			return err
		}
		start := time.Now()
		r, err := lockRecord(ctx, tx, t)
		switch {
		case err != nil:
			return err
		case r == nil || r.Phase == PhaseUndoing:
			return fmt.Errorf("table %q: %w", t.Map.Table, ErrPhase)
		}
		a, err := newAlteration(ctx, tx, t, &r.Saved)
		if err != nil {
			return err
		}
		now := func(f pgmap.Field) string { return a.root().columns[f.Name].typ }
		if r.Phase == PhaseEnforced && !slices.ContainsFunc(t.Fields, func(f pgmap.Field) bool { return now(f) != sealedText && now(f) != sealedBytes }) {
			done.Already = true
			return nil
		}
		if err := a.enforce(ctx, tx); err != nil {
			return err
		}
		if err := updateSaved(ctx, tx, t.Map.Table, r.Saved); err != nil {
			return err
		}
		if err := noteEnforced(ctx, tx, t.Map.Table); err != nil {
			return err
		}
		done.Locked = time.Since(start)
		return nil
	})
	return done, err
}

// enforced tells whether the columns of t are of the domains. Those of a table that was
// enforced may not be any more: a migration gave them a type, or the table came back from
// an older dump by itself.
func enforced(t *pgmap.Table) bool {
	for _, f := range t.Fields {
		if f.Type != sealedText && f.Type != sealedBytes {
			return false
		}
	}
	return true
}

// enforce puts the columns into the domains, and sees that this rewrote the rows: a column
// that merely got a check would keep its dead ones.
func (a *alteration) enforce(ctx context.Context, tx pgx.Tx) error {
	before, err := filenodes(ctx, tx, a.parts)
	if err != nil {
		return err
	}
	a.away = func(string) bool { return true }
	for _, f := range a.t.Fields {
		to := sealedText
		if f.Binary {
			to = sealedBytes
		}
		a.types[f.Name] = newType{to: to + a.root().columns[f.Name].collation}
	}
	if err := a.run(ctx, tx); err != nil {
		var pg *pgmap.Error
		if errors.As(err, &pg) && pg.Code() == "23514" {
			return fmt.Errorf("%w (some program wrote plaintext just now: find out which, and seal it with: oubli adopt run; nothing was changed)", err)
		}
		return err
	}
	after, err := filenodes(ctx, tx, a.parts)
	if err != nil {
		return err
	}
	for _, p := range a.parts {
		if p.kind == "r" && before[p.oid] == after[p.oid] {
			return fmt.Errorf("%w: the server did not rewrite %s, whose dead rows would stay; nothing was changed. Report this, with the version of the server", keystore.ErrState, p.quoted)
		}
	}
	return nil
}

// noteEnforced moves the record to PhaseEnforced.
func noteEnforced(ctx context.Context, tx pgx.Tx, table string) error {
	_, err := tx.Exec(ctx, `UPDATE oubli_adopt.tables SET phase = 'enforced', cursor = NULL, done = 0, enforced = pg_catalog.clock_timestamp(), cleaned = NULL,
	server = `+systemIdentifier+`, lsn = pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text
WHERE name = $1`, table)
	return pgmap.Fail(fmt.Sprintf("note that table %q is enforced", table), err)
}

// noteCleaned keeps when and where nothing was left in the statistics.
func noteCleaned(ctx context.Context, db pgmap.DB, tables []*pgmap.Table) error {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.Map.Table
	}
	_, err := db.Exec(ctx, `UPDATE oubli_adopt.tables SET cleaned = pg_catalog.clock_timestamp(), server = `+systemIdentifier+`, lsn = pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text
WHERE name = ANY ($1) AND phase = 'enforced' AND cleaned IS NULL`, names)
	return pgmap.Fail("note that the statistics are clean", err)
}

const systemIdentifier = `(SELECT c.system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system() c)`
