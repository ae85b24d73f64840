package pgstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
)

// What the suite makes of a pgstore whose guards are checked and then let go.
func TestTheSuiteCatchesUnlockedGuards(t *testing.T) {
	s := suite(t, pgtest.Shared(t).Database(t))
	locked := s.New
	s.New = func() (keystore.Backend, error) {
		b, err := locked()
		if err == nil {
			b.(*pgstore.Store).UnlockGuards()
		}
		return b, err
	}
	err := s.Check(t.Context())
	require.ErrorContains(t, err, "guard held until the commit: ")
}
