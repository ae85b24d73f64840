package shop

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/fieldcrypt/pgrows"
	"github.com/oubli/oubli/keystore"
)

// customers are the customers with their addresses. Both tables are pgrows tables:
// personal columns are sealed on the way in and opened on the way out.
type customers struct {
	pool      *pgxpool.Pool
	rows      *pgrows.Table[Customer, int64]
	addresses *pgrows.Table[Address, int64]

	codec        *fieldcrypt.Codec[Customer] // for the eraser
	addressCodec *fieldcrypt.Codec[Address]
}

func newCustomers(pool *pgxpool.Pool, keys *keystore.Store) (c *customers, err error) {
	c = &customers{pool: pool}
	if c.codec, err = fieldcrypt.NewCodec[Customer](keys, "customer", nil); err != nil {
		return nil, err
	}
	if c.addressCodec, err = fieldcrypt.NewCodec[Address](keys, "address", nil); err != nil {
		return nil, err
	}
	if c.rows, err = pgrows.New[Customer, int64](pool, c.codec, nil); err != nil {
		return nil, err
	}
	c.addresses, err = pgrows.New[Address, int64](pool, c.addressCodec, nil)
	return c, err
}

// create stores a customer with their addresses, all of it or nothing. The key of a new
// customer is made by a transaction of the keystore's own; if this one is rolled back, it
// stays behind and holds nothing.
func (cs *customers) create(ctx context.Context, c Customer, as []Address) (Customer, []Address, error) {
	var stored []Address
	err := pgx.BeginFunc(ctx, cs.pool, func(tx pgx.Tx) (err error) {
		if c, err = cs.rows.WithTx(tx).Create(ctx, c); err != nil {
			return err
		}
		addresses := cs.addresses.WithTx(tx)
		for _, a := range as {
			a.CustomerID = c.ID
			if a, err = addresses.Create(ctx, a); err != nil {
				return err
			}
			stored = append(stored, a)
		}
		return nil
	})
	return c, stored, err
}

// get reads a customer with their addresses.
func (cs *customers) get(ctx context.Context, id int64) (c Customer, as []Address, err error) {
	if c, err = cs.rows.Get(ctx, id); err != nil {
		return c, nil, err
	}
	for a, err := range cs.addresses.Find(ctx, map[string]any{"customer_id": id}) {
		if err != nil {
			return c, nil, err
		}
		as = append(as, a)
	}
	return c, as, nil
}
