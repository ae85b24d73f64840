package pgmap

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// What the columns are called is the same under every search path, and nobody's operator
// gets in between.
func TestLoadUnderASearchPath(t *testing.T) {
	ctx := t.Context()
	db, tables := world(t, `
create schema app;
create type app.mood as enum ('glad', 'sad');
create table app.people (id app.mood primary key, email text);
insert into app.people values ('glad', 'a@b');
create function app.never(oid, oid) returns bool language sql as 'select 1/0 = 1';
create operator app.= (leftarg = oid, rightarg = oid, function = app.never)`,
		`{tables: {people: {db: app.people, subject: person=id, personal: [email]}}}`)
	conn, err := db.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	rows, err := tables[0].Page(ctx, conn, PageOptions{Limit: 2})
	require.NoError(t, err)
	require.Len(t, rows, 1)
	for _, path := range []string{"app, pg_catalog", "app", "public", "pg_temp"} {
		_, err = conn.Exec(ctx, "set search_path = "+path)
		require.NoError(t, err)
		again, err := load(ctx, conn.Conn(), tables[0].Map)
		require.NoError(t, err)
		require.Equal(t, tables[0], again, path)
		require.Equal(t, "app.mood", again.Key[0].Base)
		same, err := again.Again(ctx, conn, [][]string{rows[0].Key})
		require.NoError(t, err)
		require.Equal(t, rows, same)
	}
	_, err = conn.Exec(ctx, "reset search_path")
	require.NoError(t, err)
}

// A collation that takes A for a takes nobody's rows for another's.
func TestSubjectsUnderALenientCollation(t *testing.T) {
	db, tables := world(t, `
create collation lenient (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table people (id text collate lenient, no int primary key, email text);
insert into people values ('ada', 1, 'a@b'), ('ADA', 2, 'c@d')`,
		`{tables: {people: {subject: person=id, personal: [email]}}}`)
	where, _ := tables[0].ofSubject(subject(t, "person", "ada"))
	var n int
	require.NoError(t, db.QueryRow(t.Context(), "select count(*) from people t where "+where, []string{"ada"}).Scan(&n))
	require.Equal(t, 1, n)
}

func subject(t *testing.T, kind, id string) keystore.Subject {
	t.Helper()
	s, err := keystore.NewSubject(kind, id)
	require.NoError(t, err)
	return s
}
