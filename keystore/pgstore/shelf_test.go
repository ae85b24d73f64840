package pgstore_test

import (
	"testing"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// shelf keeps its backend, so that another client can be had.
type shelf struct {
	rootkms.Shelf
	b keystore.Backend
}

// A schema of its own is a shelf for the documents of a root store.
func TestShelf(t *testing.T) {
	s := suite(t, pgtest.Shared(t).Database(t))
	on := func(b keystore.Backend, err error) (rootkms.Shelf, error) {
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { b.Close() })
		return shelf{rootkms.BackendShelf(b), b}, nil
	}
	kmstest.RunShelf(t, &kmstest.ShelfSuite{
		New:   func() (rootkms.Shelf, error) { return on(s.New()) },
		Again: func(o rootkms.Shelf) (rootkms.Shelf, error) { return on(s.Reopen(o.(shelf).b)) },
	})
}
