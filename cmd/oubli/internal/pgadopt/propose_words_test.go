package pgadopt

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNamesAreSplitIntoWords(t *testing.T) {
	for name, want := range map[string][]string{
		"first_name": {"first", "name"}, "FirstName": {"first", "name"}, "Last Name": {"last", "name"}, "E-Mail": {"e", "mail"}, "customerID": {"customer", "id"},
		"IPAddress": {"ip", "address"}, "line1": {"line", "1"}, "Straße": {"strasse"}, "Prénom": {"prenom"}, "TÉLÉPHONE": {"telephone"}, "": nil, "__": nil,
	} {
		require.Equal(t, want, words(name), name)
	}
}

func TestClassesOfNames(t *testing.T) {
	for name, want := range map[string]string{
		"email": "e-mail addresses", "e_mail": "e-mail addresses", "E-Mail": "e-mail addresses", "workEmails": "e-mail addresses", "courriel": "e-mail addresses",
		"mobile_no": "telephone numbers", "Handynummer": "telephone numbers", "telefono": "telephone numbers",
		"billing_address": "addresses", "hausnr": "addresses", "calle": "addresses", "email_address": "e-mail addresses", "ip_address": "IP addresses",
		"zip": "postal codes", "cp": "postal codes", "shipping_zip_code": "postal codes", "cp_count": "",
		"Geburtsname": "names of people", "apellidos": "names of people", "date_of_birth": "birth dates", "dob": "birth dates",
		"birth_place": "places", "lieu_naissance": "", "naissance": "birth dates", "steuer_id": "numbers of the state", "iban": "bank accounts", "card_number": "bank accounts",
		"name": "", "product_name": "", "title": "", "total": "", "country": "", "relation": "", "description": "free text, in which people write anything",
	} {
		got := ""
		if c := classOf(name); c != nil {
			got = c.name
		}
		require.Equal(t, want, got, name)
	}
}

func TestTablesOfPeople(t *testing.T) {
	for table, want := range map[string]string{
		"customers": "customer", "Customer": "customer", "tbl_user": "user", "auth_user": "user", "Mitglieder": "mitglied", "people": "person", "personnes": "personne",
		"employees": "employee", "clientes": "cliente", "vip_customers": "vip_customer",
		"customer_order": "", "orders": "", "artist": "", "user_roles": "", "t": "",
	} {
		got, _ := kindOf(table)
		require.Equal(t, want, got, table)
	}
}

func TestClassesOfValues(t *testing.T) {
	for want, values := range map[string][]string{
		"e-mail addresses":  {"a@example.org", "b.c@example.co.uk", "", "none"},
		"bank accounts":     {"DE89370400440532013000", "GB82 WEST 1234 5698 7654 32", "fr1420041010050500013m02606"},
		"IP addresses":      {"192.0.2.1", "2001:db8::1", "10.0.0.0/8"},
		"telephone numbers": {"+49 30 1234567", "(030) 123-4567", "0049301234567"},
	} {
		require.Equal(t, want, classOfValues(values), values)
	}
	for _, values := range [][]string{
		nil, {"", " "}, {"a@b"}, {"@"}, {"DE88370400440532013000"}, {"1.2.3"}, {"2024-01-02", "2024-01-03"}, {"12345678"}, {"+1"}, {"a@example.org", "b", "c"}, {"SKU-1234-5678"},
		{"0 1 2 3 4 5 6 7 8 9 0"},
	} {
		require.Empty(t, classOfValues(values), values)
	}
}

func TestDocumentsAreLookedInto(t *testing.T) {
	require.Equal(t, []string{"the key email", "the key lastName", "values that look like IP addresses"}, personalKeys([]string{
		`{"email": "x", "n": 1, "deep": [{"lastName": "y"}], "ada": "192.0.2.1", "notes": "z"}`, `not json`, `[]`,
	}))
	require.Empty(t, personalKeys([]string{`{"sku": "1", "description": "z", "ok": true, "list": ["a", 1, null]}`}))
}
