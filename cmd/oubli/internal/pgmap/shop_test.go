package pgmap

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
)

// Customers, and their invoices in partitions: with a composite key, names that need
// quotes, and a purpose that can be kept.
const shopSQL = `
create table customers (
	id bigint primary key, "First Name" text not null, email text unique, born text, photo bytea,
	country text not null default 'NL', joined timestamptz default '2020-01-02 03:04:05+00', balance numeric default 12345678901234567890.10,
	settings jsonb default '{"b": [1, null]}', badge bytea default '\x0102', visits int not null default 0);
create table "Invoices" (
	"customerId" bigint not null, no int not null, address text, note text, total int not null, primary key ("customerId", no)
) partition by hash ("customerId");
create table invoices_0 partition of "Invoices" for values with (modulus 2, remainder 0);
create table invoices_1 partition of "Invoices" for values with (modulus 2, remainder 1);
`

const shopMap = `
tables:
  customers:
    subject: customer=id
    personal: [{first_name: {db: First Name, replace: Erased}}, email, {born: {blank: year}}, photo]
  invoices:
    db: Invoices
    subject: customer=customerId
    key: no
    personal: [{address: {purpose: tax}}, note]
  staff:
    db: customers_of_staff
    subject: employee=id
    personal: [name]
`

// shop is an application whose tables are sealed.
type shop struct {
	t       testing.TB
	db      *pgxpool.Pool
	backend *fault.Backend
	roots   *memstore.Roots
	keys    *keystore.Store
	tables  []*Table
	all     []codecTable
}

// newShop makes a shop with some customers, numbered from 1, who have two invoices each.
func newShop(t *testing.T, customers int) *shop {
	t.Helper()
	ctx := t.Context()
	s := &shop{t: t, backend: fault.Wrap(memstore.New()), roots: memstore.NewRoots()}
	s.db, s.tables = world(t, shopSQL+`create table customers_of_staff (id int primary key, name text);`, shopMap)
	require.NoError(t, keystore.Create(ctx, s.backend, s.roots, &keystore.CreateOptions{Shards: 64}))
	var err error
	s.keys, err = keystore.Open(ctx, s.backend, s.roots, nil)
	require.NoError(t, err)
	t.Cleanup(func() { keystoretest.Check(t, s.keys) })
	s.all, err = codecsOf(s.keys, s.tables, nil)
	require.NoError(t, err)
	s.exec(`insert into customers (id, "First Name", email, born, photo)
		select i, 'Ada' || i, 'ada' || i || '@example.org', '1990-05-' || (10 + i % 18), '\xff00' from generate_series(1, $1::int) i`, customers)
	s.exec(`insert into "Invoices" select i, n, i || ' Main Street', 'note ' || i, 10 * n from generate_series(1, $1::int) i, generate_series(1, 2) n`, customers)
	s.seal(0)
	s.seal(1)
	return s
}

func (s *shop) exec(sql string, args ...any) {
	s.t.Helper()
	_, err := s.db.Exec(context.Background(), sql, args...)
	require.NoError(s.t, err, sql)
}

// value reads one value as text.
func (s *shop) value(sql string, args ...any) (v string) {
	s.t.Helper()
	require.NoError(s.t, s.db.QueryRow(context.Background(), "select ("+sql+")::text", args...).Scan(&v), sql)
	return v
}

// seal seals the rows of a table that are not.
func (s *shop) seal(table int) {
	s.t.Helper()
	ctx, t := context.Background(), s.all[table]
	o := PageOptions{Limit: 1000, Only: Plain}
	for {
		rows, err := t.Page(ctx, s.db, o)
		require.NoError(s.t, err)
		if len(rows) == 0 {
			return
		}
		o.After = rows[len(rows)-1].Key
		require.NoError(s.t, t.codec.Seal(ctx, cellsOf(rows)))
		missed, err := t.Save(ctx, s.db, rows, SaveOptions{})
		require.NoError(s.t, err)
		require.Empty(s.t, missed)
	}
}

// eraser is an Eraser with the shop's tables.
func (s *shop) eraser(o *TablesOptions) *anonymize.Eraser {
	s.t.Helper()
	e, err := anonymize.New(s.keys, nil)
	require.NoError(s.t, err)
	tables, err := NewTables(s.db, s.keys, s.tables, o)
	require.NoError(s.t, err)
	e.RegisterTables(tables)
	return e
}

func (s *shop) erase(customers ...int) {
	s.t.Helper()
	_, err := s.eraser(nil).Anonymize(within(s.t), s.subjects(customers...)...)
	require.NoError(s.t, err)
}

func (s *shop) subjects(customers ...int) (list []keystore.Subject) {
	for _, id := range customers {
		list = append(list, subj(s.t, fmt.Sprintf("customer/%d", id)))
	}
	return list
}

// rows are a customer's rows in a table, as they are stored.
func (s *shop) rows(t codecTable, customer int) (list []Row) {
	s.t.Helper()
	require.NoError(s.t, t.eachPage(context.Background(), s.db, s.subjects(customer)[0], false, func(rows []Row, _ string, _ []any) error {
		list = append(list, rows...)
		return nil
	}))
	return list
}

// read opens a customer's row, and their invoices.
func (s *shop) read(ctx context.Context, customer int) (list []string) {
	s.t.Helper()
	for _, t := range s.all[:2] {
		rows := s.rows(t, customer)
		_, err := t.codec.Open(ctx, cellsOf(rows))
		require.NoError(s.t, err)
		for _, row := range rows {
			list = append(list, strings.Join(texts(row.Cells[t.FieldAt():]), " "))
		}
	}
	return list
}

func open(customer int) []string {
	invoice := fmt.Sprintf("%d Main Street note %[1]d", customer)
	return []string{fmt.Sprintf("Ada%d ada%[1]d@example.org 1990-05-%d \xff\x00", customer, 10+customer%18), invoice, invoice}
}

// blanked is how somebody reads who was erased.
func blanked(year string) []string {
	return []string{"Erased NULL " + year + " NULL", "NULL NULL", "NULL NULL"}
}

// within is a context that ends with the test, which may not hang.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func subj(t testing.TB, text string) keystore.Subject {
	t.Helper()
	s, err := keystore.ParseSubject(text)
	require.NoError(t, err)
	return s
}

func (s *shop) state(customer int) keystore.State {
	s.t.Helper()
	sts, err := s.keys.Status(context.Background(), s.subjects(customer)...)
	require.NoError(s.t, err)
	return sts[0].State
}

// blanks counts the values of a customer that are NULL or a blank, in the database.
func (s *shop) blanks(customer int) (n int) {
	s.t.Helper()
	for _, t := range s.all[:2] {
		for _, row := range s.rows(t, customer) {
			for _, c := range row.Cells[t.FieldAt():] {
				if c.Null || strings.HasPrefix(c.Text, "oubli1~") {
					n++
				}
			}
		}
	}
	return n
}

const allBlank = 4 + 2*2 // values of a customer
