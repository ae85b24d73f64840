package pgrows_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/fieldcrypt/pgrows"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

func TestReadersWritersAndAnEraserAtOnce(t *testing.T) {
	w := newWorld(t, maxConns(4))
	ctx := within(t)
	const people = 20
	for n := range people {
		c := ada()
		c.FirstName = fmt.Sprint("Ada", n+1)
		w.create(c)
	}
	var erased [people + 1]atomic.Bool // set once the erasure has returned
	var group sync.WaitGroup
	var stop atomic.Bool
	run := func(work func(id int64) error) {
		group.Go(func() {
			for n := int64(0); !stop.Load(); n++ {
				if err := work(n%people + 1); err != nil && !errors.Is(err, keystore.ErrErased) && !errors.Is(err, keystore.ErrErasing) && !errors.Is(err, keystore.ErrState) {
					t.Error(err)
					return
				}
			}
		})
	}
	check := func(c customer, before bool) {
		if c.Privacy == fieldcrypt.StatusOpen && (before || c.FirstName != fmt.Sprint("Ada", c.ID)) {
			t.Errorf("customer/%d reads as %q, erased before: %v", c.ID, c.FirstName, before)
		}
	}
	run(func(id int64) error {
		before := erased[id].Load()
		c, err := w.customers.Get(ctx, id)
		if err == nil {
			check(c, before)
		}
		return err
	})
	run(func(id int64) error {
		_, err := w.customers.UpdateFields(ctx, id, customer{FirstName: fmt.Sprint("Ada", id)}, "first_name")
		return err
	})
	run(func(id int64) error {
		_, err := w.invoices.Create(ctx, invoice{Customer: id, Text: "t"})
		return err
	})
	run(func(int64) error {
		var before [people + 1]bool
		for id := range before {
			before[id] = erased[id].Load()
		}
		for c, err := range w.customers.List(ctx) {
			if err != nil {
				return err
			}
			check(c, before[c.ID])
		}
		return nil
	})
	eraser, err := anonymize.New(w.keys, nil)
	require.NoError(t, err)
	anonymize.Register(eraser, w.codec, w.customers)
	anonymize.Register(eraser, w.invoiceC, w.invoices)
	for id := range people / 2 {
		_, err := eraser.Anonymize(ctx, subj(t, fmt.Sprint("customer/", id+1)))
		require.NoError(t, err)
		erased[id+1].Store(true)
	}
	stop.Store(true)
	group.Wait()
	for c, err := range w.customers.List(ctx) {
		require.NoError(t, err)
		require.Equal(t, c.ID <= people/2, c.Privacy == fieldcrypt.StatusErased)
		check(c, c.ID <= people/2)
	}
	for i, err := range w.invoices.List(ctx) {
		require.NoError(t, err)
		require.Equal(t, i.Customer <= people/2, i.Privacy == fieldcrypt.StatusErased)
	}
}

func TestBehindAPoolerInTransactionMode(t *testing.T) {
	server := pgtest.Shared(t)
	db := server.Database(t)
	direct := connect(t, db)
	ctx := within(t)
	_, err := direct.Exec(ctx, customers)
	require.NoError(t, err)
	keys := keystoretest.New(t)
	codec, err := fieldcrypt.NewCodec[customer](keys, "customers", nil)
	require.NoError(t, err)
	pooled := pgtest.Via(db, server.Bouncer(t, "transaction"))

	pool := connect(t, pooled, mode(pgx.QueryExecModeExec), maxConns(4))
	table, err := pgrows.New[customer, int64](pool, codec, nil)
	require.NoError(t, err)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 10 {
				c, err := table.Create(ctx, ada())
				if err == nil {
					c, err = table.Get(ctx, c.ID)
				}
				if err == nil {
					_, err = table.UpdateFields(ctx, c.ID, c, "first_name", "created_at", "photo", "phone")
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	for c, err := range table.List(ctx) {
		require.NoError(t, err)
		requireAda(t, c)
	}
	require.Equal(t, 40, len(all(t, table.Find(ctx, map[string]any{"active": true}))))

	// Prepared statements are of one server connection, and the next statement may run
	// on another.
	one, other := connect(t, pooled, maxConns(1)), connect(t, pooled, maxConns(1))
	table, err = pgrows.New[customer, int64](one, codec, nil)
	require.NoError(t, err)
	_, err = table.Get(ctx, 1)
	require.NoError(t, err)
	tx, err := other.Begin(ctx) // takes the server connection that was used last
	require.NoError(t, err)
	_, err = table.Get(ctx, 1)
	require.ErrorContains(t, err, "behind a pooler in transaction mode set pgx's default_query_exec_mode to exec")
	require.NoError(t, tx.Rollback(ctx))
}
