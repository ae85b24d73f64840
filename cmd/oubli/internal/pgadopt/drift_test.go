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

// A dump of before that was restored over an adopted database: the bookkeeping, which the
// dump has not, is found to be stale, and the way in and the way out are open again.
func TestTableThatCameBackFromBefore(t *testing.T) {
	ctx := t.Context()
	for _, phase := range []pgadopt.Phase{pgadopt.PhaseWidened, pgadopt.PhaseEnforced, pgadopt.PhaseUndoing} {
		t.Run(string(phase), func(t *testing.T) {
			const sql = `CREATE TABLE t (id int PRIMARY KEY, name varchar(20) CHECK (name <> 'x'), born date);
INSERT INTO t VALUES (1, 'one', '2001-01-01'), (2, 'two', NULL)`
			w := newDDLWorld(t, pgtest.Shared(t), sql, `{tables: {t: {subject: p=id, personal: [name, {born: {type: date}}]}}}`)
			keys, before := keystoretest.New(t), w.read()
			w.widen()
			if phase == pgadopt.PhaseEnforced {
				w.seal(keys)
				w.enforce()
			}
			if phase == pgadopt.PhaseUndoing {
				require.NoError(t, pgadopt.Reopen(ctx, w.pool, w.tables()[0]))
			}
			w.exec(`DROP TABLE t; ` + sql)

			plan, err := pgadopt.MakePlan(ctx, w.pool, w.data)
			require.NoError(t, err)
			require.Empty(t, plan.Blocked())
			require.Equal(t, pgadopt.PhaseNone, plan.Tables[0].Phase)
			if phase == pgadopt.PhaseUndoing {
				report, err := pgadopt.Undo(ctx, w.config(keys))
				require.NoError(t, err)
				require.Equal(t, pgadopt.PhaseNone, report.Tables[0].Phase)
				require.Equal(t, before, w.read())
			}
			w.widen()
			w.seal(keys)
			require.False(t, w.enforce().Tables[0].Already)
			_, err = pgadopt.Undo(ctx, w.config(keys))
			require.NoError(t, err)
			require.Equal(t, before, w.read())
			_, err = w.pool.Exec(ctx, `INSERT INTO t VALUES (3, 'x', NULL)`)
			require.Error(t, err, "the check is back")
		})
	}
}

// Bookkeeping that somebody else made, before oubli could, is not believed: undo runs what
// stands in it.
func TestForeignBookkeeping(t *testing.T) {
	ctx := t.Context()
	w := newDDLWorld(t, pgtest.Shared(t), `CREATE TABLE t (id int PRIMARY KEY, name varchar(20))`, `{tables: {t: {subject: p=id, personal: [name]}}}`)
	w.widen()
	_, err := pgadopt.Records(ctx, w.pool)
	require.NoError(t, err)
	w.exec(`DO $$ BEGIN CREATE ROLE mallory; EXCEPTION WHEN duplicate_object THEN END $$`)
	for _, what := range []string{"SCHEMA oubli_adopt", "TABLE oubli_adopt.saved", "DOMAIN oubli_adopt.sealed_text"} {
		w.exec("ALTER " + what + " OWNER TO mallory")
		_, err := pgadopt.Records(ctx, w.pool)
		require.ErrorIs(t, err, keystore.ErrInvalid, what)
		require.ErrorContains(t, err, "belongs to a role")
		w.exec("ALTER " + what + " OWNER TO postgres")
	}
	_, err = pgadopt.Records(ctx, w.pool)
	require.NoError(t, err)
}
