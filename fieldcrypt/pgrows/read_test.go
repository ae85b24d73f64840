package pgrows_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/fieldcrypt/pgrows"
	"github.com/oubli/oubli/keystore"
)

func TestListReadsPageByPage(t *testing.T) {
	q := &traced{}
	w := newWorld(t, q.trace, maxConns(1))
	ctx := within(t)
	table := people[int64](w, "bigint")
	const n = 2*1024 + 100
	var rows [][]any
	codec, err := fieldcrypt.NewCodec[person[int64]](w.keys, "people", nil)
	require.NoError(t, err)
	var plain []person[int64]
	for i := range int64(n) {
		plain = append(plain, person[int64]{ID: 3 * (n - i), Name: fmt.Sprint("name ", 3*(n-i))})
	}
	sealed, err := codec.SealAll(ctx, plain...)
	require.NoError(t, err)
	for _, p := range sealed {
		rows = append(rows, []any{p.ID, p.Name, "x"})
	}
	name := fmt.Sprintf("people%d", worlds.Load())
	_, err = w.pool.CopyFrom(ctx, pgx.Identifier{name}, []string{"id", "name", "tag"}, pgx.CopyFromRows(rows))
	require.NoError(t, err)

	require.NoError(t, table.Check(ctx))
	q.drain()
	last, seen := int64(0), 0
	for p, err := range table.List(ctx) {
		require.NoError(t, err)
		require.Greater(t, p.ID, last, "in the order of the key")
		require.Equal(t, fmt.Sprint("name ", p.ID), p.Name)
		last = p.ID
		if seen++; seen%500 == 0 {
			// The one connection is free while the loop's body runs.
			_, err := table.UpdateFields(ctx, p.ID, person[int64]{Tag: "seen"}, "tag")
			require.NoError(t, err)
		}
	}
	require.Equal(t, n, seen)
	require.Len(t, q.drain(), 3+4)

	for range table.List(ctx) {
		break
	}
	require.Len(t, q.drain(), 1)
	found := all(t, table.Find(ctx, map[string]any{"tag": "seen"}))
	require.Len(t, found, 4)

	var ids []int64
	for i := range int64(1500) {
		ids = append(ids, 3*(i+1))
	}
	require.Equal(t, 1500-3, len(all(t, table.Find(ctx, map[string]any{"id": ids, "tag": "x"}))))
}

func TestFind(t *testing.T) {
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			q := &traced{}
			w := newWorld(t, q.trace, mode(m))
			ctx := within(t)
			c := w.create(ada())
			french := ada()
			french.Country, french.Visits = "FR", 2
			french = w.create(french)
			var i [4]invoice
			note := "n"
			for n := range i {
				var err error
				i[n], err = w.invoices.Create(ctx, invoice{Customer: c.ID, Text: "t", Total: int64(n)})
				require.NoError(t, err)
			}
			i[3].Note = &note
			_, err := w.invoices.Update(ctx, i[3])
			require.NoError(t, err)

			require.Equal(t, []customer{c, french}, all(t, w.customers.Find(ctx, nil)))
			require.Equal(t, []customer{french}, all(t, w.customers.Find(ctx, map[string]any{"country": "FR"})))
			require.Equal(t, []customer{french}, all(t, w.customers.Find(ctx, map[string]any{"Country": "FR", "visits": 2})))
			require.Empty(t, all(t, w.customers.Find(ctx, map[string]any{"country": "FR", "visits": 1})))
			require.Equal(t, []customer{c, french}, all(t, w.customers.Find(ctx, map[string]any{"country": []string{"FR", "GB", "NL"}})))
			require.Len(t, all(t, w.invoices.Find(ctx, map[string]any{"customer_id": c.ID})), 4)
			require.Len(t, all(t, w.invoices.Find(ctx, map[string]any{"total": []int64{1, 3}})), 2)
			require.Empty(t, all(t, w.customers.Find(ctx, map[string]any{"created_at": nil})))

			q.drain()
			for _, name := range []string{"email", "E-Mail", "e-mail", "Mail", "street", "birth_date"} {
				for _, err := range w.customers.Find(ctx, map[string]any{"country": "FR", name: "ada@example.org"}) {
					require.ErrorIs(t, err, keystore.ErrInvalid)
					require.ErrorContains(t, err, name+" is personal")
					require.NotContains(t, err.Error(), "ada@")
				}
			}
			for _, err := range w.customers.Find(ctx, map[string]any{"phantom": 1}) {
				require.ErrorContains(t, err, "column phantom")
			}
			require.Empty(t, q.drain(), "refused before anything is asked")
		})
	}
}

func TestARowThatWasAlteredDoesNotHideTheOthers(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	one, two, three := w.create(ada()), w.create(ada()), w.create(ada())
	w.exec("UPDATE customers SET first_name = (SELECT first_name FROM customers WHERE id = 1) WHERE id = 2")
	_, err := w.customers.Get(ctx, two.ID)
	require.ErrorIs(t, err, keystore.ErrUnknownKey)
	var rowErr *fieldcrypt.RowError
	require.ErrorAs(t, err, &rowErr)
	require.Equal(t, "first_name", rowErr.Field)
	var got []customer
	bad := 0
	for c, err := range w.customers.List(ctx) {
		if err != nil {
			require.ErrorAs(t, err, &rowErr)
			require.Equal(t, 1, rowErr.Row)
			bad++
			continue
		}
		got = append(got, c)
	}
	require.Equal(t, []customer{one, three}, got)
	require.Equal(t, 1, bad)
}

// line is a row with a key of two columns.
type line struct {
	Order   int64 `db:"order_id"`
	Line    string
	Person  int64  `oubli:",subject=customer"`
	Text    string `oubli:"text"`
	Privacy fieldcrypt.Status
}

type lineID struct {
	Line  string
	Order int64 `db:"order_id"`
}

func TestAKeyOfSeveralColumns(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	w.exec(`CREATE TABLE lines (line text, order_id bigint, person bigint NOT NULL, text text NOT NULL, PRIMARY KEY (order_id, line))`)
	codec, err := fieldcrypt.NewCodec[line](w.keys, "lines", nil)
	require.NoError(t, err)
	lines, err := pgrows.New[line, lineID](w.pool, codec, nil)
	require.NoError(t, err)
	for n := range int64(3) {
		for _, l := range []string{"b", "a"} {
			_, err := lines.Create(ctx, line{Order: n, Line: l, Person: 1, Text: fmt.Sprint(n, l)})
			require.NoError(t, err)
		}
	}
	got, err := lines.Get(ctx, lineID{"b", 2})
	require.NoError(t, err)
	require.Equal(t, "2b", got.Text)
	var order []string
	for l, err := range lines.List(ctx) {
		require.NoError(t, err)
		order = append(order, l.Text)
	}
	require.Equal(t, []string{"0a", "0b", "1a", "1b", "2a", "2b"}, order)
	got, err = lines.UpdateFields(ctx, lineID{"a", 1}, line{Text: "new"}, "text")
	require.NoError(t, err)
	require.Equal(t, line{Order: 1, Line: "a", Person: 1, Text: "new", Privacy: "open"}, got)
	require.NoError(t, lines.Delete(ctx, lineID{"a", 1}))
	require.Len(t, all(t, lines.List(ctx)), 5)

	wrong, err := pgrows.New[line, int64](w.pool, codec, nil)
	require.NoError(t, err)
	require.ErrorContains(t, wrong.Check(ctx), "the key has 2 columns: ids must be a struct of them, not int64")
}

func TestRowsOfAPerson(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	for n := range int64(3) {
		_, err := w.invoices.Create(ctx, invoice{Customer: n%2 + 1, Text: "t"})
		require.NoError(t, err)
	}
	rows := all(t, w.invoices.RowsOf(ctx, subj(t, "customer/1")))
	require.Len(t, rows, 2)
	require.Contains(t, rows[0].Text, "oubli1.", "as it is stored")
	require.Empty(t, all(t, w.invoices.RowsOf(ctx, subj(t, "customer/9"))))
	for _, err := range w.invoices.RowsOf(ctx, subj(t, "supplier/1")) {
		require.ErrorContains(t, err, "supplier/1: the table's subjects are of kind customer")
	}

	// In a text column, ids that differ are the same to a collation or by their case.
	texts := people[string](w, "text")
	const id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	_, err := texts.Create(ctx, person[string]{ID: "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", Name: "upper"})
	require.NoError(t, err)
	_, err = texts.Create(ctx, person[string]{ID: id, Name: "lower"})
	require.NoError(t, err)
	require.Len(t, all(t, texts.RowsOf(ctx, subj(t, "person/"+id))), 2, "one person")

	w.exec("CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
	blind := people[string](w, "text COLLATE blind")
	_, err = blind.Create(ctx, person[string]{ID: "Ada", Name: "n"})
	require.NoError(t, err)
	require.Empty(t, all(t, blind.RowsOf(ctx, subj(t, "person/ada"))), "another person")
	require.Len(t, all(t, blind.RowsOf(ctx, subj(t, "person/Ada"))), 1)

	uuids := people[[16]byte](w, "uuid")
	_, err = uuids.Create(ctx, person[[16]byte]{ID: [16]byte{15: 1}, Name: "n"})
	require.NoError(t, err)
	require.Len(t, all(t, uuids.RowsOf(ctx, subj(t, "person/00000000-0000-0000-0000-000000000001"))), 1)
}
