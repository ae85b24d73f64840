package fieldcrypt

import (
	"context"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// meanwhile is what happens while a value of type slow is marshalled: between the
// look-up of the keys and the moment at which something would leave.
var meanwhile func()

type slow string

func (s slow) MarshalText() ([]byte, error) {
	meanwhile()
	return []byte(s), nil
}

func (s *slow) UnmarshalText(b []byte) error {
	meanwhile()
	*s = slow(b)
	return nil
}

func TestErasedWhileARowIsAtWork(t *testing.T) {
	ctx := context.Background()
	type general struct {
		ID   int64         `oubli:",subject=customer"`
		Name Private[slow] `oubli:"name"`
	}
	type usual struct {
		ID   int64  `oubli:",subject=customer"`
		Name string `oubli:"name"`
	}
	store := keystoretest.New(t)
	c, err := NewCodec[general](store, "t", &Options{})
	require.NoError(t, err)
	u, err := NewCodec[usual](store, "u", &Options{Strict: true})
	require.NoError(t, err)
	s, err := keystore.NewSubject("customer", 1)
	require.NoError(t, err)
	erase := func() {
		meanwhile = func() {}
		_, err := store.Erase(ctx, keystore.Request{Subject: s})
		require.NoError(t, err)
	}
	again := func() { require.NoError(t, store.Readmit(ctx, s)) }

	meanwhile = func() {}
	stored, err := c.Seal(ctx, general{1, NewPrivate(slow("Ada"))})
	require.NoError(t, err)
	meanwhile = erase
	require.NoError(t, c.Open(ctx, &stored))
	require.Equal(t, StatusErased, stored.Name.Status(), "opened, and then found to be stale")

	again()
	meanwhile = erase
	_, err = c.Seal(ctx, general{1, NewPrivate(slow("Ada"))})
	require.ErrorIs(t, err, keystore.ErrErased, "sealed, and then found to be stale")

	again()
	row, err := u.Seal(ctx, usual{1, "Ada"})
	require.NoError(t, err)
	keys, err := store.Lookup(ctx, nil, s)
	require.NoError(t, err)
	erase()
	before, plain := row, usual{1, "Bob"}
	require.False(t, u.openUsual(u.borrow(), reflect.ValueOf(&row).Elem(), keys[0]))
	require.Equal(t, before, row)
	require.False(t, u.sealUsual(u.borrow(), reflect.ValueOf(&plain).Elem(), keys[0]))
	require.Equal(t, usual{1, "Bob"}, plain)
}
