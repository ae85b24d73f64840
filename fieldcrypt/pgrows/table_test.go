package pgrows_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

var modes = map[string]pgx.QueryExecMode{
	"cache_statement": pgx.QueryExecModeCacheStatement,
	"cache_describe":  pgx.QueryExecModeCacheDescribe,
	"describe_exec":   pgx.QueryExecModeDescribeExec,
	"exec":            pgx.QueryExecModeExec,
	"simple_protocol": pgx.QueryExecModeSimpleProtocol,
}

func TestARowThereAndBack(t *testing.T) {
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mode(m))
			ctx := within(t)
			made := w.create(ada())
			requireAda(t, made)
			require.EqualValues(t, 1, made.ID, "drawn")
			require.WithinDuration(t, time.Now(), made.CreatedAt, time.Minute, "the default")
			require.Equal(t, "basic", made.Plan, "the default")

			require.True(t, strings.HasPrefix(value[string](w, "SELECT first_name FROM customers"), "oubli1."))
			require.True(t, strings.HasPrefix(value[string](w, `SELECT "E-Mail" FROM customers`), "oubli1."))
			require.True(t, strings.HasPrefix(value[string](w, "SELECT birth_date FROM customers"), "oubli1."))
			require.Equal(t, byte(0xB1), value[[]byte](w, "SELECT photo FROM customers")[0], "a []byte is a binary envelope")
			require.True(t, strings.HasPrefix(string(value[[]byte](w, "SELECT phone FROM customers")), "oubli1."))
			require.True(t, strings.HasPrefix(string(value[[]byte](w, "SELECT street FROM customers")), "oubli1."))

			got, err := w.customers.Get(ctx, made.ID)
			require.NoError(t, err)
			requireAda(t, got)
			require.Equal(t, made, got)

			got.FirstName, got.Mail, got.Visits, got.Country = "Augusta", nil, 0, "FR"
			updated, err := w.customers.Update(ctx, got)
			require.NoError(t, err)
			require.Equal(t, "Augusta", updated.FirstName)
			require.Nil(t, updated.Mail)
			require.Zero(t, updated.Visits)
			require.Equal(t, "FR", updated.Country)
			require.Equal(t, made.CreatedAt, updated.CreatedAt)

			listed := all(t, w.customers.List(ctx))
			require.Equal(t, []customer{updated}, listed)

			require.NoError(t, w.customers.Delete(ctx, made.ID))
			_, err = w.customers.Get(ctx, made.ID)
			require.ErrorIs(t, err, pgx.ErrNoRows)
		})
	}
}

func TestNotFound(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	check := func(what string, err error) {
		t.Helper()
		require.ErrorIs(t, err, pgx.ErrNoRows, what)
		require.NotErrorIs(t, err, keystore.ErrNotFound, "that is a keystore which is not there")
		require.ErrorContains(t, err, what+` "customers"`)
	}
	_, err := w.customers.Get(ctx, 7)
	check("get", err)
	c := ada()
	c.ID = 7
	_, err = w.customers.Update(ctx, c)
	check("update", err)
	_, err = w.customers.UpdateFields(ctx, 7, c, "plan")
	check("update", err)
	_, err = w.customers.UpdateFields(ctx, 7, c, "first_name")
	check("update", err)
	check("delete", w.customers.Delete(ctx, 7))
	_, err = w.invoices.UpdateFields(ctx, 7, invoice{Text: "x"}, "text")
	require.ErrorIs(t, err, pgx.ErrNoRows)
}

func TestRowsOfTheErasedStayWritable(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	c := w.create(ada())
	_, err := w.keys.Erase(ctx, keystore.Request{Subject: subj(t, "customer/1")})
	require.NoError(t, err)

	c, err = w.customers.Get(ctx, c.ID)
	require.NoError(t, err)
	require.Equal(t, fieldcrypt.StatusErased, c.Privacy)
	require.Equal(t, "Erased", c.FirstName)
	c.Visits = 99
	c, err = w.customers.Update(ctx, c)
	require.NoError(t, err)
	require.Equal(t, 99, c.Visits)
	require.Equal(t, "Erased", c.FirstName)

	c.FirstName = "Bob"
	_, err = w.customers.Update(ctx, c)
	require.ErrorIs(t, err, keystore.ErrErased)
	_, err = w.customers.UpdateFields(ctx, c.ID, c, "first_name")
	require.ErrorIs(t, err, keystore.ErrErased)
	c, err = w.customers.UpdateFields(ctx, c.ID, customer{Visits: 100}, "visits")
	require.NoError(t, err)
	require.Equal(t, 100, c.Visits)
	require.Equal(t, fieldcrypt.StatusErased, c.Privacy)
}
