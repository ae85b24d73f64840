package pgrows_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/fieldcrypt/pgrows"
)

// member is found by a code of the application's; its id, which names the person, is the
// database's and can't be set.
type member struct {
	Code    int64
	ID      int64  `oubli:",subject=member"`
	Name    string `oubli:"name"`
	Privacy fieldcrypt.Status
}

// What is sealed for somebody else than the row's person, whose id an update can't change,
// must not be stored there: it would never open.
func TestAnUpdateWithAnotherGeneratedID(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	w.exec("CREATE TABLE members (code bigint PRIMARY KEY, id bigint GENERATED ALWAYS AS IDENTITY, name text)")
	codec, err := fieldcrypt.NewCodec[member](w.keys, "members", nil)
	require.NoError(t, err)
	members, err := pgrows.New[member, int64](w.pool, codec, nil)
	require.NoError(t, err)
	m, err := members.Create(ctx, member{Code: 7, Name: "Ada"})
	require.NoError(t, err)
	_, err = members.Update(ctx, member{Code: 7, ID: m.ID + 1, Name: "Bob"})
	require.ErrorIs(t, err, pgx.ErrNoRows)
	m, err = members.Get(ctx, 7)
	require.NoError(t, err)
	require.Equal(t, "Ada", m.Name)
	m.Name = "Ada L."
	m, err = members.Update(ctx, m)
	require.NoError(t, err)
	require.Equal(t, "Ada L.", m.Name)
}
