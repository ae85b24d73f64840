package pgmap

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
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

// An operator of somebody else's decides nothing about keys, which still find their index.
func TestKeysAreComparedByPostgreSQL(t *testing.T) {
	ctx := t.Context()
	db, tables := world(t, `
create function never(varchar, varchar) returns bool language sql immutable as 'select (1/(length($1) * 0))::bool';
create operator = (leftarg = varchar, rightarg = varchar, function = never);
create operator > (leftarg = varchar, rightarg = varchar, function = never);
create table people (tenant varchar(20), id varchar(20), email text, primary key (tenant, id));
insert into people select 't' || i % 3, 'p' || i, 'e' || i from generate_series(1, 3000) i;
analyze people`,
		`{tables: {people: {subject: person=id, personal: [email]}}}`)
	p := tables[0]
	var after []string
	seen := 0
	for {
		rows, err := p.Page(ctx, db, PageOptions{After: after, Limit: 700})
		require.NoError(t, err)
		if len(rows) == 0 {
			break
		}
		seen, after = seen+len(rows), rows[len(rows)-1].Key
		again, err := p.Again(ctx, db, [][]string{rows[0].Key})
		require.NoError(t, err)
		require.Equal(t, rows[:1], again)
		rows[0].Cells[1].Text += "!"
		missed, err := p.Save(ctx, db, rows[:1], SaveOptions{})
		require.NoError(t, err)
		require.Empty(t, missed)
	}
	require.Equal(t, 3000, seen)
	sql, args := p.pageFrom(PageOptions{After: []string{"t1", "p7"}, Limit: 10})
	var plan strings.Builder
	rows, err := db.Query(ctx, "EXPLAIN "+p.selects()+sql, args...)
	require.NoError(t, err)
	var line string
	_, err = pgx.ForEachRow(rows, []any{&line}, func() error { plan.WriteString(line + "\n"); return nil })
	require.NoError(t, err)
	require.Contains(t, plan.String(), "Index Scan using people_pkey")
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
