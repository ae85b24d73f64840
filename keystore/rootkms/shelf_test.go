package rootkms_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// shared is a shelf that keeps its backend, so that another client can be had.
type shared struct {
	rootkms.Shelf
	b keystore.Backend
}

func newShared() *shared {
	b := memstore.New()
	return &shared{rootkms.BackendShelf(b), b}
}

func TestBackendShelf(t *testing.T) {
	kmstest.RunShelf(t, &kmstest.ShelfSuite{
		New:   func() (rootkms.Shelf, error) { return newShared(), nil },
		Again: func(s rootkms.Shelf) (rootkms.Shelf, error) { return rootkms.BackendShelf(s.(*shared).b), nil },
	})
}

// What stands beside the roots must not be restored with the keystore.
func TestBackendShelfIsNotTheKeystores(t *testing.T) {
	b := memstore.New()
	require.NoError(t, keystore.Create(t.Context(), b, memstore.NewRoots(), nil))
	roots := rootkms.New(kmstest.NewService(kmstest.Single, 0, nil).Keys(), rootkms.BackendShelf(b), nil)
	require.ErrorIs(t, roots.Create(t.Context(), keystore.RootContents{}), keystore.ErrMismatch)
	_, err := roots.Load(t.Context())
	require.ErrorIs(t, err, keystore.ErrMismatch)
	require.ErrorIs(t, keystore.Create(t.Context(), newStanding(t), memstore.NewRoots(), nil), keystore.ErrExists)
}

// newStanding returns a backend on which a root store stands.
func newStanding(t *testing.T) keystore.Backend {
	s := newShared()
	roots := rootkms.New(kmstest.NewService(kmstest.Single, 0, nil).Keys(), s, nil)
	require.NoError(t, roots.Create(t.Context(), keystore.RootContents{Store: keystore.StoreID{1}}))
	return s.b
}
