package pgrows_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/fieldcrypt/pgrows"
	"github.com/oubli/oubli/keystore"
)

// guard makes personal columns of the customers take nothing but envelopes, blanks and
// NULL, by domains.
func (w *world) guard() {
	w.t.Helper()
	text, bytes := w.schema+".sealed_text", w.schema+".sealed_bytes"
	w.exec(
		fmt.Sprintf(`CREATE DOMAIN %s AS text CHECK (VALUE ~ '^oubli1[.~]')`, text),
		fmt.Sprintf(`CREATE DOMAIN %s AS bytea CHECK (substr(VALUE, 1, 1) = '\xb1' OR substr(VALUE, 1, 7) IN ('oubli1.', 'oubli1~'))`, bytes),
		fmt.Sprintf(`ALTER TABLE customers ALTER first_name TYPE %s, ALTER "E-Mail" TYPE %[1]s, ALTER birth_date TYPE %[1]s,
			ALTER photo TYPE %s, ALTER phone TYPE %[2]s, ALTER street TYPE %[2]s`, text, bytes),
		fmt.Sprintf(`ALTER TABLE "%s billing"."Invoices" ALTER "Billing Text" TYPE %s, ALTER note TYPE %[2]s`, w.schema, text),
	)
}

func TestColumnsOfADomain(t *testing.T) {
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mode(m))
			w.guard()
			ctx := within(t)
			require.NoError(t, w.customers.Check(ctx))
			require.NoError(t, w.invoices.Check(ctx))
			for range 2 { // the second time statements are cached
				c := w.create(ada())
				requireAda(t, c)
				got, err := w.customers.Get(ctx, c.ID)
				require.NoError(t, err)
				require.Equal(t, c, got)
				mail := "countess@example.org"
				got.FirstName, got.Mail, got.Photo, got.Street = "Augusta", &mail, []byte{9}, "2 Row"
				got.Phone = fieldcrypt.NewPrivate(`+1 \x`)
				updated, err := w.customers.Update(ctx, got)
				require.NoError(t, err)
				require.Equal(t, "Augusta", updated.FirstName)
				require.Equal(t, []byte{9}, updated.Photo)
				require.Equal(t, "2 Row", updated.Street)
				c = updated
				c.Mail, c.Photo, c.Street, c.FirstName = nil, nil, "3 Row", "Ada"
				c, err = w.customers.UpdateFields(ctx, c.ID, c, "email", "photo", "street", "first_name", "phone", "birth_date")
				require.NoError(t, err)
				require.Nil(t, c.Mail)
				require.Nil(t, c.Photo)
				require.Equal(t, "3 Row", c.Street)
				phone, ok := c.Phone.Get()
				require.True(t, ok)
				require.Equal(t, `+1 \x`, phone)
				born, ok := c.BirthDate.Get()
				require.True(t, ok)
				require.Equal(t, 1990, born.Year())

				note := "note"
				i, err := w.invoices.Create(ctx, invoice{Customer: c.ID, Text: "text", Note: &note, Total: 3})
				require.NoError(t, err)
				require.Equal(t, "text", i.Text)
				require.Equal(t, &note, i.Note)
				found := all(t, w.invoices.Find(ctx, map[string]any{"customer_id": c.ID}))
				require.Equal(t, []invoice{i}, found)
			}
			listed := all(t, w.customers.List(ctx))
			require.Len(t, listed, 2)
			rows, err := w.pool.Query(ctx, "SELECT id, first_name, \"E-Mail\", photo, birth_date, phone, street, country, created_at, plan, active, visits FROM customers ORDER BY id")
			require.NoError(t, err)
			collected, err := pgrows.CollectRows(ctx, rows, w.codec)
			require.NoError(t, err)
			require.Equal(t, listed, collected)

			// What is blanked is taken as well.
			_, err = w.keys.Erase(ctx, keystore.Request{Subject: subj(t, "customer/1")})
			require.NoError(t, err)
			for row, err := range w.customers.RowsOf(ctx, subj(t, "customer/1")) {
				require.NoError(t, err)
				columns, err := w.codec.Blank(ctx, &row, nil)
				require.NoError(t, err)
				require.NoError(t, w.customers.SaveFields(ctx, row, columns))
			}
			require.Regexp(t, "^oubli1~.*~Erased$", value[string](w, "SELECT first_name FROM customers WHERE id = 1"))
			c, err := w.customers.Get(ctx, 1)
			require.NoError(t, err)
			require.Equal(t, "Erased", c.FirstName)
			c.Visits = 12
			c, err = w.customers.Update(ctx, c)
			require.NoError(t, err)
			require.Equal(t, 12, c.Visits)

			// What is not sealed is refused without a word of it.
			_, err = w.pool.Exec(ctx, "UPDATE customers SET first_name = $1 WHERE id = 2", "Lovelace")
			requireRefused(t, err)
			_, err = w.pool.Exec(ctx, "UPDATE customers SET street = $1 WHERE id = 2", []byte("Lovelace"))
			requireRefused(t, err)
		})
	}
}

// requireRefused checks that the domain has refused something.
func requireRefused(t *testing.T, err error) {
	t.Helper()
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Equal(t, "23514", pg.Code)
	require.NotContains(t, fmt.Sprintf("%+v", pg), "Lovelace")
}

// Fields that a program writes and reads by itself, without pgrows.
func TestDomainsThroughPgx(t *testing.T) {
	codec := noteCodec(t)
	sealed, err := codec.Seal(within(t), aNote())
	require.NoError(t, err)
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			w := newWorld(t, mode(m))
			w.guard()
			_, err := w.pool.Exec(ctx, `CREATE TABLE notes (id bigint PRIMARY KEY, in_text sealed_text, in_bytea sealed_bytes,
				"null" sealed_text, word sealed_text, pointer sealed_text, "binary" sealed_bytes)`)
			require.NoError(t, err)
			for range 2 {
				_, err = w.pool.Exec(ctx, insertNote, sealed.ID, sealed.InText, sealed.InBytea, sealed.Null, sealed.Word, sealed.Pointer, sealed.Binary)
				require.NoError(t, err)
				rows, err := w.pool.Query(ctx, selectNote, 1)
				require.NoError(t, err)
				n, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[note])
				require.NoError(t, err)
				requireNote(t, codec, n)
				_, err = w.pool.Exec(ctx, "DELETE FROM notes")
				require.NoError(t, err)
			}
		})
	}
}
