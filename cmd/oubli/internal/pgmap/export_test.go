package pgmap

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

func TestExport(t *testing.T) {
	ctx := within(t)
	s := newShop(t, 2)
	s.exec(`update customers set email = null, joined = null where id = 2`)
	e := s.eraser(nil)
	d, err := e.Export(ctx, s.subjects(1)[0])
	require.NoError(t, err)
	var b strings.Builder
	require.NoError(t, d.WriteJSON(&b))
	require.JSONEq(t, `{"subject": "customer/1", "state": "active", "tables": [
		{"table": "customers", "rows": [{"erased": [], "withheld": [], "values": {"id": 1, "first_name": "Ada1", "email": "ada1@example.org",
			"born": "1990-05-11", "photo": "/wA=", "country": "NL", "joined": "2020-01-02T03:04:05+00:00", "balance": 12345678901234567890.10,
			"settings": {"b": [1, null]}, "badge": "AQI=", "visits": 0}}]},
		{"table": "invoices", "rows": [
			{"erased": [], "withheld": [], "values": {"customerId": 1, "no": 1, "address": "1 Main Street", "note": "note 1", "total": 10}},
			{"erased": [], "withheld": [], "values": {"customerId": 1, "no": 2, "address": "1 Main Street", "note": "note 1", "total": 20}}]}]}`, b.String())
	require.Contains(t, b.String(), "12345678901234567890.10", "exact")
	b.Reset()
	require.NoError(t, d.WriteCSV(&b))
	require.Contains(t, b.String(), "customers,1,balance,plain,12345678901234567890.10\n")
	require.Contains(t, b.String(), "customers,1,photo,open,/wA=\n")
	require.Less(t, strings.Index(b.String(), "first_name"), strings.Index(b.String(), "country"), "in the order of the table")

	_, err = e.AnonymizeWith(ctx, &anonymize.Request{Keep: []string{"tax"}}, s.subjects(2)...)
	require.NoError(t, err)
	d, err = e.Export(ctx, s.subjects(2)[0])
	require.NoError(t, err)
	b.Reset()
	require.NoError(t, d.WriteCSV(&b))
	for _, line := range []string{"customers,1,first_name,erased,Erased", "customers,1,born,erased,1990", "customers,1,joined,null,", "invoices,1,address,withheld,", "invoices,1,total,plain,10"} {
		require.Contains(t, b.String(), line+"\n")
	}
}

// A value that does not open is named by its row's key, without itself.
func TestExportOfWhatWasAltered(t *testing.T) {
	s := newShop(t, 2)
	s.exec(`update "Invoices" set note = (select note from "Invoices" where "customerId" = 2 and no = 1) where "customerId" = 1 and no = 2`)
	_, err := s.eraser(nil).Export(within(t), s.subjects(1)[0])
	require.ErrorContains(t, err, `"public"."Invoices", key (1, 2)`)
	var row *fieldcrypt.RowError
	require.True(t, errors.As(err, &row))
	require.Equal(t, "note", row.Field)
	require.True(t, slices.Contains([]bool{errors.Is(err, keystore.ErrTampered), errors.Is(err, keystore.ErrUnknownKey)}, true))
}
