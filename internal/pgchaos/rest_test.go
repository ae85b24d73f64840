//go:build linux

package pgchaos

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/crew"
)

// atRest looks at what is left when all processes have ended.
func atRest(t *testing.T, s *scene, v *crew.Verdict) {
	t.Helper()
	keys, err := s.open(t)
	require.NoError(t, err)
	defer keys.Close()
	roots, err := openRoots(crew.Config{Roots: s.roots}, nil)
	require.NoError(t, err)
	rest, err := crew.AtRest(t.Context(), keys, roots, s.dsn, v)
	require.NoError(t, err)
	require.Empty(t, rest.Faults, "%s", strings.Join(rest.Faults, "\n"))
	for _, path := range s.roots {
		left, err := filepath.Glob(path + ".*-*") // .old- and .new-
		require.NoError(t, err)
		require.Empty(t, left)
	}
	t.Logf("%d rows of the living open, %d of the erased do not; %d rings verified", rest.Living, rest.Erased, rest.Rings)
	require.Positive(t, rest.Living)
	require.Positive(t, rest.Erased)
}
