package pgadopt_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/internal/pgtest"
)

func TestDefinitionsComeBack(t *testing.T) {
	pgtest.EachVersion(t, func(t *testing.T, version int) {
		server := quickServer(t, version)
		for _, name := range []string{"definitions", "fights-back"} {
			t.Run(name, func(t *testing.T) {
				w := newDDLWorld(t, server, readTestdata(t, name+".sql"), readTestdata(t, name+".yaml"))
				definitions, dump := w.definitions(), w.dump()
				w.widen()
				require.NotEqual(t, definitions, w.definitions())
				widened := w.definitions()
				w.widen() // twice is once
				require.Equal(t, widened, w.definitions())
				w.putBack()
				require.Equal(t, definitions, w.definitions())
				require.Equal(t, dump, w.dump())
				require.Empty(t, w.phases())

				// Enforced, with nothing in the tables.
				for _, table := range w.tables() {
					w.exec("TRUNCATE " + table.Quoted + " CASCADE")
				}
				w.widen()
				w.enforce()
				for _, phase := range w.phases() {
					require.Equal(t, pgadopt.PhaseEnforced, phase)
				}
				w.putBack()
				require.Equal(t, definitions, w.definitions())
			})
		}
	})
}

func TestWhatChangedMeanwhileStays(t *testing.T) {
	w := newDDLWorld(t, pgtest.Shared(t), `
CREATE TABLE p (id int PRIMARY KEY, name varchar(10) DEFAULT 'a', born date DEFAULT current_date);
CREATE VIEW v AS SELECT name FROM p; CREATE VIEW gone AS SELECT name, born FROM p;`, `
tables:
  p: {subject: person=id, personal: [name, born]}`)
	w.widen()
	w.exec(`CREATE OR REPLACE VIEW v AS SELECT upper(name) AS name FROM p; DROP VIEW gone; CREATE VIEW more AS SELECT id, name FROM p;
ALTER TABLE p ALTER COLUMN name SET DEFAULT 'b'`)
	report := w.enforce()
	require.Empty(t, report.Left)
	w.putBack()
	var def, query string
	require.NoError(t, w.pool.QueryRow(context.Background(), `SELECT pg_get_expr(adbin, adrelid), pg_get_viewdef('v') FROM pg_attrdef WHERE adrelid = 'p'::regclass AND adnum = 2`).Scan(&def, &query))
	require.Equal(t, "'b'::text", def[:len("'b'::text")])
	require.Contains(t, query, "upper(")
	require.Contains(t, w.definitions(), "more")
	require.NotContains(t, w.definitions(), "gone")
}
