package fieldcrypt

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

type usualRow struct {
	ID      int64   `oubli:",subject=customer"`
	Name    string  `oubli:"name"`
	Phone   *string `oubli:"phone"`
	Photo   []byte  `oubli:"photo"`
	Tax     []byte  `oubli:"tax,purpose=tax"`
	Privacy Status
}

// What the short way must leave to the general one, which refuses it.
func TestUsualRowsThatAreRefused(t *testing.T) {
	ctx := context.Background()
	store := keystoretest.New(t)
	c, err := NewCodec[usualRow](store, "t", nil)
	require.NoError(t, err)
	phone := "1"
	plain := usualRow{ID: 1, Name: "Ada", Phone: &phone, Photo: []byte{1}, Tax: []byte{2}}
	stored, err := c.Seal(ctx, plain)
	require.NoError(t, err)
	stored, err = c.Seal(ctx, plain) // now everything is at hand
	require.NoError(t, err)

	for _, row := range []usualRow{{ID: 1, Name: stored.Name}, {ID: 1, Phone: stored.Phone}, {ID: 1, Photo: stored.Photo}} {
		_, err = c.Seal(ctx, row)
		require.ErrorIs(t, err, errSealedTwice)
	}
	withheld := plain
	withheld.Privacy = StatusWithheld
	_, err = c.Seal(ctx, withheld)
	require.ErrorIs(t, err, keystore.ErrState)

	// A key of one purpose does not open a field of another, whatever it authenticates.
	s, err := keystore.NewSubject("customer", 1)
	require.NoError(t, err)
	keys, err := store.Lookup(ctx, nil, s)
	require.NoError(t, err)
	id, key, err := keys[0].Primary("")
	require.NoError(t, err)
	forged := append(appendHeader(nil, id), make([]byte, nonceSize)...)
	aad := appendRowAAD(nil, s.String(), "", false)
	setAADHeader(aad, forged)
	aad = appendFieldAAD(aad, "t", "tax", "tax")
	row := usualRow{ID: 1, Tax: key.Seal(forged, forged[headerSize:], []byte{3}, aad)}
	require.ErrorIs(t, c.Open(ctx, &row), keystore.ErrTampered)

	require.NoError(t, c.Open(ctx, &stored))
	plain.Privacy = StatusOpen
	require.Equal(t, plain, stored)
}
