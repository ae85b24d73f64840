package pgrows

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// Prepared statements survive that a column gets another type, in every connection; in a
// transaction they fail, and nothing is written twice.
func TestColumnsChangeTheirType(t *testing.T) {
	ctx := t.Context()
	type person struct {
		ID      int64  `oubli:",subject=person"`
		Email   string `oubli:"email"`
		Logins  int
		Privacy fieldcrypt.Status
	}
	config, err := pgxpool.ParseConfig(pgtest.Shared(t).Database(t))
	require.NoError(t, err)
	config.MaxConns = 3
	db, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec(ctx, `create domain sealed as text check (value like 'oubli1%');
create table people (id bigint primary key, email varchar(500), logins int not null default 0)`)
	require.NoError(t, err)
	codec, err := fieldcrypt.NewCodec[person](keystoretest.New(t), "people", nil)
	require.NoError(t, err)
	people, err := New[person, int64](db, codec, nil)
	require.NoError(t, err)
	_, err = people.Create(ctx, person{ID: 1, Email: "a@b"})
	require.NoError(t, err)

	inEachConnection := func(f func()) {
		held := db.AcquireAllIdle(ctx)
		for len(held) < 3 {
			c, err := db.Acquire(ctx)
			require.NoError(t, err)
			held = append(held, c)
		}
		for _, c := range held {
			c.Release()
			f()
		}
	}
	work := func() {
		row, err := people.Get(ctx, 1)
		require.NoError(t, err)
		require.Equal(t, "a@b", row.Email)
		next := row.Logins + 1
		row, err = people.UpdateFields(ctx, 1, person{Logins: next, Email: "a@b"}, "logins", "email")
		require.NoError(t, err)
		require.Equal(t, next, row.Logins)
	}
	for _, typ := range []string{"text", "sealed", "varchar(600)"} {
		for range 5 {
			inEachConnection(work)
		}
		tx, err := db.Begin(ctx)
		require.NoError(t, err)
		_, err = people.WithTx(tx).Get(ctx, 1)
		require.NoError(t, err)
		require.NoError(t, tx.Rollback(ctx))
		_, err = db.Exec(ctx, "alter table people alter column email type "+typ)
		require.NoError(t, err)
		work()
		var logins int
		require.NoError(t, db.QueryRow(ctx, "select logins from people").Scan(&logins))
		row, err := people.Get(ctx, 1)
		require.NoError(t, err)
		require.Equal(t, row.Logins, logins)
	}
}
