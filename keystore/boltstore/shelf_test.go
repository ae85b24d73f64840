package boltstore_test

import (
	"path/filepath"
	"testing"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// shelf keeps its backend, so that another client can be had: one file is one process's.
type shelf struct {
	rootkms.Shelf
	b keystore.Backend
}

// A file of its own is a shelf for the documents of a root store.
func TestShelf(t *testing.T) {
	kmstest.RunShelf(t, &kmstest.ShelfSuite{
		New: func() (rootkms.Shelf, error) {
			b, err := boltstore.Create(filepath.Join(t.TempDir(), "shelf"), nil)
			if err != nil {
				return nil, err
			}
			t.Cleanup(func() { b.Close() })
			return shelf{rootkms.BackendShelf(b), b}, nil
		},
		Again: func(s rootkms.Shelf) (rootkms.Shelf, error) { return rootkms.BackendShelf(s.(shelf).b), nil },
	})
}
