// Package keystoretest gives applications a keystore in memory for their own tests: the
// real one, with nothing to install and nothing to wait for. Erasures are final at once.
// When the test ends it checks that every ring opens and that no root lives which
// should be dead.
package keystoretest

import (
	"context"
	"testing"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// New returns an empty keystore that lives as long as the test.
func New(t testing.TB) *keystore.Store {
	t.Helper()
	ctx := context.Background()
	backend, roots := memstore.New(), memstore.NewRoots()
	if err := keystore.Create(ctx, backend, roots, &keystore.CreateOptions{Shards: 64}); err != nil {
		t.Fatalf("create a keystore in memory: %v", err)
	}
	s, err := keystore.Open(ctx, backend, roots, nil)
	if err != nil {
		t.Fatalf("open a keystore in memory: %v", err)
	}
	t.Cleanup(func() {
		Check(t, s)
		if err := s.Close(); err != nil {
			t.Errorf("close the keystore: %v", err)
		}
	})
	return s
}

// Check verifies the whole keystore and fails the test for each problem.
func Check(t testing.TB, s *keystore.Store) {
	t.Helper()
	report, err := s.Verify(context.Background())
	if err != nil {
		t.Errorf("verify the keystore: %v", err)
	}
	for _, p := range report.Problems {
		t.Errorf("verify the keystore: %s", p)
	}
}
