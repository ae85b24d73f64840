package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// A page that has run since before an adoption shows and blanks its tables as they are in
// the middle of it, and after it. A map that does not fit any more is an error.
func TestTablesAreLookedAtAgain(t *testing.T) {
	ctx, keys := t.Context(), keystoretest.New(t)
	db, err := pgmap.Connect(ctx, pgtest.Shared(t).Database(t))
	require.NoError(t, err)
	t.Cleanup(db.Close)
	run := func(sql string) {
		_, err := db.Exec(ctx, sql)
		require.NoError(t, err)
	}
	run(`create table people (id int primary key, name text); insert into people values (1, 'Ada'), (2, 'Bob')`)
	m, err := datamap.Parse("map", []byte(`{tables: {people: {subject: person=id, personal: [name], show: [name]}}}`))
	require.NoError(t, err)
	found, err := lookFor(ctx, db, m)
	require.NoError(t, err)
	live, err := newLiveTables(found, keys)
	require.NoError(t, err)
	ada, err := keystore.NewSubject("person", 1)
	require.NoError(t, err)
	shown := func() (string, error) {
		values, err := live.people().Values(ctx, []admin.Ask{{Subject: ada, Reveal: true}})
		if err != nil {
			return "", err
		}
		return values[0][0].Text + string(values[0][0].State), nil
	}
	require.Equal(t, []admin.Column{{Name: "name", Personal: true}}, live.people().Columns())
	is, err := shown()
	require.NoError(t, err)
	require.Equal(t, "withheld", is, "plaintext that nobody has adopted")

	plan, err := pgadopt.MakePlan(ctx, db, m)
	require.NoError(t, err)
	require.NoError(t, pgadopt.Widen(ctx, db, found.list[0], plan))
	is, err = shown()
	require.NoError(t, err)
	require.Equal(t, "withheld", is, "not looked at again so soon")
	live.looked = time.Time{}
	is, err = shown()
	require.NoError(t, err)
	require.Equal(t, "Adaopen", is)
	mapped := live.mapped

	live.looked = time.Time{}
	run(`analyze people`)
	_, err = shown()
	require.NoError(t, err)
	require.Same(t, mapped, live.mapped, "nothing has changed but the number of rows")

	live.looked = time.Time{}
	run(`alter table people rename column name to called`)
	_, err = shown()
	require.ErrorContains(t, err, "has no column name")
	require.ErrorContains(t, live.Blank(ctx, ada, nil), "has no column name")
	run(`alter table people rename column called to name`)
	is, err = shown()
	require.NoError(t, err)
	require.Equal(t, "Adaopen", is)
}
