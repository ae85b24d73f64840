//go:build linux

package pgchaos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// sacrifice is a subject that nobody else uses.
const sacrifice = 999_999

// atRest looks at what is left when all processes have ended: a keystore that is whole,
// with one root, and every row of everybody who was not erased.
func atRest(t *testing.T, s *scene, v *verdict) {
	t.Helper()
	ctx := t.Context()
	keys, pool, err := connect(ctx, config{DSN: s.dsn, Roots: s.roots}, discard(t))
	require.NoError(t, err)
	defer pool.Close()
	defer keys.Close()

	// A root that a killed process made and named nowhere dies with the next advance.
	_, err = keys.Ensure(ctx, nil, []string{""}, subjectOf(sacrifice))
	require.NoError(t, err)
	es, err := keys.Erase(ctx, keystore.Request{Subject: subjectOf(sacrifice)})
	require.NoError(t, err)
	require.NoError(t, es[0].Err)
	require.True(t, es[0].Final)
	require.NoError(t, keys.Advance(ctx))

	h, err := keys.Health(ctx)
	require.NoError(t, err)
	require.Len(t, h.Roots, 1)
	require.Equal(t, "current", h.Roots[0].Role)
	require.False(t, h.Advancing)
	require.Zero(t, len(h.Unnamed)+len(h.Away)+h.Overdue+h.Pending+h.Restricted+h.Unadvanced+len(h.NotFinal), "%+v", h)
	report, err := keys.Verify(ctx)
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	roots, err := rootfile.New(s.roots, nil)
	require.NoError(t, err)
	living, err := roots.Load(ctx)
	require.NoError(t, err)
	require.Len(t, living.Living, 1)
	require.Equal(t, h.Roots[0].ID, living.Living[0].ID)
	for _, path := range s.roots {
		left, err := filepath.Glob(path + ".*-*") // .old- and .new-
		require.NoError(t, err)
		require.Empty(t, left)
	}

	for id := range v.gone {
		st, err := keys.Status(ctx, subjectOf(id))
		require.NoError(t, err)
		require.Equal(t, keystore.StateErased, st[0].State, id)
		require.True(t, st[0].Final, id)
		require.Empty(t, st[0].Keys, id)
	}
	codec, err := fieldcrypt.NewCodec[note](keys, "notes", nil)
	require.NoError(t, err)
	list, err := table{pool}.all(ctx)
	require.NoError(t, err)
	there := map[int64]bool{}
	var faults []string
	living2, dead := 0, 0
	for _, n := range list {
		there[n.Row] = true
		require.NoError(t, codec.Open(ctx, &n), "row %d", n.Row)
		_, isGone := v.gone[n.Subject]
		switch {
		case isGone && n.Privacy != fieldcrypt.StatusErased:
			faults = append(faults, "an erased subject's row reads "+string(n.Privacy))
		case isGone:
			dead++
		case v.doubt[n.Subject] == 0:
			living2++
			if fault := v.judgeRow(n); fault != "" {
				faults = append(faults, fault)
			}
			ks, err := keys.Lookup(ctx, nil, subjectOf(n.Subject))
			require.NoError(t, err)
			raw, err := openRaw(ks[0], n.Row, n.Raw)
			require.NoError(t, err, "row %d", n.Row)
			require.Equal(t, n.Text, raw)
		}
	}
	for row := range v.acked {
		require.True(t, there[row], "row %d was committed and is gone", row)
	}
	require.Empty(t, faults, "%s", strings.Join(faults, "\n"))
	t.Logf("%d rows of the living open, %d of the erased do not; %d rings verified", living2, dead, report.Rings)
	require.Positive(t, living2)
	require.Positive(t, dead)
}

func discard(t *testing.T) *journal {
	t.Helper()
	j, err := openJournal(os.DevNull)
	require.NoError(t, err)
	return j
}
