package pgrows_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

func TestUpdateFields(t *testing.T) {
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mode(m))
			ctx := within(t)
			c := w.create(ada())
			before := value[string](w, "SELECT birth_date FROM customers")

			mail := "new@example.org"
			c, err := w.customers.UpdateFields(ctx, c.ID, customer{Mail: &mail, Visits: 5, FirstName: "not named"}, "email", "visits", "email")
			require.NoError(t, err)
			require.Equal(t, &mail, c.Mail)
			require.Equal(t, 5, c.Visits)
			require.Equal(t, "Ada", c.FirstName)
			require.Equal(t, before, value[string](w, "SELECT birth_date FROM customers"), "others are left alone")

			c, err = w.customers.UpdateFields(ctx, c.ID, customer{}, "email", "first_name", "photo", "phone")
			require.NoError(t, err)
			require.Nil(t, c.Mail)
			require.Nil(t, c.Photo)
			require.Empty(t, c.FirstName)
			require.True(t, c.Phone.IsNull())
			require.Contains(t, value[string](w, "SELECT first_name FROM customers"), "oubli1.", "an empty text is sealed, too")

			empty := ""
			c, err = w.customers.UpdateFields(ctx, c.ID, customer{Mail: &empty, Photo: []byte{}, Phone: fieldcrypt.NewPrivate("")}, "email", "photo", "phone")
			require.NoError(t, err)
			require.Equal(t, &empty, c.Mail)
			require.NotNil(t, c.Photo)
			require.Equal(t, fieldcrypt.StatusOpen, c.Phone.Status())
			require.Equal(t, 1990, year(t, c))
		})
	}
}

func year(t testing.TB, c customer) int {
	born, ok := c.BirthDate.Get()
	require.True(t, ok)
	return born.Year()
}

func TestUpdateFieldsSealsForTheRowsPerson(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	i, err := w.invoices.Create(ctx, invoice{Customer: 3, Text: "one"})
	require.NoError(t, err)
	got, err := w.invoices.UpdateFields(ctx, i.No, invoice{Text: "two"}, "text")
	require.NoError(t, err)
	require.Equal(t, "two", got.Text)
	got, err = w.invoices.UpdateFields(ctx, i.No, invoice{Customer: 3, No: i.No, Text: "three"}, "text")
	require.NoError(t, err)
	require.Equal(t, "three", got.Text)

	_, err = w.invoices.UpdateFields(ctx, i.No, invoice{Customer: 4, Text: "four"}, "text")
	require.ErrorContains(t, err, "belongs to another person")
	_, err = w.invoices.UpdateFields(ctx, i.No, invoice{No: 99, Text: "four"}, "text")
	require.ErrorContains(t, err, "another id")
	got, err = w.invoices.Get(ctx, i.No)
	require.NoError(t, err)
	require.Equal(t, "three", got.Text)

	for column, want := range map[string]string{
		"customer_id": "names the person", "no": "part of the key", "invoice_no": "part of the key",
		"gross": "made by the database", "phantom": "no field",
	} {
		_, err := w.invoices.UpdateFields(ctx, i.No, got, "total", column)
		require.ErrorIs(t, err, keystore.ErrInvalid)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, column)
	}
	_, err = w.invoices.UpdateFields(ctx, i.No, got)
	require.ErrorContains(t, err, "no column is named")
}

func TestAWithheldRow(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	c := w.create(ada())
	require.NoError(t, joined(w.keys.Restrict(ctx, &keystore.RestrictOptions{Purposes: []string{"tax"}}, subj(t, "customer/1"))))
	c, err := w.customers.Get(ctx, c.ID)
	require.NoError(t, err)
	require.Equal(t, fieldcrypt.StatusWithheld, c.Privacy)
	require.Empty(t, c.FirstName)
	_, err = w.customers.Update(ctx, c)
	require.ErrorIs(t, err, keystore.ErrState, "what it lacks would be lost")
	_, err = w.customers.UpdateFields(ctx, c.ID, customer{FirstName: "x"}, "first_name")
	require.ErrorIs(t, err, keystore.ErrRestricted)
	c, err = w.customers.UpdateFields(ctx, c.ID, customer{Visits: 3}, "visits")
	require.NoError(t, err)
	require.Equal(t, 3, c.Visits)

	tax := keystore.WithPurpose(ctx, "tax")
	c, err = w.customers.UpdateFields(tax, c.ID, customer{Address: Address{Street: "2 New Street"}}, "street")
	require.NoError(t, err)
	require.Equal(t, "2 New Street", c.Street)
	require.Equal(t, "Ada", c.FirstName)
}

func TestSaveFields(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	i, err := w.invoices.Create(ctx, invoice{Customer: 3, Text: "one", Total: 4})
	require.NoError(t, err)
	stored := all(t, w.invoices.RowsOf(ctx, subj(t, "customer/3")))[0]
	w.exec("UPDATE " + w.invoiceTable().Sanitize() + " SET total = 100")
	stored.Note, stored.Total = nil, 7
	require.NoError(t, w.invoices.SaveFields(ctx, stored, []string{"note", "text"}))
	got, err := w.invoices.Get(ctx, i.No)
	require.NoError(t, err)
	require.EqualValues(t, 100, got.Total, "a column that is not named")
	require.Equal(t, "one", got.Text)

	other := stored
	other.Customer = 4
	require.NoError(t, w.invoices.SaveFields(ctx, other, []string{"total"}))
	other.No = 99
	require.NoError(t, w.invoices.SaveFields(ctx, other, []string{"total"}), "a row that is gone")
	got, err = w.invoices.Get(ctx, i.No)
	require.NoError(t, err)
	require.EqualValues(t, 100, got.Total, "a row that is somebody else's by now")

	w.exec("CREATE RULE stubborn AS ON UPDATE TO " + w.invoiceTable().Sanitize() + " DO INSTEAD NOTHING")
	require.ErrorIs(t, w.invoices.SaveFields(ctx, stored, []string{"total"}), keystore.ErrState, "blanking that does not happen is no success")

	require.ErrorContains(t, w.invoices.SaveFields(ctx, stored, []string{"phantom"}), "phantom")
	clear := customer{ID: 1, Phone: fieldcrypt.NewPrivate("x")}
	require.ErrorIs(t, w.customers.SaveFields(ctx, clear, []string{"phone"}), keystore.ErrInvalid)
}

// joined is the error of a call that is about one subject.
func joined(errs []error, err error) error { return errors.Join(append(errs, err)...) }
