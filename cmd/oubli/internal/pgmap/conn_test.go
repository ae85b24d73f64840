package pgmap

import (
	"testing"

	"github.com/stretchr/testify/require"
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
