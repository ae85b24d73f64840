package fieldcrypt_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

var invoices = fieldcrypt.Spec{
	Table: "invoices", Kind: "customer", SubjectColumn: "customer_id", Key: "invoice_id",
	Fields: []fieldcrypt.FieldSpec{
		{Name: "billing_address", Purpose: "tax"},
		{Name: "note", Replace: "Erased"},
	},
}

var invoiceColumns = []string{"total", "note", "invoice_id", "billing_address", "customer_id"}

func bound(t testing.TB, keys *keystore.Store, spec fieldcrypt.Spec, columns ...string) *fieldcrypt.BoundRows {
	t.Helper()
	c, err := fieldcrypt.NewRowCodec(keys, spec, nil)
	require.NoError(t, err)
	b, err := c.Bind(columns)
	require.NoError(t, err)
	return b
}

func cells(texts ...string) []fieldcrypt.Cell {
	row := make([]fieldcrypt.Cell, len(texts))
	for i, s := range texts {
		row[i] = fieldcrypt.Cell{Text: s, Null: s == ""}
	}
	return row
}

// read is a row of invoiceColumns whose personal cells were read in this way.
func read(row []fieldcrypt.Cell, s fieldcrypt.Status) []fieldcrypt.Cell {
	row[1].Status, row[3].Status = s, s
	return row
}

func TestRowCodecAndCodecOpenEachOther(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	b := bound(t, keys, invoices, invoiceColumns...)
	c := newCodec[invoice](t, keys, "invoices", nil)

	rows := [][]fieldcrypt.Cell{cells("3", "n", "1", "First Street", "5"), cells("3", "", "2", "", "5")}
	rows[1][1] = fieldcrypt.Cell{} // an empty text, not NULL
	require.NoError(t, b.Seal(ctx, rows))
	require.Equal(t, "3", rows[0][0].Text)
	require.True(t, rows[1][3].Null, "NULL stays NULL")
	require.NotEmpty(t, rows[1][1].Text, "an empty text is a fact")
	row := invoice{ID: 1, Customer: 5, Address: rows[0][3].Text, Note: rows[0][1].Text}
	require.NoError(t, c.Open(ctx, &row))
	require.Equal(t, "First Street", row.Address)

	sealed := seal(t, c, invoice{ID: 9, Customer: 5, Address: "Ninth", Note: "x"})
	rows = append(rows, cells("3", sealed.Note, "9", sealed.Address, "5"))
	n, err := b.Open(ctx, rows)
	require.NoError(t, err)
	require.Equal(t, fieldcrypt.OpenCounts{Open: 3}, n)
	require.Equal(t, read(cells("3", "x", "9", "Ninth", "5"), fieldcrypt.StatusOpen), rows[2])
	require.Equal(t, fieldcrypt.Cell{Status: fieldcrypt.StatusOpen}, rows[1][1])
	require.Equal(t, fieldcrypt.Cell{Null: true}, rows[1][3])
}

func TestRowCodecNamesBadRows(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	b := bound(t, keys, invoices, invoiceColumns...)
	rows := [][]fieldcrypt.Cell{
		cells("3", "n", "1", "a", "5"),
		cells("3", "n", "2", "a", ""),
		cells("3", "n", "", "a", "5"),
		cells("3", "n"),
		cells("3", "n", "5", "a", "0"),
		cells("3", "n", "6", "a", "6"),
	}
	err := b.Seal(ctx, rows)
	var bad *fieldcrypt.BatchError
	require.ErrorAs(t, err, &bad)
	var at []int
	for _, r := range bad.Rows {
		at = append(at, r.Row)
	}
	require.Equal(t, []int{1, 2, 3, 4}, at)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.Equal(t, "a", rows[1][3].Text, "bad rows stay as they were")
	require.True(t, strings.HasPrefix(rows[5][3].Text, "oubli1."))

	good := [][]fieldcrypt.Cell{rows[0], rows[5]}
	err = b.Seal(ctx, good)
	require.ErrorContains(t, err, "sealed already")
	good[0][3], good[1][3] = good[1][3], good[0][3]
	_, err = b.Open(ctx, good)
	require.ErrorAs(t, err, &bad)
	require.Len(t, bad.Rows, 2)
	require.Equal(t, "billing_address", bad.Rows[0].Field)
	require.ErrorContains(t, err, "invoices.billing_address row 0 of customer/5 key ")
}

func TestRowCodecErasedAndWithheld(t *testing.T) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	b := bound(t, keys, invoices, invoiceColumns...)
	stored := func() [][]fieldcrypt.Cell {
		return [][]fieldcrypt.Cell{cells("3", "n", "1", "a", "5"), cells("3", "n", "2", "a", "6"), cells("3", "n", "3", "a", "7")}
	}
	rows := stored()
	require.NoError(t, b.Seal(ctx, rows))
	erase(t, keys, "5")
	require.NoError(t, joined(keys.Restrict(ctx, nil, subject(t, "6"))))
	n, err := b.Open(ctx, rows)
	require.NoError(t, err)
	require.Equal(t, fieldcrypt.OpenCounts{Open: 1, Withheld: 1, Erased: 1}, n)
	require.Equal(t, read(cells("3", "Erased", "1", "", "5"), fieldcrypt.StatusErased), rows[0])
	require.Equal(t, read(cells("3", "", "2", "", "6"), fieldcrypt.StatusWithheld), rows[1])

	require.NoError(t, b.Seal(ctx, rows[:1]), "what was read of an erased person can be sealed again")
	require.True(t, strings.HasSuffix(rows[0][1].Text, "~Erased"))
	require.True(t, rows[0][3].Null)
	require.ErrorIs(t, b.Seal(ctx, rows[1:2]), keystore.ErrRestricted)
	require.ErrorIs(t, b.Seal(ctx, stored()[:1]), keystore.ErrErased)
}

func TestRowCodecMistakes(t *testing.T) {
	keys := keystoretest.New(t)
	_, err := fieldcrypt.NewRowCodec(keys, fieldcrypt.Spec{
		Table: "", Kind: "a/b", SubjectColumn: "id", Key: "k",
		Fields: []fieldcrypt.FieldSpec{{Name: "id"}, {Name: ""}, {Name: "x", Blank: "year1"}, {Name: "y"}, {Name: "y"}, {Name: "z", Purpose: "\n"}},
	}, nil)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	for _, mistake := range []string{"table name is empty", `kind "a/b"`, "column id is the subject's", "column name is empty", "blank=year1", "the name y stands twice", "column z"} {
		require.ErrorContains(t, err, mistake)
	}
	c, err := fieldcrypt.NewRowCodec(keys, invoices, nil)
	require.NoError(t, err)
	_, err = c.Bind([]string{"note", "note", "customer_id"})
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, "column invoice_id is missing")
	require.ErrorContains(t, err, "column billing_address is missing")
	require.ErrorContains(t, err, "column note stands twice")
	require.Equal(t, "invoices", c.Table())
	require.Equal(t, "customer", c.Kind())
	require.Len(t, c.Fields(), 2)
}
