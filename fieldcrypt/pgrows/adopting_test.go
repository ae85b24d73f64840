package pgrows_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/fieldcrypt/pgrows"
	"github.com/oubli/oubli/keystore"
)

// adopting gives the customers' table a codec to which plaintext is welcome.
func (w *world) adopting() (*fieldcrypt.Codec[customer], *pgrows.Table[customer, int64]) {
	w.t.Helper()
	codec, err := fieldcrypt.NewCodec[customer](w.keys, "customers", &fieldcrypt.Options{
		Adopting: []string{"first_name", "email", "photo", "birth_date", "phone", "street"}})
	require.NoError(w.t, err)
	table, err := pgrows.New[customer, int64](w.pool, codec, nil)
	require.NoError(w.t, err)
	return codec, table
}

// plaintext inserts Ada as a program did that knew nothing of oubli, n times.
func (w *world) plaintext(n int) {
	w.t.Helper()
	w.exec(fmt.Sprintf(`INSERT INTO customers (first_name, "E-Mail", photo, birth_date, phone, street, country, active, visits)
		SELECT 'Ada', 'ada@example.org', '\x00ff07', '1990-05-17', convert_to('+31 \x 7', 'UTF8'), convert_to('1 Analytical Row', 'UTF8'), 'GB', true, 1
		FROM generate_series(1, %d)`, n))
}

func TestPlaintextThatIsBeingAdopted(t *testing.T) {
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mode(m))
			ctx := within(t)
			codec, table := w.adopting()
			require.NoError(t, table.Check(ctx))
			w.plaintext(5)

			c, err := table.Get(ctx, 1)
			require.NoError(t, err)
			requireAda(t, c)
			require.EqualValues(t, 1, codec.Plaintext()["birth_date"])
			_, err = w.customers.Get(ctx, 1)
			require.ErrorIs(t, err, keystore.ErrTampered, "only where it is declared")
			for _, c := range all(t, table.List(ctx)) {
				requireAda(t, c)
			}
			for _, c := range all(t, table.Find(ctx, map[string]any{"country": "GB"})) {
				requireAda(t, c)
			}
			rows, err := w.pool.Query(ctx, `SELECT id, first_name, "E-Mail", photo, birth_date, phone, street, country, created_at, plan, active, visits FROM customers`)
			require.NoError(t, err)
			collected, err := pgrows.CollectRows(ctx, rows, codec)
			require.NoError(t, err)
			for _, c := range collected {
				requireAda(t, c)
			}
			require.EqualValues(t, 1+3*5, codec.Plaintext()["phone"])

			// Whatever is written is sealed: whole rows, single columns, new rows.
			c.Visits = 2
			c, err = table.Update(ctx, c)
			require.NoError(t, err)
			requireAda(t, c)
			c, err = table.UpdateFields(ctx, 2, customer{FirstName: "Ada", Phone: fieldcrypt.NewPrivate(`+31 \x 7`)}, "first_name", "phone")
			require.NoError(t, err)
			requireAda(t, c)
			_, err = table.UpdateFields(ctx, 3, customer{Plan: "gold"}, "plan")
			require.NoError(t, err)
			c, err = table.Create(ctx, ada())
			require.NoError(t, err)
			requireAda(t, c)
			sealed := func(id int64) (columns string) {
				return value[string](w, `SELECT concat_ws(' ',
					CASE WHEN first_name LIKE 'oubli1.%' THEN 'first_name' END, CASE WHEN "E-Mail" LIKE 'oubli1.%' THEN 'email' END,
					CASE WHEN substr(photo, 1, 1) = '\xb1' THEN 'photo' END, CASE WHEN birth_date LIKE 'oubli1.%' THEN 'birth_date' END,
					CASE WHEN substr(phone, 1, 7) = 'oubli1.' THEN 'phone' END, CASE WHEN substr(street, 1, 7) = 'oubli1.' THEN 'street' END)
					FROM customers WHERE id = $1`, id)
			}
			const every = "first_name email photo birth_date phone street"
			require.Equal(t, []string{every, "first_name phone", "", every}, []string{sealed(1), sealed(2), sealed(3), sealed(6)})
			for _, c := range all(t, table.List(ctx)) {
				requireAda(t, c)
			}

			// A person who is erased, with plaintext in some columns.
			_, err = w.keys.Erase(ctx, keystore.Request{Subject: subj(t, "customer/2")})
			require.NoError(t, err)
			c, err = table.Get(ctx, 2)
			require.NoError(t, err)
			require.Equal(t, "Erased", c.FirstName)
			require.Equal(t, fieldcrypt.StatusErased, c.BirthDate.Status())
			c, err = table.Update(ctx, c)
			require.NoError(t, err)
			require.Equal(t, "Erased", c.FirstName)
			require.Regexp(t, "^oubli1~", value[string](w, "SELECT birth_date FROM customers WHERE id = 2"), "not the date")
			require.Empty(t, value[string](w, `SELECT coalesce("E-Mail", '') FROM customers WHERE id = 2`))

			// One who is restricted: the row cannot be written as a whole, nothing leaks or is lost.
			w.plaintext(1)
			_, err = w.keys.Ensure(ctx, nil, []string{""}, subj(t, "customer/7"))
			require.NoError(t, err)
			require.NoError(t, joined(w.keys.Restrict(ctx, nil, subj(t, "customer/7"))))
			c, err = table.Get(ctx, 7)
			require.NoError(t, err)
			require.Equal(t, fieldcrypt.StatusWithheld, c.Privacy)
			_, err = table.Update(ctx, c)
			require.ErrorIs(t, err, keystore.ErrState)
			_, err = table.UpdateFields(ctx, 7, c, "birth_date")
			require.ErrorIs(t, err, keystore.ErrRestricted)
			_, err = table.UpdateFields(ctx, 7, customer{Visits: 4}, "visits")
			require.NoError(t, err)
			require.Equal(t, "1990-05-17", value[string](w, "SELECT birth_date FROM customers WHERE id = 7"))

			// Blanking takes plaintext, too.
			reveal, end, err := w.keys.Reveal(ctx, subj(t, "customer/3"))
			require.NoError(t, err)
			defer end()
			for row, err := range table.RowsOf(ctx, subj(t, "customer/3")) {
				require.NoError(t, err)
				columns, err := codec.Blank(reveal, &row, nil)
				require.NoError(t, err)
				require.Equal(t, strings.Fields(every), columns)
				require.NoError(t, table.SaveFields(ctx, row, columns))
			}
			require.Regexp(t, "^oubli1~.*~1990$", value[string](w, "SELECT birth_date FROM customers WHERE id = 3"))
			require.Regexp(t, "^oubli1~.*~$", string(value[[]byte](w, "SELECT street FROM customers WHERE id = 3")))
		})
	}
}

// Empty is not NULL, and both come back as they were, from bytes and from text.
func TestEmptyColumnsThatAreBeingAdopted(t *testing.T) {
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mode(m))
			ctx := within(t)
			_, table := w.adopting()
			w.exec(`INSERT INTO customers (first_name, "E-Mail", photo, phone, street, country) VALUES ('', '', '', '', '', ''), ('', NULL, NULL, NULL, '', '')`)
			for range 2 { // as plaintext, and sealed
				empty, err := table.Get(ctx, 1)
				require.NoError(t, err)
				require.Equal(t, "", *empty.Mail)
				require.Equal(t, []byte{}, empty.Photo)
				phone, ok := empty.Phone.Get()
				require.True(t, ok)
				require.Empty(t, phone)
				require.True(t, empty.BirthDate.IsNull())
				null, err := table.Get(ctx, 2)
				require.NoError(t, err)
				require.Nil(t, null.Mail)
				require.Nil(t, null.Photo)
				require.True(t, null.Phone.IsNull())
				_, err = table.Update(ctx, empty)
				require.NoError(t, err)
				_, err = table.Update(ctx, null)
				require.NoError(t, err)
			}
			require.Equal(t, 33, value[int](w, "SELECT length(photo) FROM customers WHERE id = 1"))
		})
	}
}

// What a data map sealed in a bytea is binary, whatever a program's field is there.
func TestBinaryEnvelopesOfADataMap(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	w.plaintext(1)
	codec, err := fieldcrypt.NewRowCodec(w.keys, fieldcrypt.Spec{Table: "customers", Kind: "customer", SubjectColumn: "id", Fields: []fieldcrypt.FieldSpec{
		{Name: "first_name"}, {Name: "email"}, {Name: "birth_date"},
		{Name: "photo", Binary: true}, {Name: "phone", Binary: true}, {Name: "street", Binary: true, Purpose: "tax"},
	}}, &fieldcrypt.Options{Adopting: []string{"first_name", "email", "birth_date", "photo", "phone", "street"}})
	require.NoError(t, err)
	bound, err := codec.Bind([]string{"id", "first_name", "email", "birth_date", "photo", "phone", "street"})
	require.NoError(t, err)
	var first, mail, born string
	var photo, phone, street []byte
	require.NoError(t, w.pool.QueryRow(ctx, `SELECT first_name, "E-Mail", birth_date, photo, phone, street FROM customers`).Scan(&first, &mail, &born, &photo, &phone, &street))
	row := []fieldcrypt.Cell{{Text: "1"}, {Text: first}, {Text: mail}, {Text: born}, {Text: string(photo)}, {Text: string(phone)}, {Text: string(street)}}
	_, err = bound.Adopt(ctx, [][]fieldcrypt.Cell{row})
	require.NoError(t, err)
	_, err = w.pool.Exec(ctx, `UPDATE customers SET first_name = $1, "E-Mail" = $2, birth_date = $3, photo = $4, phone = $5, street = $6`,
		row[1].Text, row[2].Text, row[3].Text, []byte(row[4].Text), []byte(row[5].Text), []byte(row[6].Text))
	require.NoError(t, err)
	require.Equal(t, byte(0xB1), value[[]byte](w, "SELECT phone FROM customers")[0])

	c, err := w.customers.Get(ctx, 1) // it adopts nothing
	require.NoError(t, err)
	requireAda(t, c)
	require.Equal(t, time.May, func() time.Month { b, _ := c.BirthDate.Get(); return b.Month() }())
	_, err = w.keys.Erase(ctx, keystore.Request{Subject: subj(t, "customer/1")})
	require.NoError(t, err)
	c, err = w.customers.Get(ctx, 1)
	require.NoError(t, err)
	_, err = w.customers.Update(ctx, c)
	require.NoError(t, err)
}
