package pgadopt_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// What came between plan and widen is not converted to something else.
func TestWidenLooksAgain(t *testing.T) {
	for _, test := range []struct {
		sql  string
		want error
	}{
		{`INSERT INTO t VALUES (2, 'infinity')`, keystore.ErrInvalid},
		{`INSERT INTO t VALUES (2, '0044-03-15 BC')`, keystore.ErrInvalid},
		{`ALTER TABLE t ALTER born TYPE timestamptz; UPDATE t SET born = '2000-01-01 10:11:12Z'`, keystore.ErrConflict},
	} {
		w := newDDLWorld(t, pgtest.Shared(t), `CREATE TABLE t (id bigint PRIMARY KEY, born date); INSERT INTO t VALUES (1, '2000-01-01'), (3, NULL)`,
			`{tables: {t: {subject: person=id, personal: [born]}}}`)
		tables := w.tables()
		w.exec(test.sql)
		before := w.read()
		require.ErrorIs(t, pgadopt.Widen(t.Context(), w.pool, tables[0], nil), test.want)
		require.Equal(t, before, w.read())
	}
}

// Numbers and intervals come back to the last bit, whatever the role prefers to see.
func TestNumbersWhateverTheRolePrefers(t *testing.T) {
	w := newDDLWorld(t, pgtest.Shared(t), `CREATE TABLE t (id bigint PRIMARY KEY, x float8, y interval);
INSERT INTO t VALUES (1, 0.1::float8 + 0.2::float8, '-1 day +2:03:04'), (2, 'NaN', '1 mon -1 day'), (3, 1e-310, NULL)`,
		`{tables: {t: {subject: person=id, personal: [x, y]}}}`)
	before := w.read()
	name := w.pool.Config().ConnConfig.Database
	w.exec(`ALTER DATABASE ` + name + ` SET extra_float_digits = -10; ALTER DATABASE ` + name + ` SET intervalstyle = sql_standard`)
	w.pool.Reset()
	keys := keystoretest.New(t)
	w.widen()
	w.seal(keys)
	_, err := pgadopt.Undo(t.Context(), w.config(keys))
	require.NoError(t, err)
	w.exec(`ALTER DATABASE ` + name + ` RESET ALL`)
	w.pool.Reset()
	require.Equal(t, before, w.read())
}
