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

func sequence[T any](rows []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, r := range rows {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func TestOpenSeq(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	c := newCodec[address1](t, keys, "people", nil)
	const n = 700
	plain := make([]address1, n)
	for i := range plain {
		plain[i] = address1{ID: int64(i + 1), Name: "Ada"}
	}
	rows, err := c.SealAll(ctx, plain...)
	require.NoError(t, err)
	rows[300].Name = "oubli1.AAAA"
	erase(t, keys, 11)

	i := 0
	for row, err := range c.OpenSeq(ctx, sequence(rows)) {
		require.Equal(t, int64(i+1), row.ID, "in order")
		switch i {
		case 300:
			var bad *fieldcrypt.RowError
			require.ErrorAs(t, err, &bad)
			require.Equal(t, 300, bad.Row, "counted from the beginning")
			require.ErrorIs(t, err, keystore.ErrTampered)
			require.Equal(t, rows[300], row)
		case 10:
			require.NoError(t, err)
			require.Equal(t, fieldcrypt.StatusErased, row.Privacy)
			require.Equal(t, "Erased", row.Name)
		default:
			require.NoError(t, err)
			require.Equal(t, "Ada", row.Name)
		}
		i++
	}
	require.Equal(t, n, i)
	require.NotEqual(t, "Ada", rows[0].Name, "the stored rows are untouched")

	for range c.OpenSeq(ctx, sequence(rows)) {
		break
	}
}

func TestOpenSeqErrors(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	c := newCodec[address1](t, keys, "people", nil)
	row := seal(t, c, address1{ID: 1, Name: "Ada"})
	broken := errors.New("connection reset")
	var got []error
	for r, err := range c.OpenSeq(ctx, func(yield func(address1, error) bool) {
		_ = yield(row, nil) && yield(address1{}, broken) && yield(row, nil)
	}) {
		got = append(got, err)
		if err == nil {
			require.Equal(t, "Ada", r.Name)
		}
	}
	require.Equal(t, []error{nil, broken, nil}, got, "the application decides when to stop")
}

// Rows wait in their batch while the application works on those before them.
func TestOpenSeqYieldsNothingStale(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	c := newCodec[address1](t, keys, "people", nil)
	rows, err := c.SealAll(ctx, address1{ID: 1, Name: "Ada"}, address1{ID: 2, Name: "Bob"}, address1{ID: 3, Name: "Cyd"})
	require.NoError(t, err)
	var names []string
	for row, err := range c.OpenSeq(ctx, sequence(rows)) {
		require.NoError(t, err)
		names = append(names, row.Name)
		if row.ID == 1 {
			erase(t, keys, 2)
		}
	}
	require.Equal(t, []string{"Ada", "Erased", "Cyd"}, names)
}
