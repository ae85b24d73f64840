package boltstore_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
	"github.com/oubli/oubli/keystore/storetest"
)

func TestSuite(t *testing.T) {
	storetest.Run(t, &storetest.Suite{
		New: func() (keystore.Backend, error) {
			return boltstore.Create(filepath.Join(t.TempDir(), "keys"), nil)
		},
		Reopen: func(b keystore.Backend) (keystore.Backend, error) {
			return boltstore.Open(strings.TrimPrefix(b.Name(), "bolt:"), nil)
		},
	})
}
