package fieldcrypt

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

type collected struct {
	ID      int64   `oubli:",subject=customer"`
	Name    string  `oubli:"name,replace=gone"`
	Phone   *string `oubli:"phone"`
	Privacy Status
}

func sealedRows(t *testing.T, c *Codec[collected], n int) []collected {
	var rows []collected
	for i := range n {
		phone := fmt.Sprint("phone ", i+1)
		rows = append(rows, collected{ID: int64(i + 1), Name: fmt.Sprint("name ", i+1), Phone: &phone})
	}
	rows, err := c.SealAll(context.Background(), rows...)
	require.NoError(t, err)
	return rows
}

func TestCollectorOpensWhatOpenDoes(t *testing.T) {
	ctx := context.Background()
	store := keystoretest.New(t)
	c, err := NewCodec[collected](store, "t", nil)
	require.NoError(t, err)
	for _, n := range []int{0, 1, chunk - 1, chunk, chunk + 1, 5*chunk + 3} {
		rows := sealedRows(t, c, 5*chunk+3)[:n]
		if n > 2 {
			rows[1].Name = rows[0].Name // another person's
		}
		if n > chunk {
			rows[chunk].ID = 0
		}
		want := make([]*collected, n)
		k := c.Collector()
		for i, row := range rows {
			*k.Next() = row
			want[i] = &row
		}
		wantErr := c.Open(ctx, want...)
		got, err := k.Rows(ctx)
		require.Len(t, got, n)
		for i := range got {
			require.Equal(t, *want[i], got[i])
		}
		if wantErr == nil {
			require.NoError(t, err)
			continue
		}
		require.Equal(t, wantErr.Error(), err.Error())
	}
}

// Somebody is erased after her row was opened and before the batch is done.
func TestErasedWhileRowsCome(t *testing.T) {
	ctx := context.Background()
	store := keystoretest.New(t)
	c, err := NewCodec[collected](store, "t", nil)
	require.NoError(t, err)
	rows := sealedRows(t, c, 3*chunk)
	k := c.Collector()
	for i, row := range rows {
		*k.Next() = row
		if i == 2*chunk {
			require.Equal(t, "name 5", k.rows[4].Name, "at once")
			s, err := keystore.NewSubject("customer", 5)
			require.NoError(t, err)
			_, err = store.Erase(ctx, keystore.Request{Subject: s})
			require.NoError(t, err)
		}
	}
	got, err := k.Rows(ctx)
	require.NoError(t, err)
	for i, row := range got {
		if i == 4 {
			require.Equal(t, collected{ID: 5, Name: "gone", Privacy: StatusErased}, row)
			continue
		}
		require.Equal(t, fmt.Sprint("name ", i+1), row.Name)
		require.Equal(t, fmt.Sprint("phone ", i+1), *row.Phone)
		require.Equal(t, StatusOpen, row.Privacy)
	}
}
