package shop

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// invoices decorates invoiceTable: it seals what goes in and opens what comes out. This is
// all that an application with repositories of its own has to write.
type invoices struct {
	table invoiceTable
	codec *fieldcrypt.Codec[Invoice]
}

// create stores a new invoice. Its id is drawn first, since its values are bound to it.
func (is invoices) create(ctx context.Context, i *Invoice) (err error) {
	if i.ID, err = is.table.nextID(ctx); err != nil {
		return err
	}
	sealed, err := is.codec.Seal(ctx, *i)
	if err != nil {
		return err
	}
	return is.table.insert(ctx, &sealed)
}

// update stores a whole invoice as it was read and changed.
func (is invoices) update(ctx context.Context, i *Invoice) error {
	sealed, err := is.codec.Seal(ctx, *i)
	if err != nil {
		return err
	}
	return is.table.update(ctx, &sealed)
}

// get reads an invoice.
func (is invoices) get(ctx context.Context, id int64) (*Invoice, error) {
	i, err := is.table.get(ctx, id)
	if err != nil {
		return nil, err
	}
	return i, is.codec.Open(ctx, i)
}

// ofCustomer reads the invoices of a customer, however many, with one round trip to the
// keystore.
func (is invoices) ofCustomer(ctx context.Context, customer int64) ([]*Invoice, error) {
	rows, err := is.table.ofCustomer(ctx, customer)
	if err != nil {
		return nil, err
	}
	return rows, is.codec.Open(ctx, rows...)
}

// invoiceTable is an ordinary repository. It reads and writes rows as they are stored
// and knows nothing of keys.
type invoiceTable struct{ pool *pgxpool.Pool }

const invoiceColumns = `invoice_id, customer_id, invoice_date,
	billing_address, billing_city, billing_state, billing_postal_code, billing_country,
	(total * 100)::bigint AS cents, (refunded * 100)::bigint AS refunded_cents`

func (t invoiceTable) nextID(ctx context.Context) (id int64, err error) {
	err = t.pool.QueryRow(ctx, "SELECT nextval(pg_get_serial_sequence('invoice', 'invoice_id'))").Scan(&id)
	return id, err
}

func (t invoiceTable) insert(ctx context.Context, i *Invoice) error {
	_, err := t.pool.Exec(ctx, `INSERT INTO invoice VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::bigint / 100.0, $10::bigint / 100.0)`,
		i.ID, i.CustomerID, i.Date, i.BillingAddress, i.BillingCity, i.BillingState, i.BillingPostalCode, i.BillingCountry,
		i.Cents, i.RefundedCents)
	return err
}

func (t invoiceTable) update(ctx context.Context, i *Invoice) error {
	return t.one(ctx, `UPDATE invoice SET invoice_date = $3, billing_address = $4, billing_city = $5, billing_state = $6,
		billing_postal_code = $7, billing_country = $8, total = $9::bigint / 100.0, refunded = $10::bigint / 100.0
		WHERE invoice_id = $1 AND customer_id = $2`,
		i.ID, i.CustomerID, i.Date, i.BillingAddress, i.BillingCity, i.BillingState, i.BillingPostalCode, i.BillingCountry,
		i.Cents, i.RefundedCents)
}

// refund needs no key: it touches no personal column.
func (t invoiceTable) refund(ctx context.Context, id, cents int64) error {
	return t.one(ctx, "UPDATE invoice SET refunded = refunded + $2::bigint / 100.0 WHERE invoice_id = $1", id, cents)
}

// one runs a statement that must find its row.
func (t invoiceTable) one(ctx context.Context, sql string, args ...any) error {
	tag, err := t.pool.Exec(ctx, sql, args...)
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	return err
}

func (t invoiceTable) get(ctx context.Context, id int64) (*Invoice, error) {
	rows, err := t.pool.Query(ctx, "SELECT "+invoiceColumns+" FROM invoice WHERE invoice_id = $1", id)
	if err != nil {
		return nil, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[Invoice])
}

func (t invoiceTable) ofCustomer(ctx context.Context, customer any) ([]*Invoice, error) {
	rows, err := t.pool.Query(ctx, "SELECT "+invoiceColumns+" FROM invoice WHERE customer_id = $1 ORDER BY invoice_id", customer)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToAddrOfStructByName[Invoice])
}

// turnover adds up what was paid, in cents by country. Erasures do not change it.
func (t invoiceTable) turnover(ctx context.Context) (map[string]int64, error) {
	rows, err := t.pool.Query(ctx, "SELECT billing_country, (100 * sum(total - refunded))::bigint FROM invoice GROUP BY billing_country")
	if err != nil {
		return nil, err
	}
	sums, country, cents := map[string]int64{}, "", int64(0)
	_, err = pgx.ForEachRow(rows, []any{&country, &cents}, func() error { sums[country] = cents; return nil })
	return sums, err
}

// RowsOf gives an eraser the invoices of somebody, as they are stored.
func (t invoiceTable) RowsOf(ctx context.Context, s keystore.Subject) iter.Seq2[Invoice, error] {
	return func(yield func(Invoice, error) bool) {
		rows, err := t.ofCustomer(ctx, s.ID())
		if err != nil {
			yield(Invoice{}, err)
			return
		}
		for _, row := range rows {
			if !yield(*row, nil) {
				return
			}
		}
	}
}

// SaveFields stores the columns that an eraser has blanked, and no others: they may have
// changed meanwhile.
func (t invoiceTable) SaveFields(ctx context.Context, i Invoice, columns []string) error {
	personal := map[string]*string{"billing_address": i.BillingAddress, "billing_city": i.BillingCity,
		"billing_state": i.BillingState, "billing_postal_code": i.BillingPostalCode}
	sets, args := []string(nil), []any{i.ID}
	for _, column := range columns {
		value, ok := personal[column]
		if !ok {
			return fmt.Errorf("invoice: %s is no personal column", column)
		}
		args = append(args, value)
		sets = append(sets, fmt.Sprintf("%s = $%d", column, len(args)))
	}
	_, err := t.pool.Exec(ctx, "UPDATE invoice SET "+strings.Join(sets, ", ")+" WHERE invoice_id = $1", args...)
	return err
}
