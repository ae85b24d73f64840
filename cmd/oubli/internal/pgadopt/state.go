package pgadopt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/keystore"
)

// The bookkeeping of adoptions stands in the application's database, so that it commits
// with what it speaks of and comes along in every dump. It names tables, and keeps their
// definitions as SQL; of their rows it holds at most the key of the last one that a run
// has done.

// Phase is how far the adoption of a table has come.
type Phase string

const (
	PhaseNone     Phase = ""         // never adopted, or undone
	PhaseWidened  Phase = "widened"  // columns take envelopes; plaintext is being sealed
	PhaseAdopted  Phase = "adopted"  // a run ended without finding plaintext
	PhaseEnforced Phase = "enforced" // columns take nothing else any more
	PhaseUndoing  Phase = "undoing"  // columns take both; envelopes are being opened
)

// Record is what is known of the adoption of a table.
type Record struct {
	Table    string // logical name
	Relation string // schema and name, quoted
	Phase    Phase
	Cursor   []string // key of the last row that was done, nil: none yet
	Done     int64    // rows done, of this phase
	Saved    Saved    // what the way back needs
	Widened  time.Time
	Adopted  time.Time // zero: not yet
	Enforced time.Time // zero: not yet
	Cleaned  time.Time // when nothing was left in the statistics; zero: not yet
	Server   string    // system identifier of the server that enforced
	LSN      string    // where its WAL ended then: what comes before may hold plaintext
}

// stateVersion is that of the tables of oubli_adopt.
const stateVersion = 1

// createState makes the bookkeeping and the domains. Everybody may read them: whoever
// dumps the database must be able to.
const createState = `
CREATE SCHEMA oubli_adopt;
COMMENT ON SCHEMA oubli_adopt IS 'oubli adopt: what it changed in this database, and how to undo it. Dump and restore it with the tables.';
CREATE TABLE oubli_adopt.version (version integer NOT NULL);
INSERT INTO oubli_adopt.version VALUES (1);
CREATE TABLE oubli_adopt.tables (
	name text COLLATE "C" PRIMARY KEY,
	relation text NOT NULL,
	phase text NOT NULL,
	cursor text[],
	done bigint NOT NULL DEFAULT 0,
	widened timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	adopted timestamptz,
	enforced timestamptz,
	cleaned timestamptz,
	server text NOT NULL DEFAULT '',
	lsn text NOT NULL DEFAULT ''
) WITH (fillfactor = 50);
CREATE TABLE oubli_adopt.saved (
	name text COLLATE "C" PRIMARY KEY REFERENCES oubli_adopt.tables ON DELETE CASCADE,
	saved jsonb NOT NULL
);
GRANT USAGE ON SCHEMA oubli_adopt TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA oubli_adopt TO PUBLIC;
`

const records = `
SELECT t.name, t.relation, t.phase, t.cursor, t.done, t.widened, t.adopted, t.enforced, t.cleaned, t.server, t.lsn, s.saved::pg_catalog.text
FROM oubli_adopt.tables t JOIN oubli_adopt.saved s USING (name)`

// Records returns what is known of each table, by its logical name; nothing where no table
// was ever adopted. Bookkeeping of a newer oubli is refused.
func Records(ctx context.Context, db pgmap.DB) (map[string]*Record, error) {
	const what = "read the bookkeeping of adoptions"
	found := map[string]*Record{}
	there, err := checkState(ctx, db)
	if err != nil || !there {
		return found, err
	}
	rows, err := db.Query(ctx, records)
	if err != nil {
		return nil, pgmap.Fail(what, err)
	}
	list, err := pgx.CollectRows(rows, scanRecord)
	if err != nil {
		return nil, pgmap.Fail(what, err)
	}
	for _, r := range list {
		found[r.Table] = r
	}
	return found, nil
}

func scanRecord(row pgx.CollectableRow) (*Record, error) {
	r := &Record{}
	var adopted, enforced, cleaned *time.Time
	var saved string
	err := row.Scan(&r.Table, &r.Relation, &r.Phase, &r.Cursor, &r.Done, &r.Widened, &adopted, &enforced, &cleaned, &r.Server, &r.LSN, &saved)
	if err != nil {
		return nil, err
	}
	for to, from := range map[*time.Time]*time.Time{&r.Adopted: adopted, &r.Enforced: enforced, &r.Cleaned: cleaned} {
		if from != nil {
			*to = *from
		}
	}
	if err := json.Unmarshal([]byte(saved), &r.Saved); err != nil {
		return nil, fmt.Errorf("%w: the saved definitions of table %q are not JSON: %w", keystore.ErrInvalid, r.Table, err)
	}
	return r, nil
}

// checkState tells whether there is bookkeeping, and refuses what it does not know.
func checkState(ctx context.Context, db pgmap.DB) (bool, error) {
	const what = "look for the bookkeeping of adoptions"
	var schema, table, foreign bool
	// Not to_regclass, which may answer from what the session knew before it waited. What
	// stands there is SQL that undo runs: it must be ours, a superuser's, or of the owner of
	// the database, and not of somebody who was there first.
	err := db.QueryRow(ctx, `SELECT pg_catalog.count(*) > 0, pg_catalog.count(c.oid) > 0,
       COALESCE(pg_catalog.bool_or(NOT (o.rolsuper OR o.oid = d.datdba OR o.rolname = current_user OR NOT me.rolsuper AND pg_catalog.pg_has_role(o.oid, 'USAGE'))), false)
FROM pg_catalog.pg_namespace n
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind = 'r' AND c.relname IN ('version', 'tables', 'saved')
LEFT JOIN pg_catalog.pg_type y ON y.typnamespace = n.oid AND y.typtype = 'd'
LEFT JOIN pg_catalog.pg_roles o ON o.oid IN (n.nspowner, c.relowner, y.typowner)
LEFT JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
LEFT JOIN pg_catalog.pg_roles me ON me.rolname = current_user
WHERE n.nspname = 'oubli_adopt'`).Scan(&schema, &table, &foreign)
	switch {
	case err != nil:
		return false, pgmap.Fail(what, err)
	case !schema:
		return false, nil
	case foreign && !(table && ownsTables(ctx, db)):
		return false, fmt.Errorf("%w: the schema oubli_adopt, or a table or domain in it, belongs to a role that is neither yours nor a superuser nor the owner of the database: it may hold anybody's SQL; work as that role, or look at it, and give it to the right owner or drop it", keystore.ErrInvalid)
	case !table:
		return false, fmt.Errorf("%w: there is a schema oubli_adopt that oubli did not make, or of which parts are missing: restore or rename it", keystore.ErrInvalid)
	}
	var version int
	if err := db.QueryRow(ctx, `SELECT max(version) FROM oubli_adopt.version`).Scan(&version); err != nil {
		return false, pgmap.Fail(what, err)
	}
	if version != stateVersion {
		return false, fmt.Errorf("%w: schema oubli_adopt is of version %d, and this oubli knows version %d: use a newer oubli", keystore.ErrUnavailable, version, stateVersion)
	}
	return true, nil
}

// ownsTables tells whether the bookkeeping belongs to whom the tables that it names belong
// to, who adopted them: a superuser may go on with that.
func ownsTables(ctx context.Context, db pgmap.DB) bool {
	var owns bool
	err := db.QueryRow(ctx, `
SELECT COALESCE(pg_catalog.bool_and(pg_catalog.pg_has_role(n.nspowner, k.relowner, 'USAGE') AND NOT EXISTS (
	SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid AND c.relowner <> n.nspowner UNION ALL
	SELECT FROM pg_catalog.pg_type y WHERE y.typnamespace = n.oid AND y.typowner <> n.nspowner)), false)
FROM oubli_adopt.tables r
JOIN pg_catalog.pg_class k ON k.oid = pg_catalog.to_regclass(r.relation)
JOIN pg_catalog.pg_namespace n ON n.nspname = 'oubli_adopt'`).Scan(&owns)
	return err == nil && owns
}

// ErrPhase: the adoption of the table is not, or no longer, where the caller thought it to
// be; another command changed it.
var ErrPhase = errors.New("the adoption of the table is in another phase")

// SaveCursor keeps how far a run has come, in the transaction of the rows that it has done.
// It fails with ErrPhase, and that transaction must be rolled back, if the table is no
// longer in the phase that the run works in.
func SaveCursor(ctx context.Context, db pgmap.DB, table string, in Phase, cursor []string, done int64) error {
	return change(ctx, db, table, `UPDATE oubli_adopt.tables SET cursor = $3, done = $4 WHERE name = $1 AND phase = $2`, in, cursor, done)
}

// CheckPhase fails with ErrPhase, and the transaction must be rolled back, if a table is in
// none of the phases. Asked after rows of the table were written, it holds until that
// transaction ends: whoever opens what is sealed locks the table before.
func CheckPhase(ctx context.Context, db pgmap.DB, table string, in ...Phase) error {
	var phase Phase
	err := db.QueryRow(ctx, `SELECT phase FROM oubli_adopt.tables WHERE name = $1`, table).Scan(&phase)
	if err == nil && slices.Contains(in, phase) {
		return nil
	}
	failed := pgmap.Fail(fmt.Sprintf("look at the phase of table %q", table), err)
	if err == nil || errors.Is(err, pgx.ErrNoRows) || undone(failed) {
		return otherPhase(table, in[0])
	}
	return failed
}

// SetPhase moves a table from one phase to another; its cursor starts anew. It fails with
// ErrPhase if the table is in neither.
func SetPhase(ctx context.Context, db pgmap.DB, table string, from, to Phase) error {
	return change(ctx, db, table, `UPDATE oubli_adopt.tables SET phase = $3, cursor = NULL, done = 0,
	adopted = CASE WHEN $3 = 'adopted' THEN pg_catalog.clock_timestamp() ELSE adopted END
WHERE name = $1 AND phase IN ($2, $3)`, from, string(to))
}

// change runs an update of one record, whose first parameters are name and phase.
func change(ctx context.Context, db pgmap.DB, table, sql string, in Phase, args ...any) error {
	tag, err := db.Exec(ctx, sql, append([]any{table, string(in)}, args...)...)
	err = pgmap.Fail(fmt.Sprintf("note the progress of table %q", table), err)
	if err == nil && tag.RowsAffected() != 1 || undone(err) {
		return otherPhase(table, in)
	}
	return err
}

func otherPhase(table string, in Phase) error {
	return fmt.Errorf("table %q: %w: it is not %q any more; look at it with: oubli adopt plan", table, ErrPhase, in)
}

// undone tells whether a statement failed because the last adoption was undone, and the
// bookkeeping is gone.
func undone(err error) bool {
	var pg *pgmap.Error
	return errors.As(err, &pg) && (pg.Code() == "42P01" || pg.Code() == "3F000")
}

// prepareState makes the bookkeeping if there is none, in a transaction.
func prepareState(ctx context.Context, tx pgx.Tx) error {
	// Two that are first at once would fail on each other.
	if _, err := tx.Exec(ctx, `SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('oubli_adopt', 0))`); err != nil {
		return pgmap.Fail("make the bookkeeping of adoptions", err)
	}
	there, err := checkState(ctx, tx)
	if err != nil || there {
		return err
	}
	domains := []string{
		"CREATE DOMAIN " + sealedText + " AS pg_catalog.text CONSTRAINT only_sealed_values CHECK (" + pgmap.LooksSealed("VALUE") + ")",
		"CREATE DOMAIN " + sealedBytes + " AS pg_catalog.bytea CONSTRAINT only_sealed_values CHECK (" + pgmap.LooksSealedBytes("VALUE") + ")",
	}
	for _, sql := range append(strings.Split(strings.TrimSuffix(strings.TrimSpace(createState), ";"), ";\n"), domains...) {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return pgmap.Fail("make the bookkeeping of adoptions (schema oubli_adopt)", err)
		}
	}
	return nil
}

// The domains of enforced columns: envelopes, blanks and NULL.
const (
	sealedText  = "oubli_adopt.sealed_text"
	sealedBytes = "oubli_adopt.sealed_bytes"
)

// insertRecord makes the record of a table that is widened in this transaction.
func insertRecord(ctx context.Context, tx pgx.Tx, t *pgmap.Table, s Saved) error {
	_, err := tx.Exec(ctx, `INSERT INTO oubli_adopt.tables (name, relation, phase) VALUES ($1, $2, 'widened')`, t.Map.Table, t.Quoted)
	if err == nil {
		_, err = tx.Exec(ctx, `INSERT INTO oubli_adopt.saved VALUES ($1, $2::pg_catalog.jsonb)`, t.Map.Table, s.json())
	}
	return pgmap.Fail(fmt.Sprintf("note the definitions of table %q", t.Map.Table), err)
}

// updateSaved keeps what a record saved.
func updateSaved(ctx context.Context, tx pgx.Tx, table string, s Saved) error {
	_, err := tx.Exec(ctx, `UPDATE oubli_adopt.saved SET saved = $2::pg_catalog.jsonb WHERE name = $1`, table, s.json())
	return pgmap.Fail(fmt.Sprintf("note the definitions of table %q", table), err)
}

// lockRecord returns the record of a table and keeps it as it is until tx ends; nil if
// there is none.
func lockRecord(ctx context.Context, tx pgx.Tx, t *pgmap.Table) (*Record, error) {
	there, err := checkState(ctx, tx)
	if err != nil || !there {
		return nil, err
	}
	rows, err := tx.Query(ctx, records+" WHERE t.name = $1 FOR UPDATE OF t", t.Map.Table)
	if err == nil {
		var r *Record
		if r, err = pgx.CollectExactlyOneRow(rows, scanRecord); err == nil {
			return r, r.check(t)
		}
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return nil, pgmap.Fail(fmt.Sprintf("read the record of table %q", t.Map.Table), err)
}

// dropRecord forgets a table, and with the last one the bookkeeping.
func dropRecord(ctx context.Context, tx pgx.Tx, table string) error {
	what := fmt.Sprintf("forget the adoption of table %q", table)
	if _, err := tx.Exec(ctx, `DELETE FROM oubli_adopt.tables WHERE name = $1`, table); err != nil {
		return pgmap.Fail(what, err)
	}
	var more bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM oubli_adopt.tables)`).Scan(&more); err != nil || more {
		return pgmap.Fail(what, err)
	}
	// Where somebody made something else of the domains, or put it into the schema, an
	// empty bookkeeping stays.
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		return run(ctx, tx, what, `DROP TABLE oubli_adopt.saved, oubli_adopt.tables, oubli_adopt.version`,
			`DROP DOMAIN `+sealedText+`, `+sealedBytes, `DROP SCHEMA oubli_adopt`)
	})
	var pg *pgmap.Error
	if errors.As(err, &pg) && pg.Code() == "2BP01" {
		return nil
	}
	return err
}
