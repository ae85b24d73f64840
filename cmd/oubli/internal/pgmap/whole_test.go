package pgmap

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

const peopleMap = `{tables: {people: {subject: person=who, personal: [name]}}}`

// A row of a table that inherits has the key of another person's: neither is touched.
func TestTablesWithChildrenAreRefused(t *testing.T) {
	ctx, keys := within(t), keystoretest.New(t)
	db, tables := world(t, `
		create table people (id int primary key, who int not null, name text);
		create table kids () inherits (people);
		begin; insert into people values (1, 7, 'seven'); insert into kids values (1, 8, 'eight'); commit`, peopleMap)
	_, err := NewTables(db, keys, tables, nil)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, `tables inherit from "public"."people"`)
	_, err = Reconcile(ctx, ReconcileConfig{DB: db, Keys: keys, Tables: tables})
	require.ErrorIs(t, err, keystore.ErrInvalid)
}

// Where policies hide rows nobody is erased, exported or reconciled as if there were none.
func TestHiddenRowsAreRefused(t *testing.T) {
	ctx, keys := within(t), keystoretest.New(t)
	owner, tables := world(t, `
		create table people (who int primary key, name text); insert into people values (7, 'seven'), (8, 'eight');
		create role pgmap_officer; grant all on people to pgmap_officer;
		create policy eight on people using (who = 8)`, peopleMap)
	defer owner.Exec(ctx, "drop owned by pgmap_officer; drop role pgmap_officer")
	config := owner.Config().Copy()
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "set role pgmap_officer")
		return err
	}
	db, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(t, err)
	defer db.Close()
	loaded, err := Load(ctx, db, mapOf(t, peopleMap))
	require.NoError(t, err)
	_, err = NewTables(db, keys, loaded, nil)
	require.NoError(t, err)

	_, err = owner.Exec(ctx, "alter table people enable row level security")
	require.NoError(t, err)
	loaded, err = Load(ctx, db, mapOf(t, peopleMap))
	require.NoError(t, err)
	_, err = NewTables(db, keys, loaded, nil)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, `row-level security may hide rows of "public"."people"`)
	_, err = Reconcile(ctx, ReconcileConfig{DB: db, Keys: keys, Tables: loaded})
	require.ErrorIs(t, err, keystore.ErrInvalid)
	_, err = NewTables(owner, keys, tables, nil)
	require.NoError(t, err)
}

// eraseIn erases one person from tables that may hold plaintext.
func eraseIn(t *testing.T, db *pgxpool.Pool, tables []*Table, id string) (keystore.State, error) {
	t.Helper()
	ctx, keys, s := within(t), keystoretest.New(t), subj(t, "person/"+id)
	e, err := anonymize.New(keys, nil)
	require.NoError(t, err)
	ts, err := NewTables(db, keys, tables, &TablesOptions{Adopting: func(*Table) bool { return true }})
	require.NoError(t, err)
	e.RegisterTables(ts)
	_, err = e.AnonymizeWith(ctx, &anonymize.Request{Unknown: true}, s)
	sts, err2 := keys.Status(ctx, s)
	require.NoError(t, err2)
	return sts[0].State, err
}
