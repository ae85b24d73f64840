package shop_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
)

// aCustomer is Chinook's n-th.
func aCustomer(t *testing.T, n int) object { return customerOf(chinook(t, "customers.csv")[n]) }

// A customer is stored with all addresses or not at all. The key that was made for one who
// then was not stored holds nothing, and nobody else gets it: the id is not used again.
func TestRollback(t *testing.T) {
	w := newWorld(t)
	pool := w.pool(w.dsn, 0)
	backend, err := pgstore.OpenPool(t.Context(), pool, nil)
	require.NoError(t, err)
	c, keys, _ := w.inProcess(pool, backend)

	bad := aCustomer(t, 0)
	nowhere := object{"street": "Rua do Ouvidor 1", "city": "Rio", "country": ""}
	bad["addresses"] = append(bad["addresses"].([]any), nowhere)
	require.Equal(t, 422, status(c, "POST", "/customers", bad))
	for _, table := range []string{"customer", "address"} {
		var n int
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
		require.Zero(t, n, table)
	}
	left, err := keystore.ParseSubject("customer/1")
	require.NoError(t, err)
	sts, err := keys.Status(t.Context(), left)
	require.NoError(t, err)
	require.Equal(t, keystore.StateActive, sts[0].State)
	require.Equal(t, 404, status(c, "GET", "/customers/1"))
	require.Equal(t, 404, status(c, "DELETE", "/customers/1000"), "nothing was ever stored about this one")
	require.Equal(t, 202, status(c, "DELETE", "/customers/1"), "about this one nobody can tell any more")

	good := want[object](c, 201, "POST", "/customers", aCustomer(t, 0))
	require.Equal(t, "2", id(good))
	require.Equal(t, good, c.get("/customers/2"))
}

// The application may run on a single connection: the keystore has its own, so that a
// transaction which holds that one never waits for a key that needs it.
func TestOneConnection(t *testing.T) {
	w := newWorld(t)
	pool := w.pool(w.dsn, 1)
	backend, err := pgstore.OpenPool(t.Context(), pool, nil)
	require.NoError(t, err)
	c, _, s := w.inProcess(pool, backend)
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	worker := make(chan error, 1)
	go func() { worker <- s.Work(ctx) }()

	t.Run("people", func(t *testing.T) {
		for n := range 4 {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				c := client{t: t, url: c.url}
				me := want[object](c, 201, "POST", "/customers", aCustomer(t, n))
				path := "/customers/" + id(me)
				invoice := invoiceOf(chinook(t, "invoices.csv")[n], me["id"].(float64))
				want[object](c, 201, "POST", "/invoices", invoice)
				me["birth_date"] = fmt.Sprintf("199%d-05-17", n)
				require.Equal(t, me["birth_date"], want[object](c, 200, "PUT", path, me)["birth_date"])
				require.Equal(t, me, c.get(path))
				require.Equal(t, 202, status(c, "DELETE", path))
				c.erasure(id(me), "erased", "final")
				require.Equal(t, "Erased", c.get(path)["first_name"])
				require.NotContains(t, c.get(path), "birth_date")
				require.Len(t, c.list("/tax/invoices?customer="+id(me)), 1)
			})
		}
	})

	// The years of birth have stayed, for statistics.
	var years string
	require.NoError(t, pool.QueryRow(ctx, `SELECT string_agg(split_part(birth_date, '~', 3), ' ' ORDER BY customer_id) FROM customer`).Scan(&years))
	require.Len(t, years, len("1990 1991 1992 1993"))
	require.Contains(t, years, "1993")
	stop()
	require.NoError(t, <-worker)
}

// A keystore that is away is no reason to say that somebody is not there or was erased, and
// what needs no key goes on.
func TestKeystoreAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	proxy := pgtest.Shared(t).Proxy(t)
	backend, err := pgstore.Open(t.Context(), pgtest.Via(w.dsn, proxy.DSN()), nil)
	require.NoError(t, err)
	c, _, _ := w.inProcess(w.pool(w.dsn, 0), backend)
	me := want[object](c, 201, "POST", "/customers", aCustomer(t, 1))
	path := "/customers/" + id(me)
	require.Equal(t, me, c.get(path))

	proxy.Cut()
	time.Sleep(lease)
	t.Run("away", func(t *testing.T) {
		for _, r := range []struct {
			method, path string
			body         any
		}{
			{"GET", path, nil},
			{"PUT", path, me},
			{"DELETE", path, nil},
			{"POST", "/customers", aCustomer(t, 2)},
			{"GET", "/erasures/" + id(me), nil},
			{"POST", "/invoices", invoiceOf(chinook(t, "invoices.csv")[0], me["id"].(float64))},
		} {
			t.Run(r.method+" "+r.path, func(t *testing.T) {
				t.Parallel()
				status, text := client{t: t, url: c.url}.call(r.method, r.path, r.body)
				require.Equal(t, 503, status, "%s", text)
			})
		}
	})
	require.Equal(t, 200, status(c, "GET", "/report/turnover"))
	require.Equal(t, 404, status(c, "GET", "/customers/1000"))

	proxy.Restore(t)
	require.Eventually(t, func() bool { return status(c, "GET", path) == 200 }, 10*time.Second, 50*time.Millisecond)
	require.Equal(t, me, c.get(path))
	require.Equal(t, "none", c.get("/erasures/" + id(me))["state"])
}
