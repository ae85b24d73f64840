package demo

import (
	"embed"
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/oubli/oubli/fieldcrypt"
)

// The Chinook music shop, under the licence beside it.
//
//go:embed chinook
var chinook embed.FS

// Customer is a row of the table customers.
type Customer struct {
	ID         int64             `oubli:",subject=customer" json:"customer_id"`
	FirstName  string            `oubli:"first_name,replace=Erased" json:"first_name"`
	LastName   string            `oubli:"last_name,replace=Customer {id}" json:"last_name"`
	Company    *string           `oubli:"company" json:"company"`
	Address    string            `oubli:"address,replace=-" json:"address"`
	City       string            `json:"city"`
	State      *string           `json:"state"`
	Country    string            `json:"country"`
	PostalCode *string           `oubli:"postal_code" json:"postal_code"`
	Phone      *string           `oubli:"phone" json:"phone"`
	Fax        *string           `oubli:"fax" json:"fax"`
	Email      string            `oubli:"email,replace={id}@erased.invalid" json:"email"`
	SupportRep int64             `json:"support_rep_id"`
	Privacy    fieldcrypt.Status `json:"-"` // filled by Open
}

// Invoice is a row of the table invoices. Its values are bound to it by its key, and
// what the tax office wants is under a purpose of its own.
type Invoice struct {
	ID                int64             `oubli:",key" json:"invoice_id"`
	CustomerID        int64             `oubli:",subject=customer" json:"customer_id"`
	Date              string            `json:"invoice_date"`
	BillingAddress    string            `oubli:"billing_address,purpose=tax,replace=-" json:"billing_address"`
	BillingCity       string            `oubli:"billing_city,purpose=tax,replace=-" json:"billing_city"`
	BillingCountry    string            `json:"billing_country"`
	BillingPostalCode *string           `oubli:"billing_postal_code,purpose=tax,blank=first:2" json:"billing_postal_code"`
	Cents             int64             `json:"total_cents"`
	Privacy           fieldcrypt.Status `json:"-"`
}

func customerID(c *Customer) int64 { return c.ID }
func invoiceID(i *Invoice) int64   { return i.ID }
func invoicedTo(i *Invoice) int64  { return i.CustomerID }

// personal are the customer's values that must not be found where they do not belong.
func (c *Customer) personal() []string {
	all := []string{c.FirstName, c.LastName, text(c.Company), c.Address, text(c.PostalCode), text(c.Phone), text(c.Fax), c.Email}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// plain is the data in the clear, as the application would get it from its users.
type plain struct {
	customers []Customer
	invoices  []Invoice
}

func readPlain() (s plain, err error) {
	r, err := readTable("chinook/customers.csv")
	if err != nil {
		return s, err
	}
	for r.next() {
		s.customers = append(s.customers, Customer{
			ID: r.number("customer_id"), FirstName: r.text("first_name"), LastName: r.text("last_name"),
			Company: r.optional("company"), Address: r.text("address"), City: r.text("city"), State: r.optional("state"),
			Country: r.text("country"), PostalCode: r.optional("postal_code"), Phone: r.optional("phone"),
			Fax: r.optional("fax"), Email: r.text("email"), SupportRep: r.number("support_rep_id"),
		})
	}
	if r.err != nil {
		return s, r.err
	}
	if r, err = readTable("chinook/invoices.csv"); err != nil {
		return s, err
	}
	for r.next() {
		s.invoices = append(s.invoices, Invoice{
			ID: r.number("invoice_id"), CustomerID: r.number("customer_id"), Date: r.text("invoice_date"),
			BillingAddress: r.text("billing_address"), BillingCity: r.text("billing_city"),
			BillingCountry: r.text("billing_country"), BillingPostalCode: r.optional("billing_postal_code"),
			Cents: r.cents("total"),
		})
	}
	return s, r.err
}

// records reads the rows of an embedded table.
type records struct {
	name string
	at   map[string]int
	rows [][]string
	row  []string
	err  error
}

func readTable(name string) (*records, error) {
	f, err := chinook.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	r := &records{name: name, at: map[string]int{}, rows: rows[1:]}
	for i, column := range rows[0] {
		r.at[column] = i
	}
	return r, nil
}

func (r *records) next() bool {
	if len(r.rows) == 0 || r.err != nil {
		return false
	}
	r.row, r.rows = r.rows[0], r.rows[1:]
	return true
}

func (r *records) text(column string) string {
	i, ok := r.at[column]
	if !ok {
		r.err = fmt.Errorf("%s has no column %s", r.name, column)
		return ""
	}
	return r.row[i]
}

func (r *records) optional(column string) *string {
	if s := r.text(column); s != "" {
		return &s
	}
	return nil
}

func (r *records) number(column string) int64 {
	n, err := strconv.ParseInt(r.text(column), 10, 64)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: column %s: not a number", r.name, column)
	}
	return n
}

func (r *records) cents(column string) int64 {
	whole, part, _ := strings.Cut(r.text(column), ".")
	n, err := strconv.ParseInt(whole+(part + "00")[:2], 10, 64)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: column %s: not an amount", r.name, column)
	}
	return n
}

// turnover adds up invoices by country, as statistics do.
func turnover(invoices []Invoice) map[string]int64 {
	sums := map[string]int64{}
	for _, i := range invoices {
		sums[i.BillingCountry] += i.Cents
	}
	return sums
}

// best names the countries with the largest turnover.
func best(sums map[string]int64, n int) string {
	countries := slices.SortedFunc(maps.Keys(sums), func(a, b string) int {
		if sums[a] != sums[b] {
			return int(sums[b] - sums[a])
		}
		return strings.Compare(a, b)
	})
	var list []string
	for _, c := range countries[:min(n, len(countries))] {
		list = append(list, fmt.Sprintf("%s %d.%02d", c, sums[c]/100, sums[c]%100))
	}
	return strings.Join(list, ", ")
}
