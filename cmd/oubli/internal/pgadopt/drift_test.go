package pgadopt_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// A table that was enforced, and whose columns somebody has given other types since, is
// not taken for enforced: that would be a promise that nothing keeps.
func TestEnforcedTableThatWasChanged(t *testing.T) {
	ctx := t.Context()
	w := newDDLWorld(t, pgtest.Shared(t), fiftySQL, fiftyMap)
	keys, before := keystoretest.New(t), w.read()
	w.widen()
	w.seal(keys)
	report := w.enforce()
	require.False(t, report.Tables[0].Already)
	first := report.LSN
	require.True(t, w.enforce().Tables[0].Already)

	w.exec(`ALTER TABLE t ALTER name TYPE varchar(200)`) // as a migration does
	w.exec(`UPDATE t SET name = 'Name 3' WHERE id = 3`)
	plan, err := pgadopt.MakePlan(ctx, w.pool, w.data)
	require.NoError(t, err)
	require.Empty(t, plan.Blocked())
	said := false
	for _, f := range plan.Findings {
		said = said || f.Level == pgadopt.Changes && f.Do == "oubli adopt run, and: oubli adopt enforce"
	}
	require.True(t, said, "%v", plan.Findings)

	_, err = pgadopt.Enforce(ctx, w.pool, w.tables(), pgadopt.EnforceOptions{})
	require.ErrorIs(t, err, keystore.ErrState)
	ran, err := pgadopt.Run(ctx, w.config(keys))
	require.NoError(t, err)
	require.EqualValues(t, 1, ran.Tables[0].Sealed)
	require.Equal(t, pgadopt.PhaseEnforced, ran.Tables[0].Phase)
	report = w.enforce()
	require.False(t, report.Tables[0].Already)
	require.NotEqual(t, first, report.LSN)
	require.Contains(t, report.Done[0], "analyzed")
	_, err = w.pool.Exec(ctx, `UPDATE t SET name = 'Name 3' WHERE id = 3`)
	require.Error(t, err)

	_, err = pgadopt.Undo(ctx, w.config(keys))
	require.NoError(t, err)
	require.Equal(t, before, w.read())
	var typ string
	require.NoError(t, w.pool.QueryRow(ctx, `SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'name'`).Scan(&typ))
	require.Equal(t, "text", typ)
}
