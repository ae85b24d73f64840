package pgadopt_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore/keystoretest"
)

const guarded = `
CREATE TABLE person (id int PRIMARY KEY, mail varchar(50), photo bytea);
CREATE TABLE visit (id int, at int, agent text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM (0) TO (10);
INSERT INTO person VALUES (1, 'ada@example.org', '\x01'), (2, NULL, NULL);
INSERT INTO visit VALUES (1, 1, 'lynx')`

const guardedMap = `
tables:
  person: {subject: person=id, personal: [mail, photo]}
  visit: {subject: person=id, personal: [agent]}`

func TestEnforcedColumnsRefusePlaintext(t *testing.T) {
	const secret = "topsecret.person"
	pgtest.EachVersion(t, func(t *testing.T, version int) {
		ctx := context.Background()
		server := quickServer(t, version)
		w := newDDLWorld(t, server, guarded, guardedMap)
		w.widen()
		w.seal(keystoretest.New(t))
		require.Empty(t, w.enforce().Left)
		sealed, definitions := w.contents(), w.definitions()
		require.Len(t, sealed[0].photo, 34)

		refused := func(err error) string {
			t.Helper()
			var pg *pgconn.PgError
			require.True(t, errors.As(err, &pg), "%v", err)
			require.Equal(t, "23514", pg.Code)
			require.Contains(t, pg.Message, "oubli_adopt.sealed_")
			return fmt.Sprintf("%+v", *pg)
		}
		conn, err := pgx.Connect(ctx, w.dsn)
		require.NoError(t, err)
		defer conn.Close(ctx)
		_, err = conn.Prepare(ctx, "prepared", `UPDATE person SET mail = $1 WHERE id = 1`)
		require.NoError(t, err)
		// As an ORM does that is given a map.
		update := map[string]any{"mail": secret, "photo": []byte(secret)}
		var set []string
		var args []any
		for i, name := range slices.Sorted(maps.Keys(update)) {
			set, args = append(set, fmt.Sprintf("%q = $%d", name, i+1)), append(args, update[name])
		}
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec} {
			for _, q := range []struct {
				sql  string
				args []any
			}{
				{`INSERT INTO person (id, mail) VALUES (3, $1)`, []any{secret}},
				{`INSERT INTO person (id, photo) VALUES (3, $1)`, []any{[]byte(secret)}},
				{`INSERT INTO visit VALUES (3, 3, $1)`, []any{secret}},
				{`INSERT INTO visit_1 VALUES (3, 3, $1)`, []any{secret}},
				{`UPDATE person SET mail = $1`, []any{secret}},
				{`UPDATE person SET ` + strings.Join(set, ", ") + ` WHERE id = 1`, args},
				{`INSERT INTO person (id, mail) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET mail = EXCLUDED.mail`, []any{secret}},
				{`UPDATE person SET mail = lower($1)`, []any{secret}},
				{`UPDATE person SET mail = $1`, []any{""}},
				{`UPDATE person SET photo = $1`, []any{[]byte{}}},
				{`UPDATE person SET mail = $1`, []any{"oubli1." + secret}},
				{`UPDATE person SET mail = $1`, []any{"oubli1.~" + secret}},
				{`UPDATE person SET mail = $1`, []any{secret + strings.Repeat("oubli1.", 20)}},
				{`UPDATE person SET mail = $1`, []any{"\noubli1." + strings.Repeat("A", 44) + "\n" + secret}},
			} {
				_, err := conn.Exec(ctx, q.sql, append([]any{mode}, q.args...)...)
				require.NotContains(t, refused(err), secret)
			}
		}
		_, err = conn.Exec(ctx, "prepared", secret)
		require.NotContains(t, refused(err), secret)
		_, err = conn.CopyFrom(ctx, pgx.Identifier{"person"}, []string{"id", "mail"}, pgx.CopyFromRows([][]any{{3, secret}}))
		require.NotContains(t, refused(err), secret)
		require.NotContains(t, w.log(), secret, "the server's log")

		// What cannot be helped: PostgreSQL logs a statement that fails, with its literals,
		// and quotes what it cannot take from COPY. The report says so.
		_, err = conn.Exec(ctx, `UPDATE person SET mail = '`+secret+`.1'`)
		require.NotContains(t, refused(err), secret)
		_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader("3\t"+secret+".2\n"), `COPY person (id, mail) FROM STDIN`)
		require.Contains(t, refused(err), secret+".2")
		require.Contains(t, w.log(), "STATEMENT:  UPDATE person SET mail = '"+secret)
		require.Contains(t, w.log(), `CONTEXT:  COPY person, line 1, column mail: "`+secret)
		w.exec(`ALTER SYSTEM SET log_error_verbosity = terse; `)
		w.exec(`ALTER SYSTEM SET log_min_error_statement = panic`)
		w.exec(`SELECT pg_reload_conf()`)
		tries := 0
		quiet := func() bool {
			tries++
			before := strings.Count(w.log(), secret)
			_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader("3\t"+secret+"\n"), `COPY person (id, mail) FROM STDIN`)
			_ = refused(err)
			_, err = conn.Exec(ctx, `UPDATE person SET mail = '`+secret+`'`)
			_ = refused(err)
			return before == strings.Count(w.log(), secret)
		}
		for !quiet() { // until the session has read its settings
			require.Less(t, tries, 1000)
		}

		// What may stand there.
		require.Equal(t, sealed, w.contents())
		require.Equal(t, definitions, w.definitions())
		for _, sql := range []string{
			`UPDATE person SET mail = NULL, photo = NULL WHERE id = 1`,
			`UPDATE person SET mail = 'oubli1~AAAAAAAAAAAA~1990', photo = 'oubli1~AAAAAAAAAAAA~' WHERE id = 1`,
			`UPDATE person SET mail = 'oubli1~AAAAAAAAAAAA~two` + "\n" + `lines' WHERE id = 1`,
			`INSERT INTO person VALUES (4)`,
			`CREATE TABLE visit_2 PARTITION OF visit FOR VALUES FROM (10) TO (20)`,
		} {
			w.exec(sql)
		}
		_, err = conn.Exec(ctx, `INSERT INTO visit VALUES (1, 11, $1)`, secret)
		require.NotContains(t, refused(err), secret)
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
			_, err := conn.Exec(ctx, `UPDATE person SET mail = $1, photo = $2 WHERE id = 1`, mode, sealed[0].mail, sealed[0].photo)
			require.NoError(t, err)
		}
		require.Equal(t, append(sealed, stored{}), w.contents())
	})
}

// stored is what stands in the personal columns of the table person.
type stored struct {
	mail  string
	photo []byte
}

func (w *ddlWorld) contents() []stored {
	w.t.Helper()
	rows, err := w.pool.Query(context.Background(), `SELECT COALESCE(mail, ''), photo FROM person ORDER BY id`)
	require.NoError(w.t, err)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s stored, err error) {
		err = row.Scan(&s.mail, &s.photo)
		return s, err
	})
	require.NoError(w.t, err)
	return all
}

// log is what the server wrote.
func (w *ddlWorld) log() string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(filepath.Dir(w.server.Dir()), "log"))
	require.NoError(w.t, err)
	require.NotEmpty(w.t, b)
	return string(b)
}
