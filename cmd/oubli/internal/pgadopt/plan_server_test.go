package pgadopt_test

import (
	"context"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/internal/pgtest"
)

const planT = "tables: {t: {subject: person=id, personal: [name]}}"

func TestWhatTheUserMayNot(t *testing.T) {
	w := newPlanWorld(t, pgtest.Shared(t), `
CREATE ROLE weak LOGIN; CREATE ROLE owner LOGIN;
CREATE TABLE t (id int PRIMARY KEY, name text); CREATE TABLE u (id int PRIMARY KEY, name text); CREATE VIEW v AS SELECT name FROM u;
ALTER TABLE u OWNER TO weak; ALTER TABLE u ENABLE ROW LEVEL SECURITY; ALTER TABLE u FORCE ROW LEVEL SECURITY`)
	t.Cleanup(func() { w.exec("DROP OWNED BY weak, owner; DROP ROLE weak, owner") })
	weak := connectTo(t, w.dsn+"&user=weak")
	yaml := "tables: {t: {subject: person=id, personal: [name]}, u: {subject: person=id, personal: [name]}}"
	p := planWith(t, weak, yaml)
	requireFinding(t, p, blocks, ".", "may not create the schema oubli_adopt")
	requireFinding(t, p, blocks, "t.", `"public"."t" belongs to postgres`)
	requireFinding(t, p, blocks, "t.", "may not SELECT and UPDATE")
	requireFinding(t, p, blocks, "u.", "row-level security hides rows")
	requireFinding(t, p, blocks, "u.name view public.v", "belongs to somebody else")
	requireFinding(t, p, note, ".", "neither a superuser nor the owner of the database")
	require.Len(t, p.BlockedFor("u"), 3)

	w.exec("ALTER VIEW v OWNER TO weak; CREATE SCHEMA oubli_adopt AUTHORIZATION owner; GRANT SELECT ON t TO weak; REVOKE CREATE ON SCHEMA public FROM PUBLIC; DROP SCHEMA oubli_adopt")
	p = planWith(t, weak, yaml)
	requireFinding(t, p, blocks, "t.", "may not SELECT and UPDATE")
	requireFinding(t, p, blocks, "u.name view public.v", "may not create in its schema")

	w.exec("ALTER ROLE weak SET default_transaction_read_only = on")
	p = planWith(t, connectTo(t, w.dsn+"&user=weak"), yaml)
	requireFinding(t, p, blocks, ". default_transaction_read_only", "is on")
	w.exec("ALTER ROLE postgres SET session_replication_role = replica")
	defer w.exec("ALTER ROLE postgres RESET session_replication_role")
	p = planWith(t, connectTo(t, w.dsn), yaml)
	requireFinding(t, p, note, ". session_replication_role", "is replica")
}

// TestWhatTheServerKeeps is about its logs, its replicas and its transactions.
func TestWhatTheServerKeeps(t *testing.T) {
	server := pgtest.Start(t, &pgtest.Options{Archive: true, Settings: map[string]string{
		"wal_level": "logical", "max_prepared_transactions": "2", "log_statement": "mod", "log_min_duration_statement": "0", "log_min_duration_sample": "5",
		"log_transaction_sample_rate": "0.5", "log_parameter_max_length_on_error": "-1", "shared_preload_libraries": "auto_explain", "auto_explain.log_min_duration": "0",
	}})
	w := newPlanWorld(t, server, `
CREATE TABLE t (id int PRIMARY KEY, name text);
CREATE TABLE bare (id int NOT NULL, name text); CREATE UNIQUE INDEX ON bare (id);
CREATE PUBLICATION all_of_it FOR TABLE t, bare`,
		`CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$`,
		`CREATE EVENT TRIGGER watching ON ddl_command_start EXECUTE FUNCTION watch()`,
		`SELECT pg_create_logical_replication_slot('reader', 'pgoutput')`)
	defer w.exec(`SELECT pg_drop_replication_slot('reader')`)
	w.exec("BEGIN; SELECT FROM t; PREPARE TRANSACTION 'forgotten'")
	p := w.plan("tables: {t: {subject: person=id, personal: [name]}, bare: {subject: person=id, personal: [name]}}")
	w.exec("ROLLBACK PREPARED 'forgotten'")
	for about, what := range map[string]string{
		". log_statement = mod":                    "with the values in them",
		". log_min_duration_statement = 0":         "slow statements",
		". log_min_duration_sample = 5":            "some slow statements",
		". log_transaction_sample_rate = 0.5":      "of some transactions",
		". auto_explain.log_min_duration = 0":      "plans of slow statements",
		". log_parameter_max_length_on_error = -1": "statements that fail",
		". log_min_error_statement = error":        "parameters are not logged",
		". archive_mode":                           "every base backup",
		". event trigger watching":                 "ddl_command_start",
		".":                                        "logical replication slots: 1",
		"t. publication all_of_it":                 "subscribers get envelopes",
	} {
		requireFinding(t, p, note, about, what)
	}
	requireFinding(t, p, note, ".", "prepared transactions that are open, and keep their locks: 1")
	requireFinding(t, p, note, ".", "standbys: 0, replication slots: 1")
	requireFinding(t, p, note, ".", "cached plan must not change result type")
	requireFinding(t, p, blocks, "bare.", "published (all_of_it) without a replica identity")
	texts(t, p)

	// What the plan says is so.
	_, err := w.pool.Exec(context.Background(), "UPDATE bare SET name = 'x'")
	require.ErrorContains(t, err, "replica identity")

	w.exec("DROP PUBLICATION all_of_it; CREATE PUBLICATION narrow FOR TABLE t WHERE (id > 1), bare (id)")
	w.exec("DROP PUBLICATION narrow; ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION narrow FOR TABLE t WHERE (name <> 'x')")
	requireFinding(t, w.plan(planT), blocks, "t.name publication of table public.t in publication narrow", "so that its type cannot change")

	// A subscription writes plaintext.
	w.exec("CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)")
	w.exec(`INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) SELECT s.oid, 't'::regclass, 'r' FROM pg_subscription s`)
	requireFinding(t, w.plan(planT), blocks, "t.", "logical replication")
	w.exec("DELETE FROM pg_subscription_rel", "ALTER SUBSCRIPTION sub SET (slot_name = NONE)", "DROP SUBSCRIPTION sub")
}

func TestPlanCountsAndEstimates(t *testing.T) {
	w := newPlanWorld(t, pgtest.Shared(t), "CREATE TABLE t (id int PRIMARY KEY, name varchar(40)); INSERT INTO t SELECT i, 'name ' || i FROM generate_series(1, 50000) i; ANALYZE t")
	p := w.plan(planT)
	table := p.Tables[0]
	require.EqualValues(t, 50000, table.Rows)
	require.Greater(t, table.Sealed, table.Bytes+50000*50)
	require.Less(t, table.Sealed, table.Bytes+50000*60)
	require.Positive(t, table.Seconds.Read)
	require.InDelta(t, 6, table.Seconds.Backfill, 4)
	require.Positive(t, table.Seconds.Enforce)
	require.Equal(t, pgadopt.Phase(""), table.Phase)
	require.Contains(t, texts(t, p), "50000 rows")
}

func TestWhatBelongsToAnExtension(t *testing.T) {
	w := newPlanWorld(t, pgtest.Shared(t), "CREATE TABLE t (id int PRIMARY KEY, name text); CREATE VIEW v AS SELECT name FROM t; CREATE EXTENSION pg_stat_statements",
		"ALTER EXTENSION plpgsql ADD TABLE t", "ALTER EXTENSION plpgsql ADD VIEW v")
	p := w.plan(planT)
	requireFinding(t, p, note, "t. extension plpgsql", "pg_dump does not dump its definition")
	requireFinding(t, p, blocks, "t.name view public.v", "belongs to the extension plpgsql")
	requireFinding(t, p, note, ". pg_stat_statements", "keeps the text of statements")
}

func TestWhatIsNotForAdoption(t *testing.T) {
	w := newPlanWorld(t, pgtest.Shared(t), "CREATE SCHEMA oubli; CREATE TABLE oubli.t (id int PRIMARY KEY, name text)")
	requireFinding(t, w.plan("tables: {t: {db: oubli.t, subject: person=id, personal: [name]}}"), blocks, "t.", "or oubli's own")

	conn, err := w.pool.Acquire(context.Background())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(context.Background(), "CREATE TEMP TABLE u (id int PRIMARY KEY, name text)")
	require.NoError(t, err)
	m, err := datamap.Parse("map.yaml", []byte("tables: {u: {subject: person=id, personal: [name]}}"))
	require.NoError(t, err)
	p, err := pgadopt.MakePlan(context.Background(), conn, m)
	require.NoError(t, err)
	requireFinding(t, p, blocks, "u.", "temporary table")
}

func TestADatabaseWithoutAnEncoding(t *testing.T) {
	w := newPlanWorld(t, pgtest.Shared(t), "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	defer w.exec("DROP DATABASE ascii WITH (FORCE)")
	u, err := url.Parse(w.dsn)
	require.NoError(t, err)
	u.Path = "/ascii"
	pool := connectTo(t, u.String())
	_, err = pool.Exec(context.Background(), "CREATE TABLE t (id int PRIMARY KEY, name text)")
	require.NoError(t, err)
	requireFinding(t, planWith(t, pool, planT), note, ".", "SQL_ASCII")
}

// TestValuesThatDoNotComeBack: what undo could not give back is found before it is sealed.
func TestValuesThatDoNotComeBack(t *testing.T) {
	w := newPlanWorld(t, pgtest.Shared(t), `
CREATE TABLE t (id int PRIMARY KEY, name double precision, other pg_ndistinct);
CREATE TABLE u (a int, b int); INSERT INTO u SELECT i, i FROM generate_series(1, 9) i; CREATE STATISTICS s (ndistinct) ON a, b FROM u; ANALYZE u;
INSERT INTO t SELECT 1, 0.1234567890123, stxdndistinct FROM pg_statistic_ext_data; INSERT INTO t VALUES (2, 0.5), (3, NULL)`)
	yaml := "tables: {t: {subject: person=id, personal: [name, other]}}"
	requireFinding(t, planWith(t, w.pool, yaml), blocks, "t.other", "does not take values of the type pg_ndistinct back")
	require.Len(t, planWith(t, w.pool, yaml).Blocked(), 1)
	rough := connectTo(t, w.dsn+"&extra_float_digits=-8")
	requireFinding(t, planWith(t, rough, yaml), blocks, "t.name", "1 of the first 1000 values")
}

// TestATableThatIsLocked is proposed by its names: nobody is waited for.
func TestATableThatIsLocked(t *testing.T) {
	w := newPlanWorld(t, pgtest.Shared(t), "CREATE TABLE members (id int PRIMARY KEY, email text, a text); INSERT INTO members VALUES (1, 'a@example.org', 'a@example.org')")
	tx, err := w.pool.Begin(context.Background())
	require.NoError(t, err)
	defer tx.Rollback(context.Background())
	_, err = tx.Exec(context.Background(), "LOCK TABLE members")
	require.NoError(t, err)
	text := w.proposed()
	require.Contains(t, text, "- email ")
	require.NotContains(t, text, "- a ")
}
