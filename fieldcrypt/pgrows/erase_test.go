package pgrows_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/fieldcrypt/pgrows"
)

// Anonymize extends the blanking of a customer's row, by a column and by a field's name.
func (c *customer) Anonymize() []string {
	c.Plan, c.Active = "closed", false
	return []string{"plan", "Active"}
}

func TestAnErasureOverTwoTables(t *testing.T) {
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mode(m), maxConns(1))
			ctx := within(t)
			c, other := w.create(ada()), w.create(ada())
			note := "left at the door"
			for range 2 {
				_, err := w.invoices.Create(ctx, invoice{Customer: c.ID, Text: "Ada, 1 Analytical Row", Note: &note, Total: 5})
				require.NoError(t, err)
			}
			kept, err := w.invoices.Create(ctx, invoice{Customer: other.ID, Text: "other"})
			require.NoError(t, err)

			eraser, err := anonymize.New(w.keys, nil)
			require.NoError(t, err)
			customers := anonymize.Register(eraser, w.codec, w.customers)
			invoices := anonymize.Register(eraser, w.invoiceC, w.invoices)
			var heard []string
			customers.PreAnonymize("newsletter", func(ctx context.Context, e anonymize.Erasure, c customer) error {
				heard = append(heard, *c.Mail)
				// Plaintext of the other table, and a statement on the same connection in the loop.
				for i, err := range invoices.Rows(ctx, e) {
					if err != nil {
						return err
					}
					if _, err := w.invoices.UpdateFields(ctx, i.No, invoice{Total: 6}, "total"); err != nil {
						return err
					}
					heard = append(heard, i.Text)
				}
				return nil
			})
			results, err := eraser.Anonymize(ctx, subj(t, "customer/1"))
			require.NoError(t, err)
			require.Equal(t, "erased", results[0].State)
			require.Equal(t, []string{"ada@example.org", "Ada, 1 Analytical Row", "Ada, 1 Analytical Row"}, heard)

			require.True(t, strings.HasPrefix(value[string](w, "SELECT first_name FROM customers WHERE id = 1"), "oubli1~"))
			require.True(t, strings.HasSuffix(value[string](w, "SELECT birth_date FROM customers WHERE id = 1"), "~1990"))
			require.True(t, strings.HasPrefix(string(value[[]byte](w, "SELECT street FROM customers WHERE id = 1")), "oubli1~"))
			require.Nil(t, value[*string](w, `SELECT "E-Mail" FROM customers WHERE id = 1`))
			require.Nil(t, value[[]byte](w, `SELECT photo FROM customers WHERE id = 1`))

			c, err = w.customers.Get(ctx, c.ID)
			require.NoError(t, err)
			require.Equal(t, fieldcrypt.StatusErased, c.Privacy)
			require.Equal(t, "Erased", c.FirstName)
			require.Equal(t, "GB", c.Country)
			require.Equal(t, "closed", c.Plan)
			require.False(t, c.Active)
			c.Visits = 12
			c, err = w.customers.Update(ctx, c)
			require.NoError(t, err, "the row is writable")
			require.Equal(t, 12, c.Visits)
			require.True(t, strings.HasSuffix(value[string](w, "SELECT birth_date FROM customers WHERE id = 1"), "~1990"), "and keeps what statistics may")

			for _, i := range all(t, w.invoices.Find(ctx, map[string]any{"customer_id": c.ID})) {
				require.Equal(t, "gone", i.Text)
				require.Nil(t, i.Note)
				require.EqualValues(t, 6, i.Total)
				i.Total = 7
				i, err = w.invoices.Update(ctx, i)
				require.NoError(t, err)
				require.EqualValues(t, 14, i.Gross)
			}
			got, err := w.customers.Get(ctx, other.ID)
			require.NoError(t, err)
			requireAda(t, got)
			i, err := w.invoices.Get(ctx, kept.No)
			require.NoError(t, err)
			require.Equal(t, kept, i)
		})
	}
}

func TestABlankWithABackslashInABytea(t *testing.T) {
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mode(m))
			ctx := within(t)
			w.exec("CREATE TABLE slashes (id bigint PRIMARY KEY, a bytea, b bytea)")
			type slashed struct {
				ID      int64                      `oubli:",subject=person"`
				A       string                     `oubli:"a,replace=\\x\\"`
				B       fieldcrypt.Private[string] `oubli:"b,blank=first:2"`
				Privacy fieldcrypt.Status
			}
			codec, err := fieldcrypt.NewCodec[slashed](w.keys, "slashes", nil)
			require.NoError(t, err)
			table, err := pgrows.New[slashed, int64](w.pool, codec, nil)
			require.NoError(t, err)
			_, err = table.Create(ctx, slashed{ID: 1, A: `\x`, B: fieldcrypt.NewPrivate(`\q rest`)})
			require.NoError(t, err)
			eraser, err := anonymize.New(w.keys, nil)
			require.NoError(t, err)
			anonymize.Register(eraser, codec, table)
			_, err = eraser.Anonymize(ctx, subj(t, "person/1"))
			require.NoError(t, err)
			got, err := table.Get(ctx, 1)
			require.NoError(t, err)
			require.Equal(t, `\x\`, got.A)
			left, _ := got.B.Get()
			require.Equal(t, `\q`, left)
		})
	}
}

func TestAReceiverThatFailsLeavesTheRows(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	c := w.create(ada())
	eraser, err := anonymize.New(w.keys, nil)
	require.NoError(t, err)
	customers := anonymize.Register(eraser, w.codec, w.customers)
	down := errors.New("the newsletter service is down")
	customers.PreAnonymize("newsletter", func(context.Context, anonymize.Erasure, customer) error { return down })
	_, err = eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.ErrorIs(t, err, down)
	require.Contains(t, value[string](w, "SELECT first_name FROM customers"), "oubli1.")
	require.NoError(t, eraser.Cancel(ctx, subj(t, "customer/1")))
	got, err := w.customers.Get(ctx, c.ID)
	require.NoError(t, err)
	require.Equal(t, c, got)
}

func TestTheErasureOfARowThatIsCommittedLate(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	w.create(ada())
	tx, err := w.pool.Begin(ctx)
	require.NoError(t, err)
	late, err := w.invoices.WithTx(tx).Create(ctx, invoice{Customer: 1, Text: "late"})
	require.NoError(t, err)
	eraser, err := anonymize.New(w.keys, nil)
	require.NoError(t, err)
	anonymize.Register(eraser, w.invoiceC, w.invoices)
	_, err = eraser.Anonymize(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.NoError(t, tx.Commit(ctx))
	got, err := w.invoices.Get(ctx, late.No)
	require.NoError(t, err)
	require.Equal(t, fieldcrypt.StatusErased, got.Privacy)
	require.Equal(t, "gone", got.Text)
}
