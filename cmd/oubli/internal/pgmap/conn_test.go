package pgmap

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
)

// What a trigger says, and what goes wrong in it, may hold values under any code.
func TestWordsOfFunctionsAreNotRepeated(t *testing.T) {
	ctx := within(t)
	db, _ := world(t, `
		create table people (who int primary key, name text); insert into people values (7, 'seven');
		create function says() returns trigger language plpgsql as $$ begin end $$;
		create trigger says before update on people for each row execute function says()`, peopleMap)
	for code, body := range map[string]string{
		"P0001": `raise exception 'not %', old.name`,
		"45000": `raise exception 'not %', old.name using errcode = '45000'`,
		"42501": `raise exception 'not %', old.name using errcode = 'insufficient_privilege'`,
		"23514": `raise exception 'not %', old.name using errcode = 'check_violation', constraint = 'valid'`,
		"55P03": `raise exception 'not %', old.name using errcode = 'lock_not_available'`,
		"42703": `execute 'select ' || old.name`,
		"42P01": `execute 'select from ' || old.name`,
		"22P02": `perform old.name::int`,
	} {
		_, err := db.Exec(ctx, `create or replace function says() returns trigger language plpgsql as $$ begin `+body+`; return new; end $$`)
		require.NoError(t, err)
		_, err = db.Exec(ctx, `update people set name = 'x'`)
		err = Fail("save rows", err)
		require.ErrorContains(t, err, "(SQLSTATE "+code+")")
		require.NotContains(t, err.Error(), "seven", code)
	}
	_, err := db.Exec(ctx, `select from nothing`)
	require.ErrorContains(t, Fail("look", err), `relation "nothing" does not exist`)
}

// A row that is waited for is named with what the server says about it.
func TestWordsAboutLocksAreRepeated(t *testing.T) {
	ctx := within(t)
	db, _ := world(t, `create table people (who int primary key, name text); insert into people values (7, 'seven')`, peopleMap)
	tx, err := db.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	_, err = tx.Exec(ctx, `update people set name = 'x'`)
	require.NoError(t, err)
	other, err := db.Begin(ctx)
	require.NoError(t, err)
	defer other.Rollback(ctx)
	_, err = other.Exec(ctx, `set local lock_timeout = '50ms'`)
	require.NoError(t, err)
	_, err = other.Exec(ctx, `update people set name = 'y'`)
	require.ErrorContains(t, Fail("save rows", err), "canceling statement due to lock timeout")
}

// What a database or a role has set changes nothing about what is read.
func TestSettingsOfTheDatabase(t *testing.T) {
	ctx := within(t)
	envelope := "oubli1." + strings.Repeat("A", 60)
	dsn := pgtest.Shared(t).Database(t)
	db, err := Connect(ctx, dsn)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec(ctx, `create table people (who int primary key, name text, photo bytea);
		insert into people values (7, 'é', '\x4142ff'), (8, null, '`+envelope+`');
		do $$ declare s text; begin
			foreach s in array array['client_encoding = latin1', 'standard_conforming_strings = off', 'bytea_output = escape', 'datestyle = "German"'] loop
				execute format('alter database %I set ', current_database()) || s;
			end loop;
		end $$`)
	require.NoError(t, err)
	db, err = Connect(ctx, dsn)
	require.NoError(t, err)
	defer db.Close()
	tables, err := Load(ctx, db, mapOf(t, `{tables: {people: {subject: person=who, personal: [name, photo]}}}`))
	require.NoError(t, err)
	rows, err := tables[0].Page(ctx, db, PageOptions{Limit: 3})
	require.NoError(t, err)
	require.Equal(t, []string{"7", "é", "AB\xff"}, texts(rows[0].Cells))
	require.Equal(t, []string{"8", "NULL", envelope}, texts(rows[1].Cells))
	sealed, err := tables[0].Page(ctx, db, PageOptions{Limit: 3, Only: Sealed})
	require.NoError(t, err)
	require.Equal(t, rows[1:], sealed)
}
