package anonymize_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

func exportJSON(t *testing.T, d *anonymize.Document) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, d.WriteJSON(&b))
	return b.String()
}

func exportCSV(t *testing.T, d *anonymize.Document) [][]string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, d.WriteCSV(&b))
	lines, err := csv.NewReader(&b).ReadAll()
	require.NoError(t, err)
	return lines
}

func TestExportIsOnePersonsData(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2)
	d, err := p.eraser.Export(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.JSONEq(t, `{"subject": "customer/1", "state": "active", "tables": [
		{"table": "customers", "rows": [{"erased": [], "withheld": [], "values":
			{"ID": 1, "first_name": "Ada1", "email": "ada1@example.com", "phone": "+31 1", "birth_date": "1990-05-17T00:00:00Z", "Country": "NL", "Newsletter": true}}]},
		{"table": "invoices", "rows": [
			{"erased": [], "withheld": [], "values": {"id": 10, "Customer": 1, "address": "1 Main Street", "note": "note of 1", "Total": 100}},
			{"erased": [], "withheld": [], "values": {"id": 11, "Customer": 1, "address": "1 Main Street", "note": "note of 1", "Total": 100}}]}]}`,
		exportJSON(t, d))
	require.Equal(t, [][]string{
		{"table", "row", "field", "state", "value"},
		{"customers", "1", "ID", "plain", "1"},
		{"customers", "1", "first_name", "open", "Ada1"},
		{"customers", "1", "email", "open", "ada1@example.com"},
		{"customers", "1", "phone", "open", "+31 1"},
		{"customers", "1", "birth_date", "open", "1990-05-17T00:00:00Z"},
		{"customers", "1", "Country", "plain", "NL"},
		{"customers", "1", "Newsletter", "plain", "true"},
		{"invoices", "1", "id", "plain", "10"},
	}, exportCSV(t, d)[:9])
	require.NotEmpty(t, p.customers.get(1).Email)
	require.NotEqual(t, "ada1@example.com", p.customers.get(1).Email, "the stored rows are as they were")
}

func TestExportFollowsTheState(t *testing.T) {
	ctx := background(t)
	p := newProcess(t, 1, 2)
	_, err := p.eraser.AnonymizeWith(ctx, &anonymize.Request{Keep: []string{"tax"}}, subj(t, "customer/1"))
	require.NoError(t, err)

	d, err := p.eraser.Export(ctx, subj(t, "customer/1"))
	require.NoError(t, err)
	require.Equal(t, keystore.StateRestricted, d.State)
	lines := exportCSV(t, d)
	require.Contains(t, lines, []string{"customers", "1", "first_name", "erased", "Erased"})
	require.Contains(t, lines, []string{"invoices", "1", "address", "withheld", ""})
	require.Contains(t, exportJSON(t, d), `"withheld": [
            "address"`)

	d, err = p.eraser.Export(keystore.WithPurpose(ctx, "tax"), subj(t, "customer/1"))
	require.NoError(t, err)
	require.Contains(t, exportCSV(t, d), []string{"invoices", "1", "address", "open", "1 Main Street"})

	p.listen("crm", func() error { return errors.New("down") })
	_, err = p.eraser.Anonymize(ctx, subj(t, "customer/2"))
	require.Error(t, err)
	d, err = p.eraser.Export(ctx, subj(t, "customer/2"))
	require.NoError(t, err)
	require.Contains(t, exportCSV(t, d), []string{"customers", "1", "email", "withheld", ""})

	_, err = p.eraser.Export(ctx, subj(t, "customer/99"))
	require.ErrorIs(t, err, keystore.ErrUnknownSubject)
	_, err = p.eraser.Export(ctx, keystore.Subject{})
	require.ErrorIs(t, err, keystore.ErrInvalid)
}

func TestExportedValuesAreExact(t *testing.T) {
	type named string
	at := time.Date(1990, 5, 17, 0, 0, 0, 0, time.UTC)
	var none *string
	text := "pointed"
	values := []fieldcrypt.NamedValue{}
	for _, v := range []any{"=1+1", "a\r\nb", " <&> ", "", nil, none, &text, named("n"), []byte("hi"), []byte(nil), at, &at, 1.5, true, []int{1, 2}, map[string]int{"a": 1}, "null"} {
		values = append(values, fieldcrypt.NamedValue{Name: "f", Value: v, Personal: true, State: fieldcrypt.StatusOpen})
	}
	d := &anonymize.Document{Subject: subj(t, "customer/1"), State: keystore.StateActive,
		Tables: []anonymize.TableData{{Table: "t", Rows: [][]fieldcrypt.NamedValue{values}}}}
	want := [][2]string{{"open", "=1+1"}, {"open", "a\r\nb"}, {"open", " <&> "}, {"open", ""}, {"null", ""}, {"null", ""},
		{"open", "pointed"}, {"open", "n"}, {"open", "aGk="}, {"null", ""}, {"open", "1990-05-17T00:00:00Z"},
		{"open", "1990-05-17T00:00:00Z"}, {"open", "1.5"}, {"open", "true"}, {"open", "[1,2]"}, {"open", `{"a":1}`}, {"open", "null"}}
	var b bytes.Buffer
	require.NoError(t, d.WriteCSV(&b))
	require.Contains(t, b.String(), "\"a\r\nb\"", "line breaks stay what they are")
	for i, line := range exportCSV(t, d)[1:] {
		if i == 1 {
			continue // encoding/csv reads it as \n
		}
		require.Equal(t, want[i], [2]string{line[3], line[4]}, "value %d", i)
	}
	raw, err := json.Marshal(d)
	require.NoError(t, err)
	require.Contains(t, exportJSON(t, d), `" <&> "`)
	require.True(t, json.Valid(raw))

	values[0].Value = make(chan int)
	require.Error(t, d.WriteCSV(&b))
	require.Error(t, d.WriteJSON(&b))
}
