package keystore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// A page about many people asks for all of them at once.
func TestStatusOfManyIsOneRead(t *testing.T) {
	ctx := t.Context()
	reads := 0
	b := &hookedBackend{inner: memstore.New(), call: func(name string, do func() error) error {
		if name == "Get" {
			reads++
		}
		return do()
	}}
	roots := memstore.NewRoots()
	require.NoError(t, keystore.Create(ctx, b, roots, nil))
	s, err := keystore.Open(ctx, b, roots, nil)
	require.NoError(t, err)
	defer s.Close()
	var subs []keystore.Subject
	for i := range 300 {
		subs = append(subs, subject(t, i+1))
	}
	_, err = s.Ensure(ctx, nil, []string{""}, subs[:200]...) // the others are unknown
	require.NoError(t, err)
	_, err = s.Erase(ctx, keystore.Request{Subject: subs[7]})
	require.NoError(t, err)
	reads = 0
	_, err = s.Status(ctx, subs[0])
	require.NoError(t, err)
	forOne := reads
	reads = 0
	list, err := s.Status(ctx, subs...)
	require.NoError(t, err)
	require.Equal(t, forOne, reads)
	for i, st := range list {
		require.Equal(t, subs[i], st.Subject)
		switch {
		case i == 7:
			require.Equal(t, keystore.StateErased, st.State)
		case i < 200:
			require.Equal(t, keystore.StateActive, st.State)
			require.Len(t, st.Keys, 1)
		default:
			require.Equal(t, keystore.StateUnknown, st.State)
		}
	}
}
