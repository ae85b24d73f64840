package pgadopt_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// A table that was sealed in part is not gone on with under another map, or with another
// keystore: no map and no keystore would open all of it.
func TestRunWithSomethingElse(t *testing.T) {
	ctx := t.Context()
	w := newDDLWorld(t, pgtest.Shared(t), fiftySQL, fiftyMap)
	keys, before := keystoretest.New(t), w.read()
	w.widen()
	w.seal(keys)
	w.exec(`UPDATE t SET name = 'Name 3' WHERE id = 3`)
	stored := w.read()
	for _, test := range []struct{ data, want string }{
		{fiftyMap, "the keystore"},
		{`{tables: {t: {subject: person=id, personal: [{alias: {db: name}}, photo]}}}`, "column name under the name name, and it is alias"},
		{`{tables: {t: {subject: person=id, personal: [{name: {purpose: tax}}, photo]}}}`, `column name for the purpose "", and it is "tax"`},
		{`{tables: {t: {subject: person=id, key: id, personal: [name, photo]}}}`, "a key:"},
		{`{tables: {t: {subject: human=id, personal: [name, photo]}}}`, "the kind person"},
		{`{tables: {t: {subject: person=id, personal: [name]}}}`, `column "photo" of table "t" was adopted`},
	} {
		data, err := datamap.Parse("map.yaml", []byte(test.data))
		require.NoError(t, err)
		tables, err := pgmap.Load(ctx, w.pool, data)
		require.NoError(t, err)
		c := pgadopt.Config{DB: w.pool, Keys: keys, Tables: tables}
		if test.data == fiftyMap {
			c.Keys = keystoretest.New(t)
		}
		_, err = pgadopt.Run(ctx, c)
		require.ErrorIs(t, err, keystore.ErrInvalid)
		require.ErrorContains(t, err, test.want)
		_, err = pgadopt.Undo(ctx, c)
		require.ErrorIs(t, err, keystore.ErrInvalid)
		require.ErrorContains(t, err, test.want)
		require.Equal(t, stored, w.read())
	}
	w.seal(keys)
	w.enforce()
	_, err := pgadopt.Undo(ctx, w.config(keys))
	require.NoError(t, err)
	require.Equal(t, before, w.read())
}
