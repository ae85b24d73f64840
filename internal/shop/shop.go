package shop

import (
	"context"
	_ "embed"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// Options of a Shop. nil means the defaults.
type Options struct {
	// NewsletterURL is called with {"event":…,"email":…} before a subscriber is erased.
	NewsletterURL string

	// Worker is the name of this process among those that run a worker. One that survives
	// restarts lets it take up its own unfinished work at once. Default: random.
	Worker string

	// Logger is told what went wrong. Default: discards.
	Logger *slog.Logger
}

// Shop is the application. It is safe for concurrent use.
type Shop struct {
	keys      *keystore.Store
	customers *customers
	invoices  invoices
	eraser    *anonymize.Eraser
	log       *slog.Logger
}

// New makes a Shop of a database, which has the tables, and a keystore. The two share no
// connection: a transaction of the shop's may hold the pool's last one while it waits for
// a key.
func New(pool *pgxpool.Pool, keys *keystore.Store, o *Options) (*Shop, error) {
	if o == nil {
		o = &Options{}
	}
	s := &Shop{keys: keys, log: o.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.customers, err = newCustomers(pool, keys); err != nil {
		return nil, err
	}
	s.invoices.table = invoiceTable{pool}
	if s.invoices.codec, err = fieldcrypt.NewCodec[Invoice](keys, "invoice", nil); err != nil {
		return nil, err
	}
	return s, s.newEraser(o)
}

// Check looks whether the tables fit: for a start that fails at once and not with the first
// customer.
func (s *Shop) Check(ctx context.Context) error {
	return errors.Join(s.customers.rows.Check(ctx), s.customers.addresses.Check(ctx))
}

// Work does the erasures that were requested, here or in other processes, until ctx ends.
func (s *Shop) Work(ctx context.Context) error { return s.eraser.Run(ctx) }

//go:embed schema.sql
var schema string

// CreateTables makes the tables in an empty database.
func CreateTables(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, schema)
	return err
}
