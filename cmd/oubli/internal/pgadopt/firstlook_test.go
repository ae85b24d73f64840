package pgadopt_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/cmd/oubli/internal/datamap"
	"github.com/oubli/oubli/cmd/oubli/internal/pgadopt"
	"github.com/oubli/oubli/cmd/oubli/internal/pgmap"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// An application whose structs bind values to their row, and a map that doesn't: nothing is
// sealed that the application could not read, and the map can be corrected.
func TestMapThatTheStructsContradict(t *testing.T) {
	ctx := t.Context()
	keys := keystoretest.New(t)
	p := newPeople(t, pgtest.Shared(t).Database(t), keys, 50, 50, 0)
	right := p.config(keys)
	table := right.Tables[0]
	rows, err := table.Page(ctx, p.db, pgmap.PageOptions{Limit: 3})
	require.NoError(t, err)
	var cells [][]fieldcrypt.Cell
	for _, row := range rows {
		cells = append(cells, row.Cells)
	}
	_, err = p.codec.Adopt(ctx, cells)
	require.NoError(t, err)
	_, err = table.Save(ctx, p.db, rows, pgmap.SaveOptions{})
	require.NoError(t, err)
	plain := func() int64 {
		n, err := table.Count(ctx, p.db, pgmap.Plain)
		require.NoError(t, err)
		return n
	}
	require.EqualValues(t, 47, plain())

	data, err := datamap.Parse("map.yaml", []byte(strings.Replace(peopleMap, "key: id, ", "", 1)))
	require.NoError(t, err)
	wrong := right
	wrong.Tables = []*pgmap.Table{loadPeople(t, p.db, data)}
	_, err = pgadopt.Run(ctx, wrong)
	require.ErrorIs(t, err, keystore.ErrTampered)
	require.ErrorContains(t, err, "must be those of their structs")
	require.EqualValues(t, 47, plain(), "something was sealed")

	_, err = pgadopt.Run(ctx, right)
	require.NoError(t, err)
	require.Zero(t, plain())
}
