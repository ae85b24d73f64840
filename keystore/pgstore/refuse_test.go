package pgstore_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
)

func open(t *testing.T, dsn string, o *pgstore.Options) error {
	t.Helper()
	s, err := pgstore.Open(t.Context(), dsn, o)
	if err == nil {
		s.Close()
	}
	return err
}

// as returns dsn for another role, which it makes.
func as(t *testing.T, dsn, role string) string {
	t.Helper()
	exec(t, dsn, `do $$ begin create role `+role+` login; exception when duplicate_object then null; end $$`)
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.User = url.User(role)
	return u.String()
}

func TestNoPasswordIsTold(t *testing.T) {
	const secret = "pa55-w0rd"
	for _, dsn := range []string{
		"postgres://me:" + secret + "@127.0.0.1:1/db",
		"postgres://me:" + secret + "@127.0.0.1:notaport/db",
		"postgres://me:" + secret + "%zz@127.0.0.1/db",
		"postgres://me:" + secret + "#@127.0.0.1/db",
		"postgres://me:" + secret + "/@127.0.0.1/db",
		"host=127.0.0.1 port=1 user=me password=" + secret,
		"host=127.0.0.1 sslmode=never password=" + secret,
		"host=127.0.0.1 password=" + secret + " oops",
		secret,
		strings.Replace(pgtest.Shared(t).DSN(), "postgres@", "nobody:"+secret+"@", 1),
	} {
		for _, try := range []func() error{
			func() error { _, err := pgstore.Create(t.Context(), dsn, nil); return err },
			func() error { _, err := pgstore.Open(t.Context(), dsn, nil); return err },
			func() error { return pgstore.Upgrade(t.Context(), dsn, nil) },
		} {
			err := try()
			require.Error(t, err)
			for ; err != nil; err = errors.Unwrap(err) {
				require.NotContains(t, err.Error(), secret)
			}
		}
	}
	dsn := strings.Replace(pgtest.Shared(t).Database(t), "postgres@", "postgres:"+secret+"@", 1)
	s := create(t, dsn, &pgstore.Options{Schema: "a b"})
	require.Regexp(t, `^postgres://127.0.0.1:\d+/test_\d+\?schema=a\+b$`, s.Name())
}

func TestAServerThatIsDownIsNamedAtOnce(t *testing.T) {
	start := time.Now()
	err := open(t, "postgres://127.0.0.1:1/db", nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.NotErrorIs(t, err, keystore.ErrNotFound)
	require.ErrorContains(t, err, "postgres://127.0.0.1:1/db?schema=oubli")
	require.ErrorContains(t, err, "refused")
	require.Less(t, time.Since(start), 5*time.Second)

	err = open(t, pgtest.Via("postgres://postgres@x/nowhere?sslmode=disable", pgtest.Shared(t).DSN()), nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "is the database in the DSN right?")
}

func TestWhereThereIsNoKeystore(t *testing.T) {
	dsn := pgtest.Shared(t).Database(t)
	for range 2 {
		err := open(t, dsn, nil)
		require.ErrorIs(t, err, keystore.ErrNotFound)
		require.ErrorContains(t, err, "oubli init")
		require.ErrorIs(t, pgstore.Upgrade(t.Context(), dsn, nil), keystore.ErrNotFound)
		exec(t, dsn, "create schema if not exists oubli")
	}
	create(t, dsn, nil).Close() // in the schema that is there
	create(t, dsn, nil).Close() // it is empty
	require.NoError(t, open(t, dsn, nil))
}

func TestTablesOfOthersStayAsTheyAre(t *testing.T) {
	for name, make := range map[string]string{
		"records":       "create table oubli.records (artist text, title text)",
		"oubli_version": "create table oubli.oubli_version (version text)",
	} {
		for _, kind := range []string{"table", "view"} {
			dsn := pgtest.Shared(t).Database(t)
			if kind == "view" {
				make = "create view oubli." + name + " as select 1::bigint rev, 1::smallint page, ''::bytea as key, ''::bytea as value"
			}
			exec(t, dsn, "create schema oubli", make)
			_, err := pgstore.Create(t.Context(), dsn, nil)
			require.ErrorIs(t, err, keystore.ErrExists)
			require.ErrorContains(t, err, "oubli."+name)
			for _, err := range []error{open(t, dsn, nil), pgstore.Upgrade(t.Context(), dsn, nil)} {
				require.ErrorIs(t, err, keystore.ErrUnavailable)
				require.ErrorContains(t, err, "oubli."+name)
			}
			n := 0
			require.NoError(t, connect(t, dsn).QueryRow(t.Context(), "select count(*) from information_schema.tables where table_schema = 'oubli'").Scan(&n))
			require.Equal(t, 1, n)
		}
	}
}

func TestOtherVersionsOfTheSchema(t *testing.T) {
	ctx := t.Context()
	dsn := pgtest.Shared(t).Database(t)
	s := create(t, dsn, nil)
	_, err := s.Commit(ctx, []keystore.Group{{put("a", 0, 1, "A")}})
	require.NoError(t, err)
	require.NoError(t, pgstore.Upgrade(ctx, dsn, nil), "nothing to do")

	// A newer oubli takes over.
	require.Error(t, pgstore.UpgradeTo(ctx, dsn, nil, "alter table {schema}.records add extra integer;\nselect 1/0"))
	require.NoError(t, open(t, dsn, nil), "a step that failed changes nothing")
	require.NoError(t, pgstore.UpgradeTo(ctx, dsn, nil, "create table {schema}.more (n integer);\ninsert into {schema}.more values (1)", "update {schema}.more set n = n + 1"))
	err = open(t, dsn, nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "newer oubli")
	n := 0
	require.NoError(t, connect(t, dsn).QueryRow(ctx, "select n from oubli.more").Scan(&n))
	require.Equal(t, 2, n)

	exec(t, dsn, "update oubli.oubli_version set version = 0")
	err = open(t, dsn, nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "oubli upgrade")
	require.ErrorContains(t, err, "pgstore.Upgrade")
}

func TestMissingPrivilegesAreNamed(t *testing.T) {
	ctx := t.Context()
	dsn := pgtest.Shared(t).Database(t)
	clerk := as(t, dsn, "clerk")
	_, err := pgstore.Create(ctx, clerk, nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "grant create on the database")

	s := create(t, dsn, nil)
	_, err = s.Commit(ctx, []keystore.Group{{put("a", 0, 1, "A")}})
	require.NoError(t, err)
	for _, step := range []struct{ grant, lacks string }{
		{"", `USAGE on schema "oubli"`},
		{"usage on schema oubli", `SELECT on table "oubli".oubli_version`},
		{"select on oubli.oubli_version", `SELECT on table "oubli".records, INSERT on table "oubli".records`},
		{"select, insert, delete on oubli.records", `clerk" lacks UPDATE on table "oubli".records: `},
	} {
		if step.grant != "" {
			exec(t, dsn, "grant "+step.grant+" to clerk")
		}
		err := open(t, clerk, nil)
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorContains(t, err, step.lacks)
	}
	require.NoError(t, open(t, clerk, &pgstore.Options{ReadOnly: true}))
	exec(t, dsn, "grant update on oubli.records to clerk")
	mine, err := pgstore.Open(ctx, clerk, nil)
	require.NoError(t, err)
	defer mine.Close()
	_, err = mine.Commit(ctx, []keystore.Group{{put("a", 1, 2, "B")}})
	require.NoError(t, err)

	exec(t, dsn, "revoke select on oubli.records from clerk")
	recs, err := mine.Get(ctx, [][]byte{[]byte("a")})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "permission denied for table records")
	require.ErrorContains(t, err, "grant usage")
	require.Empty(t, recs)
	_, err = mine.Commit(ctx, []keystore.Group{{put("a", 2, 3, "C")}})
	require.ErrorContains(t, err, "permission denied for table records")
	holds(t, s, map[string]string{"a": "B"})
}

func TestReadOnly(t *testing.T) {
	dsn := pgtest.Shared(t).Database(t)
	s := create(t, dsn, nil)
	_, err := s.Commit(t.Context(), []keystore.Group{{put("a", 0, 1, "A")}})
	require.NoError(t, err)
	reader, err := pgstore.Open(t.Context(), dsn, &pgstore.Options{ReadOnly: true})
	require.NoError(t, err)
	defer reader.Close()
	_, err = reader.Commit(t.Context(), []keystore.Group{{put("a", 1, 2, "B")}})
	require.ErrorIs(t, err, keystore.ErrReadOnly)
	holds(t, reader, map[string]string{"a": "A"})
}

func TestFsyncOffIsRefused(t *testing.T) {
	server := pgtest.Start(t, nil)
	s := create(t, server.DSN(), nil)
	ctx := t.Context()
	_, err := s.Commit(ctx, []keystore.Group{{put("a", 0, 1, "A")}})
	require.NoError(t, err)

	exec(t, server.DSN(), "alter system set fsync = off", "select pg_reload_conf()")
	rev := keystore.Rev(1)
	require.Eventually(t, func() bool { // the reload reaches a session when it likes
		_, err = s.Commit(ctx, []keystore.Group{{put("a", rev, rev+1, "A")}})
		if err == nil {
			rev++
		}
		return err != nil
	}, 20*time.Second, time.Millisecond)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "fsync=off")
	recs, err := s.Get(ctx, [][]byte{[]byte("a")})
	require.NoError(t, err)
	require.Equal(t, rev, recs[0].Rev)
	require.ErrorContains(t, open(t, server.DSN(), nil), "fsync=off")
}

// holds checks all that a store holds.
func holds(t *testing.T, s keystore.Backend, want map[string]string) {
	t.Helper()
	recs, err := s.Scan(context.WithoutCancel(t.Context()), []byte{0}, []byte{0xff, 0xff}, 1<<20)
	require.NoError(t, err)
	got := map[string]string{}
	for _, r := range recs {
		got[string(r.Key)] = string(r.Value)
	}
	require.Equal(t, want, got)
}
