package pgadopt_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
)

// From version 18 on, a column can be NOT NULL for new rows alone: it finds no others.
func TestKeyThatIsNotNullFromNowOn(t *testing.T) {
	pgtest.EachVersion(t, func(t *testing.T, version int) {
		if version < 18 {
			return
		}
		w := newDDLWorld(t, quickServer(t, version), `CREATE TABLE t (id int UNIQUE, name text); INSERT INTO t VALUES (1, 'x'), (NULL, 'y');
ALTER TABLE t ADD CONSTRAINT n NOT NULL id NOT VALID`, `{tables: {t: {subject: person=id, personal: [name]}}}`)
		require.Empty(t, w.tables()[0].Key)
		w.exec(`DELETE FROM t WHERE id IS NULL; ALTER TABLE t VALIDATE CONSTRAINT n`)
		require.Len(t, w.tables()[0].Key, 1)
	})
}
