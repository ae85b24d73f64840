package pgrows_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/fieldcrypt/pgrows"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

const allCustomers = `SELECT created_at, plan, active, visits, id, first_name, "E-Mail", photo, birth_date, phone, street, country FROM customers ORDER BY id`

func TestCollectRows(t *testing.T) {
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mode(m), maxConns(1))
			ctx := within(t)
			want := []customer{w.create(ada()), w.create(ada())}
			rows, err := w.pool.Query(ctx, allCustomers)
			require.NoError(t, err)
			got, err := pgrows.CollectRows(ctx, rows, w.codec)
			require.NoError(t, err)
			require.Equal(t, want, got)

			w.exec("UPDATE customers SET first_name = 'oubli1.AAAA' WHERE id = 1")
			rows, err = w.pool.Query(ctx, allCustomers)
			require.NoError(t, err)
			got, err = pgrows.CollectRows(ctx, rows, w.codec)
			var bad *fieldcrypt.BatchError
			require.ErrorAs(t, err, &bad)
			require.Len(t, bad.Rows, 1)
			require.ErrorIs(t, err, keystore.ErrTampered)
			require.Len(t, got, 2)
			require.Equal(t, want[1], got[1], "the others are open")
			require.Equal(t, "oubli1.AAAA", got[0].FirstName)

			rows, err = w.pool.Query(ctx, "SELECT id, first_name FROM customers")
			require.NoError(t, err)
			_, err = pgrows.CollectRows(ctx, rows, w.codec)
			require.ErrorIs(t, err, keystore.ErrInvalid)
			require.ErrorContains(t, err, "field Mail has no column E-Mail")
			require.ErrorContains(t, err, "field Address.Street has no column")
			rows, err = w.pool.Query(ctx, "SELECT *, id AS id FROM customers")
			require.NoError(t, err)
			_, err = pgrows.CollectRows(ctx, rows, w.codec)
			require.ErrorContains(t, err, "column internal has no field")
			require.ErrorContains(t, err, "column id: field ID is another column already")

			rows, _ = w.pool.Query(ctx, "SELECT 1 / (visits - visits) FROM customers")
			_, err = pgrows.CollectRows(ctx, rows, w.codec)
			require.Error(t, err)
			require.NoError(t, w.pool.Ping(ctx), "the connection is free again")

			rows, err = w.pool.Query(ctx, "SELECT c.* FROM ("+allCustomers+") c WHERE false")
			require.NoError(t, err)
			got, err = pgrows.CollectRows(ctx, rows, w.codec)
			require.NoError(t, err)
			require.Empty(t, got)
		})
	}
}

// countingBackend counts the round trips to a keystore.
type countingBackend struct {
	keystore.Backend
	reads atomic.Int32
}

func (c *countingBackend) Get(ctx context.Context, keys [][]byte) ([]keystore.Record, error) {
	c.reads.Add(1)
	return c.Backend.Get(ctx, keys)
}

func TestOneRoundTripForAResult(t *testing.T) {
	backend, roots := &countingBackend{Backend: memstore.New()}, memstore.NewRoots()
	require.NoError(t, keystore.Create(within(t), backend, roots, &keystore.CreateOptions{Shards: 64}))
	open := func() *world {
		keys, err := keystore.Open(within(t), backend, roots, nil)
		require.NoError(t, err)
		return newWorldOn(t, sharedDSN(t), keys, maxConns(1))
	}
	w := open()
	ctx := within(t)
	table := people[int64](w, "bigint")
	for i := range int64(600) {
		_, err := table.Create(ctx, person[int64]{ID: i + 1, Name: "n"})
		require.NoError(t, err)
	}
	cold := open()
	codec, err := fieldcrypt.NewCodec[person[int64]](cold.keys, "people", nil)
	require.NoError(t, err)
	collect := func(condition string) (n int) {
		rows, err := w.pool.Query(ctx, fmt.Sprintf("SELECT id, name, tag FROM people%d WHERE %s", worlds.Load()-1, condition))
		require.NoError(t, err)
		got, err := pgrows.CollectRows(ctx, rows, codec)
		require.NoError(t, err)
		return len(got)
	}
	require.Equal(t, 300, collect("id <= 300")) // reads the keystore's pages, too
	before := backend.reads.Load()
	require.Equal(t, 300, collect("id > 300"))
	require.EqualValues(t, 1, backend.reads.Load()-before)
}

// kinds has columns of many types.
type kinds struct {
	ID      int64  `oubli:",subject=person"`
	Name    string `oubli:"name"`
	Privacy fieldcrypt.Status
	Small   int16
	Float   float64
	Words   []string
	When    time.Time
	Day     *time.Time
	Maybe   *int
	Text    *string
	Home    home // jsonb, with a personal field in it
	Raw     []byte
	Kind    kind
	Numeric string
}

type home struct {
	Street string `oubli:"street" json:"street"`
	City   string `json:"city"`
}

type kind string

func TestColumnsOfManyTypes(t *testing.T) {
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mode(m))
			ctx := within(t)
			w.exec(`CREATE TABLE kinds (id bigint PRIMARY KEY, name text, small smallint, float double precision, words text[], "when" timestamptz,
				day date, maybe integer, text varchar(10), home jsonb, raw bytea, kind text, "numeric" text)`)
			codec, err := fieldcrypt.NewCodec[kinds](w.keys, "kinds", nil)
			require.NoError(t, err)
			table, err := pgrows.New[kinds, int64](w.pool, codec, nil)
			require.NoError(t, err)
			day, seven, x := time.Date(2020, 2, 29, 0, 0, 0, 0, time.UTC), 7, "x"
			full := kinds{ID: 1, Name: "n", Small: -3, Float: 1.5, Words: []string{"a", "b"}, When: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
				Day: &day, Maybe: &seven, Text: &x, Home: home{"1 Main Street", "Delft"}, Raw: []byte{0, 1}, Kind: "k", Numeric: "12"}
			_, err = table.Create(ctx, full)
			require.NoError(t, err)
			got, err := table.Get(ctx, 1)
			require.NoError(t, err)
			got.When = got.When.UTC()
			full.Privacy = fieldcrypt.StatusOpen
			require.Equal(t, full, got)
			require.Contains(t, value[string](w, "SELECT home ->> 'street' FROM kinds"), "oubli1.")
			require.Equal(t, "Delft", value[string](w, "SELECT home ->> 'city' FROM kinds"))

			empty := kinds{ID: 2, When: full.When}
			_, err = table.Create(ctx, empty)
			require.NoError(t, err)
			got, err = table.Get(ctx, 2)
			require.NoError(t, err)
			got.When = got.When.UTC()
			empty.Privacy = fieldcrypt.StatusOpen
			require.Equal(t, empty, got)

			got, err = table.UpdateFields(ctx, 1, kinds{Home: home{"2 New Street", "Delft"}}, "street")
			require.NoError(t, err)
			require.Equal(t, home{"2 New Street", "Delft"}, got.Home)
			for _, err := range table.Find(ctx, map[string]any{"home": "x"}) {
				require.ErrorContains(t, err, "home is personal")
			}

			w.exec("UPDATE kinds SET kind = NULL WHERE id = 2")
			_, err = table.Get(ctx, 2)
			require.ErrorContains(t, err, "field Kind: cannot scan NULL")
			w.exec("UPDATE kinds SET name = NULL WHERE id = 1")
			_, err = table.Get(ctx, 1)
			require.ErrorContains(t, err, "field Name: invalid: the column is NULL, which a string cannot be: make the field a *string")
		})
	}
}
