package pgrows_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/fieldcrypt/pgrows"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/pgstore"
)

// newSharedWorld makes a world whose keystore is in the same database, opened through
// the application's pool, which has one connection.
func newSharedWorld(t *testing.T) *world {
	ctx := within(t)
	dsn := pgtest.Shared(t).Database(t)
	schema := &pgstore.Options{Schema: fmt.Sprintf("keys%d", worlds.Add(1))}
	made, err := pgstore.Create(ctx, dsn, schema)
	require.NoError(t, err)
	roots := memstore.NewRoots()
	require.NoError(t, keystore.Create(ctx, made, roots, &keystore.CreateOptions{Shards: 64, Lease: 200 * time.Millisecond}))
	require.NoError(t, made.Close())
	backend, err := pgstore.OpenPool(ctx, connect(t, dsn, maxConns(1)), schema)
	require.NoError(t, err)
	keys, err := keystore.Open(ctx, backend, roots, nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		keystoretest.Check(t, keys)
		require.NoError(t, keys.Close())
	})
	return newWorldOn(t, dsn, keys, maxConns(1))
}

func TestNothingTakesASecondConnection(t *testing.T) {
	w := newSharedWorld(t)
	ctx := within(t)
	tx, err := w.pool.Begin(ctx) // holds the only connection
	require.NoError(t, err)
	customers, invoices := w.customers.WithTx(tx), w.invoices.WithTx(tx)
	c, err := customers.Create(ctx, ada()) // a new person: keys are made
	require.NoError(t, err)
	i, err := invoices.Create(ctx, invoice{Customer: 777, Text: "another new person"})
	require.NoError(t, err)
	_, err = invoices.UpdateFields(ctx, i.No, invoice{Text: "new"}, "text")
	require.NoError(t, err)
	c.FirstName = "Augusta"
	_, err = customers.Update(ctx, c)
	require.NoError(t, err)
	for c, err := range customers.List(ctx) {
		require.NoError(t, err)
		_, err = customers.UpdateFields(ctx, c.ID, customer{Visits: 5}, "visits")
		require.NoError(t, err)
	}
	rows, err := tx.Query(ctx, "SELECT id, name FROM (SELECT id, first_name AS name FROM customers) c")
	require.NoError(t, err)
	type part struct {
		ID      int64  `oubli:",subject=customer"`
		Name    string `oubli:"first_name"`
		Privacy fieldcrypt.Status
	}
	codec, err := fieldcrypt.NewCodec[part](w.keys, "customers", nil)
	require.NoError(t, err)
	parts, err := pgrows.CollectRows(ctx, rows, codec)
	require.NoError(t, err)
	require.Equal(t, []part{{c.ID, "Augusta", fieldcrypt.StatusOpen}}, parts)
	require.NoError(t, invoices.Delete(ctx, i.No))
	require.NoError(t, tx.Commit(ctx))

	eraser, err := anonymize.New(w.keys, nil)
	require.NoError(t, err)
	anonymize.Register(eraser, w.codec, w.customers)
	anonymize.Register(eraser, w.invoiceC, w.invoices)
	s, err := w.codec.SubjectOf(&c)
	require.NoError(t, err)
	results, err := eraser.Anonymize(ctx, s)
	require.NoError(t, err)
	require.Equal(t, "erased", results[0].State)
	got, err := w.customers.Get(ctx, c.ID)
	require.NoError(t, err)
	require.Equal(t, "Erased", got.FirstName)
	require.Equal(t, 5, got.Visits)
}

func TestWhatARollbackLeaves(t *testing.T) {
	w := newSharedWorld(t)
	ctx := within(t)
	keysOf := func(text string) keystore.Status {
		t.Helper()
		st, err := w.keys.Status(ctx, subj(t, text))
		require.NoError(t, err)
		return st[0]
	}
	require.Equal(t, keystore.StateUnknown, keysOf("customer/50").State)

	tx, err := w.pool.Begin(ctx)
	require.NoError(t, err)
	_, err = w.invoices.WithTx(tx).Create(ctx, invoice{Customer: 50, Text: "never"})
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(ctx))

	require.Empty(t, all(t, w.invoices.List(ctx)))
	orphan := keysOf("customer/50")
	require.Equal(t, keystore.StateActive, orphan.State, "the keys are there")
	require.Len(t, orphan.Keys, 1)

	// The next row of that person uses them: from this process's cache, and from another's.
	i, err := w.invoices.Create(ctx, invoice{Customer: 50, Text: "for good"})
	require.NoError(t, err)
	require.EqualValues(t, 2, i.No, "a gap in the sequence")
	require.Equal(t, orphan.Keys, keysOf("customer/50").Keys)

	// A person of whom there is nothing but orphans can be erased like any other.
	tx, err = w.pool.Begin(ctx)
	require.NoError(t, err)
	_, err = w.invoices.WithTx(tx).Create(ctx, invoice{Customer: 60, Text: "never"})
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(ctx))
	_, err = w.keys.Erase(ctx, keystore.Request{Subject: subj(t, "customer/60")})
	require.NoError(t, err)
	_, err = w.invoices.Create(ctx, invoice{Customer: 60, Text: "too late"})
	require.ErrorIs(t, err, keystore.ErrErased)
}

func TestTheKeysAreThereBeforeTheRow(t *testing.T) {
	w := newSharedWorld(t)
	ctx := within(t)
	tx, err := w.pool.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(context.WithoutCancel(ctx))
	_, err = w.invoices.WithTx(tx).Create(ctx, invoice{Customer: 50, Text: "not committed yet"})
	require.NoError(t, err)
	// Somebody else's connection sees the ring, and not the row.
	other := connect(t, w.dsn)
	var n int
	require.NoError(t, other.QueryRow(ctx, "SELECT count(*) FROM "+w.invoiceTable().Sanitize()).Scan(&n))
	require.Zero(t, n)
	st, err := w.keys.Status(ctx, subj(t, "customer/50"))
	require.NoError(t, err)
	require.Equal(t, keystore.StateActive, st[0].State)
}
