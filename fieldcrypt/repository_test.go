package fieldcrypt_test

import (
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

var errNotThere = errors.New("no such row")

// memory is a repository that keeps rows in memory, in order of creation.
type memory[T any, ID comparable] struct {
	id   func(T) ID
	rows []T
}

func (m *memory[T, ID]) find(id ID) int {
	for i, r := range m.rows {
		if m.id(r) == id {
			return i
		}
	}
	return -1
}

func (m *memory[T, ID]) Get(_ context.Context, id ID) (T, error) {
	if i := m.find(id); i >= 0 {
		return m.rows[i], nil
	}
	var none T
	return none, errNotThere
}

func (m *memory[T, ID]) List(context.Context) iter.Seq2[T, error] { return sequence(m.rows) }

func (m *memory[T, ID]) Create(_ context.Context, row T) (T, error) {
	m.rows = append(m.rows, row)
	return row, nil
}

func (m *memory[T, ID]) Update(_ context.Context, row T) (T, error) {
	i := m.find(m.id(row))
	if i < 0 {
		return row, errNotThere
	}
	m.rows[i] = row
	return row, nil
}

func (m *memory[T, ID]) Delete(_ context.Context, id ID) error {
	i := m.find(id)
	if i < 0 {
		return errNotThere
	}
	m.rows = append(m.rows[:i], m.rows[i+1:]...)
	return nil
}

func TestWrap(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	plain := &memory[customer, int64]{id: func(c customer) int64 { return c.ID }}
	repo := fieldcrypt.Wrap(plain, newCodec[customer](t, keys, "customers", nil))

	created, err := repo.Create(ctx, ada(1))
	require.NoError(t, err)
	require.Equal(t, "Ada", created.FirstName)
	require.Regexp(t, `^oubli1\.`, plain.rows[0].FirstName)
	created.FirstName = "Augusta"
	updated, err := repo.Update(ctx, created)
	require.NoError(t, err)
	require.Equal(t, "Augusta", updated.FirstName)
	got, err := repo.Get(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, "Augusta", got.FirstName)

	_, err = repo.Create(ctx, ada(0))
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.Len(t, plain.rows, 1, "nothing was written")
	_, err = repo.Get(ctx, 7)
	require.ErrorIs(t, err, errNotThere)

	// A refund on an old invoice must work.
	erase(t, keys, 1)
	got, err = repo.Get(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, fieldcrypt.StatusErased, got.Privacy)
	got.Country = "FR"
	got, err = repo.Update(ctx, got)
	require.NoError(t, err)
	require.Equal(t, "Erased", got.FirstName)
	require.Equal(t, "FR", plain.rows[0].Country)
	got.FirstName = "Bob"
	_, err = repo.Update(ctx, got)
	require.ErrorIs(t, err, keystore.ErrErased)

	for row, err := range repo.List(ctx) {
		require.NoError(t, err)
		require.Equal(t, "Erased", row.FirstName)
	}
	plain.rows[0].FirstName = "Mallory"
	got, err = repo.Get(ctx, 1)
	var bad *fieldcrypt.RowError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, customer{}, got)
	require.NoError(t, repo.Delete(ctx, 1))
	require.Empty(t, plain.rows)
}
