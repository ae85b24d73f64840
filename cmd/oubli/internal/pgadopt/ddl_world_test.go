package pgadopt_test

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
)

// ddlWorld is a database whose definitions are changed and put back.
type ddlWorld struct {
	t      testing.TB
	server *pgtest.Server
	dsn    string
	pool   *pgxpool.Pool
	data   *datamap.Map
}

func newDDLWorld(t testing.TB, server *pgtest.Server, sql, yaml string) *ddlWorld {
	t.Helper()
	w := &ddlWorld{t: t, server: server, dsn: server.Database(t)}
	w.pool = connectTo(t, w.dsn)
	w.exec(sql)
	var err error
	w.data, err = datamap.Parse("map.yaml", []byte(yaml))
	require.NoError(t, err)
	return w
}

// quickServer starts a server for what a loss of power has no part in.
func quickServer(t testing.TB, version int) *pgtest.Server {
	t.Helper()
	return pgtest.Start(t, &pgtest.Options{Version: version, Settings: map[string]string{"fsync": "off"}})
}

func connectTo(t testing.TB, dsn string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgmap.Connect(context.Background(), dsn)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func readTestdata(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	return string(b)
}

func (w *ddlWorld) exec(sql string, args ...any) {
	w.t.Helper()
	mode := any(pgx.QueryExecModeExec)
	if len(args) == 0 {
		mode = pgx.QueryExecModeSimpleProtocol
	}
	_, err := w.pool.Exec(context.Background(), sql, append([]any{mode}, args...)...)
	require.NoError(w.t, err)
}

// tables loads the tables as they are now.
func (w *ddlWorld) tables() []*pgmap.Table {
	w.t.Helper()
	tables, err := pgmap.Load(context.Background(), w.pool, w.data)
	require.NoError(w.t, err)
	return tables
}

func (w *ddlWorld) widen() {
	w.t.Helper()
	for _, t := range w.tables() {
		require.NoError(w.t, pgadopt.Widen(context.Background(), w.pool, t, nil))
	}
}

// seal seals all plaintext.
func (w *ddlWorld) seal(keys *keystore.Store) {
	w.t.Helper()
	_, err := pgadopt.Run(context.Background(), pgadopt.Config{DB: w.pool, Keys: keys, Tables: w.tables()})
	require.NoError(w.t, err)
}

func (w *ddlWorld) enforce() pgadopt.Report {
	w.t.Helper()
	report, err := pgadopt.Enforce(context.Background(), w.pool, w.tables(), pgadopt.EnforceOptions{})
	require.NoError(w.t, err)
	return report
}

// putBack undoes the definitions of tables in which nothing is sealed.
func (w *ddlWorld) putBack() {
	w.t.Helper()
	ctx := context.Background()
	for _, t := range w.tables() {
		require.NoError(w.t, pgadopt.Reopen(ctx, w.pool, t))
	}
	for _, t := range w.tables() {
		require.NoError(w.t, pgadopt.RetryDDL(ctx, w.pool, t, "undo", func(ctx context.Context, tx pgx.Tx) error {
			if err := pgadopt.Lock(ctx, tx, t); err != nil {
				return err
			}
			return pgadopt.Restore(ctx, tx, t)
		}))
	}
}

func (w *ddlWorld) phases() map[string]pgadopt.Phase {
	w.t.Helper()
	records, err := pgadopt.Records(context.Background(), w.pool)
	require.NoError(w.t, err)
	phases := map[string]pgadopt.Phase{}
	for name, r := range records {
		phases[name] = r.Phase
	}
	return phases
}

// dump is what pg_dump prints, "" where the server comes without it.
func (w *ddlWorld) dump(args ...string) string {
	w.t.Helper()
	if _, err := os.Stat(w.server.Bin("pg_dump")); err != nil {
		return ""
	}
	out, err := exec.Command(w.server.Bin("pg_dump"), append(args, w.dsn)...).Output()
	require.NoError(w.t, err)
	// A random word of newer versions.
	return regexp.MustCompile(`(?m)^\\(un)?restrict .*$`).ReplaceAllString(string(out), "")
}

// definitions describes everything in the database's own schemas, in the words of the
// server itself.
func (w *ddlWorld) definitions() string {
	w.t.Helper()
	var all []string
	require.NoError(w.t, pgx.BeginFunc(context.Background(), w.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(context.Background(), "SET LOCAL search_path = pg_catalog"); err != nil {
			return err
		}
		for _, sql := range strings.Split(describe, ";\n") {
			rows, err := tx.Query(context.Background(), sql)
			if err != nil {
				return err
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return err
			}
			all = append(all, lines...)
		}
		return nil
	}))
	require.NotEmpty(w.t, all)
	return strings.Join(all, "\n")
}

const describe = `
SELECT 'relation ' || c.oid::regclass || ' ' || c.relkind::text || ' ' || c.relpersistence::text || ' ' || pg_get_userbyid(c.relowner) || ' acl ' || COALESCE(array(SELECT x::text FROM unnest(COALESCE(c.relacl, acldefault('r', c.relowner))) x ORDER BY 1)::text, '')
  || ' options ' || COALESCE(array_to_string(c.reloptions, ','), '') || ' space ' || c.reltablespace || ' replica ' || c.relreplident::text || ' view ' || COALESCE(CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END, '')
  || ' comment ' || COALESCE(obj_description(c.oid, 'pg_class'), '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema' ORDER BY 1;
SELECT 'column ' || a.attrelid::regclass || ' ' || a.attnum || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' not null ' || a.attnotnull || ' storage ' || a.attstorage::text || ' compression ' || a.attcompression::text
  || ' target ' || COALESCE(a.attstattarget::text, '-1') || ' options ' || COALESCE(array_to_string(a.attoptions, ','), '') || ' acl ' || COALESCE(a.attacl::text, '') || ' local ' || a.attislocal || ' ' || a.attinhcount
  || ' collation ' || a.attcollation || ' default ' || COALESCE(pg_get_expr(d.adbin, d.adrelid), '') || ' comment ' || COALESCE(col_description(a.attrelid, a.attnum), '')
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid::regclass::text, a.attnum;
SELECT 'index ' || pg_get_indexdef(i.indexrelid) || ' valid ' || i.indisvalid || ' cluster ' || i.indisclustered || ' replica ' || i.indisreplident || ' parent ' || COALESCE((SELECT h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = i.indexrelid), '')
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname NOT LIKE 'pg\_%' ORDER BY 1;
SELECT 'constraint ' || k.conrelid::regclass || ' ' || k.conname || ' ' || pg_get_constraintdef(k.oid) || ' valid ' || k.convalidated || ' local ' || k.conislocal || ' ' || k.coninhcount || ' comment ' || COALESCE(obj_description(k.oid, 'pg_constraint'), '')
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema' AND k.conrelid <> 0 ORDER BY 1;
SELECT 'statistics ' || pg_get_statisticsobjdef(s.oid) || ' owner ' || pg_get_userbyid(s.stxowner) || ' target ' || COALESCE(s.stxstattarget::text, '-1') || ' comment ' || COALESCE(obj_description(s.oid, 'pg_statistic_ext'), '') FROM pg_statistic_ext s ORDER BY 1;
SELECT 'trigger ' || pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text || ' comment ' || COALESCE(obj_description(t.oid, 'pg_trigger'), '') FROM pg_trigger t WHERE NOT t.tgisinternal ORDER BY 1;
SELECT 'rule ' || pg_get_ruledef(r.oid) FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema' ORDER BY 1;
SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%' ORDER BY 1`
