package datamap

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
)

const shop = `
tables:
  customers:                            # the logical name, as given to NewCodec
    subject: customer=customer_id       # kind=column
    personal: [first_name, last_name]
  invoices:
    subject: customer=customer_id
    key: invoice_id
    allow_at: true
    personal:
      - billing_address: {purpose: tax}
      - billing_city: {purpose: tax, replace: Erased}
      - billing_postal_code: {purpose: tax, blank: "first:2"}
      - plain
`

func TestParse(t *testing.T) {
	m, err := Parse("m", []byte(shop))
	require.NoError(t, err)
	require.Equal(t, []string{"customers", "invoices"}, m.Names())
	s, err := m.Table("invoices")
	require.NoError(t, err)
	require.Equal(t, fieldcrypt.Spec{
		Table: "invoices", Kind: "customer", SubjectColumn: "customer_id", Key: "invoice_id", AllowAt: true,
		Fields: []fieldcrypt.FieldSpec{
			{Name: "billing_address", Purpose: "tax"},
			{Name: "billing_city", Purpose: "tax", Replace: "Erased"},
			{Name: "billing_postal_code", Purpose: "tax", Blank: "first:2"},
			{Name: "plain"},
		},
	}, s.Spec)
	require.Equal(t, []string{"invoices"}, s.DB)
	require.Equal(t, "billing_city", s.Columns[1].DB)
	_, err = m.Table("custmers")
	require.ErrorContains(t, err, `table "custmers" is not in the data map m, which has: customers, invoices`)
}

func TestDatabaseNames(t *testing.T) {
	m, err := Parse("m", []byte(`
tables:
  customers:
    db: '"my.schema".Customer'
    subject: customer=CustomerId
    triggers: [audit, "other one"]
    personal:
      - email: {db: EMail}
      - born: {db: birthDate, type: timestamp without time zone, blank: year}
      - photo: {type: bytea}
      - phone
`))
	require.NoError(t, err)
	c, err := m.Table("customers")
	require.NoError(t, err)
	require.Equal(t, []string{"my.schema", "Customer"}, c.DB)
	require.Equal(t, []string{"audit", "other one"}, c.Triggers)
	require.Equal(t, []Column{{"EMail", ""}, {"birthDate", "timestamp without time zone"}, {"photo", "bytea"}, {"phone", ""}}, c.Columns)
}

func TestShow(t *testing.T) {
	m, err := Parse("m", []byte(`
tables:
  customers: {subject: customer=id, personal: [name, email], show: [name, Country]}
  invoices: {subject: customer=customer, personal: [address]}
  staff: {subject: employee=id, personal: [name], show: [name]}
`))
	require.NoError(t, err)
	var shown [][]string
	for _, table := range m.Tables() {
		shown = append(shown, table.Show)
	}
	require.Equal(t, [][]string{{"name", "Country"}, nil, {"name"}}, shown)

	_, err = Parse("m", []byte(`tables:
  a: {subject: k=id, personal: [p], show: [p]}
  b: {subject: k=id, personal: [p], show: [p]}
  c: {subject: l=id, personal: [p], show: []}
  d: {subject: m=id, personal: [p], show: p}
  e: {subject: n=id, personal: [p], show: [p, q, p, ~]}
`))
	require.EqualError(t, err, `m:3: table "b": show: table "a" has it for k, and one table of a kind can
m:4: table "c": show: a name is needed, or the line can go
m:5: table "d": show: a list is needed
m:6: table "e": show: a text is needed
m:6: table "e": show: "p" stands here twice`)
}

func TestSplitName(t *testing.T) {
	for text, want := range map[string][]string{
		"t":            {"t"},
		"s.t":          {"s", "t"},
		`"s.t"`:        {"s.t"},
		`"a""b".c`:     {`a"b`, "c"},
		`s."T x"`:      {"s", "T x"},
		`Größe.Kunden`: {"Größe", "Kunden"},
	} {
		got, ok := splitName(text)
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", ".", "a.", ".a", "a.b.c", `"a`, `"a"b`, `a"b"`, `""`, `a..b`} {
		_, ok := splitName(text)
		require.False(t, ok, text)
	}
}

func TestDatabaseNamesThatClash(t *testing.T) {
	_, err := Parse("m", []byte(`
tables:
  a:
    db: x.y.z
    subject: k=id
    personal: [{p: {db: id}}, {q: {db: c}}, {c: {}}, c2]
`))
	require.ErrorContains(t, err, "m:4: table \"a\": db: a table or schema.table is needed")
	require.ErrorContains(t, err, `m:3: table "a": "p" identifies the row`)
}

func TestAllMistakesAtOnce(t *testing.T) {
	_, err := Parse("m", []byte(`tables:
  a:
    subject: customer_id
    personal: [x, x, id]
    colour: red
  b:
    subject: cust/omer=id
    key: x
    personal:
      - x: {purpos: tax}
      - y: {blank: "first:0"}
      - z: {purpose: }
      - [q]
  b:
    personal: []
  c:
    key: k
  d: 3
other: 1
`))
	require.Error(t, err)
	for i, want := range []string{
		`m:3: table "a": subject: kind=column is needed`,
		`m:4: table "a": field "x" stands here twice, first in line 4`,
		`m:5: table "a": "colour" is not known here; known: allow_at, db, key, personal, show, subject, triggers`,
		`m:7: table "b": subject: invalid: kind "cust/omer"`,
		`m:10: table "b": field "x": "purpos" is not known here; known: blank, db, purpose, replace, type`,
		`m:11: table "b": field "y": blank: "first:0" is not known`,
		`m:12: table "b": field "z": purpose: a text is needed`,
		`m:13: table "b": personal: a field: a text is needed`,
		`m:6: table "b": "x" identifies the row`,
		`m:14: tables: "b" stands here twice, first in line 6`,
		`m:17: table "c": missing: subject, personal`,
		`m:18: table "d": a mapping is needed`,
		`m:19: the data map: "other" is not known here; known: tables`,
	} {
		lines := strings.Split(err.Error(), "\n")
		require.Greater(t, len(lines), i)
		require.Contains(t, lines[i], want)
	}
}

func TestNotAMap(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "is empty",
		"# nothing":             "is empty",
		"tables: [":             "m: line 1:",
		"[1]":                   "m:1: the data map: a mapping is needed",
		"x: 1":                  "missing: tables",
		"tables: {}":            "m:1: tables: a mapping is needed",
		shop + "---\ntables: 1": "more than one YAML document",
		"tables: &a\n  b: *a":   "a mapping is needed",
	} {
		_, err := Parse("m", []byte(text))
		require.ErrorContains(t, err, want, text)
	}
	_, err := Load(t.TempDir() + "/none.yaml")
	require.ErrorContains(t, err, "none.yaml")
}

// Whatever is accepted names its tables and fields, once each.
func FuzzParse(f *testing.F) {
	f.Add(shop)
	f.Add("tables: {a: {subject: k=c, personal: [x]}}")
	f.Add("tables: &a {a: *a}")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := Parse("m", []byte(text))
		if err != nil {
			return
		}
		require.NotEmpty(t, m.tables)
		for _, s := range m.tables {
			require.NotEmpty(t, s.Table)
			require.NotEmpty(t, s.Kind)
			require.NotEmpty(t, s.SubjectColumn)
			require.NotEmpty(t, s.Fields)
			seen := map[string]bool{s.SubjectColumn: true, s.Key: true}
			for _, f := range s.Fields {
				require.NotEmpty(t, f.Name)
				require.False(t, seen[f.Name])
				seen[f.Name] = true
			}
		}
	})
}
