package pgadopt_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
)

// TestPlanOfASchemaThatFightsBack looks at it while somebody holds locks on all tables
// that let nobody but readers pass, and finds everything as it was.
func TestPlanOfASchemaThatFightsBack(t *testing.T) {
	pgtest.EachVersion(t, func(t *testing.T, version int) {
		server := pgtest.Start(t, &pgtest.Options{Version: version})
		w := newDDLWorld(t, server, readTestdata(t, "fights-back.sql"), readTestdata(t, "fights-back.yaml"))
		ctx := context.Background()
		var tables string
		require.NoError(t, w.pool.QueryRow(ctx, `SELECT string_agg(oid::regclass::text, ', ') FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = '"Shop"'::regnamespace`).Scan(&tables))
		holder, err := w.pool.Begin(ctx)
		require.NoError(t, err)
		defer holder.Rollback(ctx)
		_, err = holder.Exec(ctx, "LOCK TABLE "+tables+" IN EXCLUSIVE MODE")
		require.NoError(t, err)
		before := w.definitions()

		p := planWith(t, w.pool, readTestdata(t, "fights-back.yaml"))
		require.Empty(t, p.Blocked())
		var rows []string
		for _, table := range p.Tables {
			rows = append(rows, fmt.Sprintf("%s %d", table.Table, table.Rows))
			require.Positive(t, table.Bytes)
			require.Greater(t, table.Sealed, table.Bytes)
			require.Positive(t, table.Seconds.Enforce)
		}
		require.Equal(t, []string{"customers 5", "members 2", "events 4", "order_lines 3", "devices 3"}, rows)
		require.Equal(t, []string{
			"customers.FirstName default", `customers.Nick"name default`, "customers.phone", "customers.gender", "customers.born", "customers.lastSeen default", "customers.lastSeen",
			"customers.profile default", "customers.profile", "customers.score", `customers.born constraint "Customer_born_check"`, `customers.E-Mail constraint "E-Mail has an @"`,
			`customers.FirstName, Nick"name constraint "name or nick"`, `customers.born index "Customer born"`, `customers.born view "Shop"."Customer names"`, `customers. view "Shop".name_counts`,
			"events.ip", "events.ip index event_ip",
		}, brief(p, changes))
		for _, unmapped := range []string{`. table "Shop"."ticket"`, `. table "Shop"."member_audit"`} {
			require.Contains(t, brief(p, pgadopt.Unmapped), unmapped)
		}
		refused := planWith(t, w.pool, readTestdata(t, "refused.yaml"))
		require.Equal(t, []string{
			"newsletter.", "newsletter.customer_id",
			"contacts. rule no_lost_phone", "contacts.name materialized view \"Shop\".contact_names", "contacts.email generated column domain", `contacts.phone rule no_lost_phone on "Shop".contact`,
			"accounts.email", "accounts.email constraint account_pkey", "accounts.backup_email constraint login_email_fkey",
			"logins.email constraint login_email_fkey",
			"visitors.city", "visitors.city",
			"patients.name", "patients.born trigger watch_born", "patients. trigger watch_name", "patients.born",
			"guests.emails", "guests.stay", "guests.home", "guests.room constraint guest_room_excl", `guests.room policy own_room on table "Shop".guest`, "guests.remarks index guest_remarks",
			"leads.person", "leads.person", "leads.person",
			`persons. child "Shop"."student"`,
		}, brief(refused, blocks))
		requireFinding(t, refused, pgadopt.Unmapped, `. table "Shop"."ticket"`, "documents with the key email, the key lastName")

		proposals, err := pgadopt.Propose(ctx, w.pool)
		require.NoError(t, err)
		var proposed bytes.Buffer
		require.NoError(t, datamap.Write(&proposed, proposals))
		_, err = datamap.Parse("proposed", proposed.Bytes())
		require.NoError(t, err)

		require.Equal(t, before, w.definitions())
		require.NoError(t, holder.Rollback(ctx))
		requireNoValues(t, w, texts(t, p)+texts(t, refused)+proposed.String())
	})
}

// requireNoValues searches a text for every value that is in the database.
func requireNoValues(t *testing.T, w *ddlWorld, text string) {
	t.Helper()
	ctx := context.Background()
	rows, err := w.pool.Query(ctx, `SELECT format('SELECT DISTINCT %I::text FROM %s WHERE length(%1$I::text) > 3', a.attname, c.oid::regclass)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relkind = 'r' AND c.relnamespace = '"Shop"'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped`)
	require.NoError(t, err)
	queries, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	n := 0
	for _, sql := range queries {
		rows, err := w.pool.Query(ctx, sql)
		require.NoError(t, err)
		values, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		for _, v := range values {
			if v == "unknown" || v == "City" || v == "infinity" || v == "oubli1." || len(v) < 8 && strings.Trim(v, "0123456789.") == "" {
				continue // words and numbers of the plan itself
			}
			n++
			require.False(t, strings.Contains(text, v), "a value of %s", sql)
		}
	}
	require.Greater(t, n, 80)
}

// TestWhatIsPutBackIsNotRefused: what widening and undoing can do, the plan lets pass.
func TestWhatIsPutBackIsNotRefused(t *testing.T) {
	w := newPlanWorld(t, pgtest.Shared(t), readTestdata(t, "definitions.sql"))
	require.Empty(t, w.plan(readTestdata(t, "definitions.yaml")).Blocked())
}

func TestPlanInEachPhase(t *testing.T) {
	ctx := context.Background()
	yaml := `tables: {t: {subject: person=id, personal: [name: {replace: x}, born]}, u: {subject: person=id, personal: [name]}}`
	w := newDDLWorld(t, pgtest.Shared(t), `CREATE TABLE t (id int PRIMARY KEY, name varchar(10) NOT NULL DEFAULT 'x' CHECK (name <> ''), born date); INSERT INTO t VALUES (1, 'x', '2000-01-01');
CREATE TABLE u (id int PRIMARY KEY, name text)`, yaml)
	columns := []pgadopt.ColumnPlan{{Name: "name", Column: "name", From: "character varying(10)", To: "text", NotNull: true}, {Name: "born", Column: "born", From: "date", To: "text", Rewrite: true}}
	p := planWith(t, w.pool, yaml)
	require.Empty(t, p.Tables[0].Phase)
	require.Equal(t, columns, p.Tables[0].Columns)
	require.Positive(t, p.Tables[0].Seconds.Widen)

	w.widen()
	p = planWith(t, w.pool, yaml)
	require.Equal(t, pgadopt.PhaseWidened, p.Tables[0].Phase)
	columns[1].Rewrite = false
	require.Equal(t, columns, p.Tables[0].Columns)
	require.Equal(t, []string{"t.name default"}, brief(p, changes), "the rest has changed already")
	require.Empty(t, p.Blocked())
	require.Zero(t, p.Tables[0].Seconds.Widen)
	require.Contains(t, texts(t, p), "widened, and being sealed")

	other := planWith(t, w.pool, `tables: {t: {subject: person=id, personal: [name: {replace: x}]}}`)
	requireFinding(t, other, blocks, "t.", "was adopted with another data map")
	requireFinding(t, other, note, `. table "public"."u"`, "not in the map")
	renamed := planWith(t, w.pool, `tables: {v: {db: u, subject: person=id, personal: [name]}}`)
	requireFinding(t, renamed, blocks, "v.", "was adopted under the name u")

	w.exec("DELETE FROM t")
	w.enforce()
	p = planWith(t, w.pool, yaml)
	require.Equal(t, pgadopt.PhaseEnforced, p.Tables[0].Phase)
	require.Empty(t, p.Blocked())
	require.Empty(t, brief(p, changes))
	require.Zero(t, p.Tables[0].Seconds.Enforce)

	for _, table := range w.tables() {
		require.NoError(t, pgadopt.Reopen(ctx, w.pool, table))
	}
	requireFinding(t, planWith(t, w.pool, yaml), blocks, "t.", "is being undone")
}

func TestWidenRefusesWhatThePlanBlocks(t *testing.T) {
	w := newDDLWorld(t, pgtest.Shared(t), `CREATE TABLE t (id int, name text)`, `tables: {t: {subject: person=id, personal: [name]}}`)
	p := planWith(t, w.pool, `tables: {t: {subject: person=id, personal: [name]}}`)
	err := pgadopt.Widen(context.Background(), w.pool, w.tables()[0], p)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, "no primary key")
	require.Empty(t, w.phases())
}

func TestWhatIsNotThereIsReportedTogether(t *testing.T) {
	w := newPlanWorld(t, pgtest.Shared(t), "CREATE TABLE t (id int PRIMARY KEY, name text)")
	m, err := datamap.Parse("map.yaml", []byte("tables: {t: {subject: person=id, personal: [nam]}, u: {subject: person=id, personal: [name]}}"))
	require.NoError(t, err)
	_, err = pgadopt.MakePlan(context.Background(), w.pool, m)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, "nam")
	require.ErrorContains(t, err, `"u"`)
}

func TestWhatIsNotInTheMap(t *testing.T) {
	w := newPlanWorld(t, pgtest.Shared(t), `
CREATE TABLE customers (id int PRIMARY KEY, first_name text, last_name text, email text, phone text, created timestamp);
CREATE TABLE customers_old AS TABLE customers;
CREATE MATERIALIZED VIEW phones AS SELECT id, phone FROM customers;
CREATE TABLE countries (code text PRIMARY KEY, name text, description text);
CREATE TABLE payments (id int PRIMARY KEY, data jsonb, a text, b text);
INSERT INTO payments SELECT i, '{"payer": {"lastName": "A", "x": ["a@example.org"]}, "n": 1}', 'DE89370400440532013000', '192.0.2.' || i FROM generate_series(1, 9) i`)
	p := w.plan(`tables: {customers: {subject: customer=id, personal: [first_name, last_name, email]}}`)
	require.Equal(t, []string{"customers.phone", `. table "public"."customers_old"`, `. table "public"."payments"`, `. materialized view "public"."phones"`}, brief(p, pgadopt.Unmapped))
	requireFinding(t, p, pgadopt.Unmapped, `. table "public"."customers_old"`, "looks like a copy of customers: it has its columns first_name, last_name, email")
	requireFinding(t, p, pgadopt.Unmapped, `. table "public"."payments"`, "data (documents with the key lastName, values that look like e-mail addresses); a (bank accounts, by their values); b (IP addresses, by their values)")
}

// TestNobodyHijacksThePlan: functions and operators of the database's users do not stand
// in for those of PostgreSQL, whatever the search path of the session.
func TestNobodyHijacksThePlan(t *testing.T) {
	w := newPlanWorld(t, pgtest.Shared(t), `
CREATE TABLE t (id int PRIMARY KEY, name date, note text); INSERT INTO t VALUES (1, '2000-01-01', 'x');
CREATE INDEX ON t (lower(note)); CREATE VIEW v AS SELECT name FROM t;
CREATE FUNCTION pg_get_expr(pg_node_tree, oid) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION quote_ident(name) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION octet_length(text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION same(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = same)`)
	pool := connectTo(t, w.dsn+"&search_path=public,pg_catalog")
	m, err := datamap.Parse("map.yaml", []byte("tables: {t: {subject: person=id, personal: [name, note]}}"))
	require.NoError(t, err)
	p, err := pgadopt.MakePlan(context.Background(), pool, m)
	require.NoError(t, err)
	require.Empty(t, p.Blocked())
	_, err = pgadopt.Propose(context.Background(), pool)
	require.NoError(t, err)
}

// TestAPlanIsWrittenForPeople shows what a plan looks like.
func TestAPlanIsWrittenForPeople(t *testing.T) {
	p := &pgadopt.Plan{
		Tables: []pgadopt.TablePlan{{
			Table: "customers", Relation: `"Shop"."Customer"`, Kind: "customer", Rows: 1_200_000, Bytes: 300 << 20, IndexBytes: 90 << 20, Sealed: 700 << 20,
			Columns: []pgadopt.ColumnPlan{
				{Name: "email", Column: "E-Mail", From: "character varying(60)", To: "text"},
				{Name: "born", Column: "born", From: "date", To: "text", Rewrite: true},
				{Name: "photo", Column: "photo", From: "bytea", To: "bytea"},
			},
			Seconds: pgadopt.Seconds{Read: 4, Widen: 12, Backfill: 150, Enforce: 8000},
		}},
		Findings: []pgadopt.Finding{
			{Level: note, Object: "archive_mode", What: "WAL is archived", Do: "let it expire"},
			{Level: note, Table: "customers", Column: "E-Mail", Object: "index by_mail", What: "finds nothing any more", Do: "drop it"},
			{Level: blocks, Table: "customers", What: "has no primary key", Do: "add one"},
			{Level: pgadopt.Unmapped, Table: "customers", Column: "phone", What: "telephone numbers, by name", Do: "map it"},
		},
	}
	var b bytes.Buffer
	require.NoError(t, p.Write(&b))
	require.Equal(t, `customers: "Shop"."Customer"
----------------------------
  not adopted yet; 1200000 rows, 300 MB and 90 MB of indexes; rows belong to subjects of kind
  customer

  E-Mail  character varying(60)  text, called email
  born    date                   text, rewriting the table
  photo   bytea                  stays bytea

  A value of n bytes becomes 51 + 4n/3 characters of text, or n + 33 bytes of bytea; a column that
  had a limit has none until undo.
  widening rewrites the table under an exclusive lock, about 12 s; run about 2 min; enforce rewrites
  the table under an exclusive lock, about 2 h
  enforce needs about 790 MB of free disk, and as much WAL

  blocks
  * has no primary key
    -> add one

  to know
  * E-Mail, index by_mail: finds nothing any more
    -> drop it

The database as a whole
-----------------------

  to know
  * archive_mode: WAL is archived
    -> let it expire

Looks personal, and is not in the map
-------------------------------------
  * customers.phone: telephone numbers, by name
    -> map it

Summary
-------
`, b.String()[:strings.Index(b.String(), "  1 finding")])
}
