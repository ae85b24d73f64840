package shop_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// client speaks to the shop over HTTP. What it sends and gets are objects of JSON.
type client struct {
	t   *testing.T
	url string
}

type object = map[string]any

// try makes a request and returns the answer's status, body and header.
func (c client) try(method, path string, body any) (status int, answer []byte, header http.Header, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, nil, nil, err
	}
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, bytes.NewReader(text))
	if err != nil {
		return 0, nil, nil, err
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer a.Body.Close()
	answer, err = io.ReadAll(a.Body)
	return a.StatusCode, answer, a.Header, err
}

// call makes a request that must be answered.
func (c client) call(method, path string, body any) (int, []byte) {
	c.t.Helper()
	status, answer, _, err := c.try(method, path, body)
	require.NoError(c.t, err)
	return status, answer
}

// want makes a request that must be answered with a status.
func want[T any](c client, status int, method, path string, body any) (v T) {
	c.t.Helper()
	got, text := c.call(method, path, body)
	require.Equal(c.t, status, got, "%s %s: %s", method, path, text)
	require.NoError(c.t, json.Unmarshal(text, &v), "%s", text)
	return v
}

func (c client) get(path string) object { c.t.Helper(); return want[object](c, 200, "GET", path, nil) }

func (c client) list(path string) []object {
	c.t.Helper()
	return want[[]object](c, 200, "GET", path, nil)
}

// erasure waits until the erasure of a customer is in one of some states.
func (c client) erasure(id string, states ...string) object {
	c.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		e := c.get("/erasures/" + id)
		for _, s := range states {
			if e["state"] == s {
				return e
			}
		}
		require.True(c.t, time.Now().Before(end), "the erasure stays %v", e)
	}
}

// erased reads a customer whose erasure is done: never again what they were, but for the
// time of a lease perhaps that they are withheld.
func (c client) erased(path string) object {
	c.t.Helper()
	for end := time.Now().Add(10 * lease); ; time.Sleep(lease / 10) {
		status, text := c.call("GET", path, nil)
		if status == 451 && time.Now().Before(end) {
			continue
		}
		require.Equal(c.t, 200, status, "%s", text)
		var row object
		require.NoError(c.t, json.Unmarshal(text, &row))
		require.Equal(c.t, "erased", row["privacy"])
		return row
	}
}

// chinook reads a table of the project's extract of Chinook; its licence is beside it.
func chinook(t *testing.T, name string) []map[string]string {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "cmd", "oubli", "internal", "demo", "chinook", name))
	require.NoError(t, err)
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	var all []map[string]string
	for _, row := range rows[1:] {
		values := map[string]string{}
		for i, column := range rows[0] {
			values[column] = row[i]
		}
		all = append(all, values)
	}
	return all
}

// orNil is what an empty cell is in JSON.
func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// customerOf is a row of Chinook's customers as the shop takes it.
func customerOf(row map[string]string) object {
	rep, _ := strconv.Atoi(row["support_rep_id"])
	return object{
		"first_name": row["first_name"], "last_name": row["last_name"], "company": orNil(row["company"]),
		"phone": orNil(row["phone"]), "fax": orNil(row["fax"]), "email": row["email"],
		"newsletter": true, "support_rep_id": float64(rep),
		"addresses": []any{object{"street": row["address"], "city": row["city"], "state": orNil(row["state"]),
			"postal_code": orNil(row["postal_code"]), "country": row["country"]}},
	}
}

// invoiceOf is a row of Chinook's invoices as the shop takes it.
func invoiceOf(row map[string]string, customer float64) object {
	total, _ := strconv.ParseFloat(row["total"], 64)
	return object{
		"customer_id": customer, "date": strings.Replace(row["invoice_date"], " ", "T", 1) + "Z",
		"billing_address": orNil(row["billing_address"]), "billing_city": orNil(row["billing_city"]),
		"billing_state": orNil(row["billing_state"]), "billing_postal_code": orNil(row["billing_postal_code"]),
		"billing_country": row["billing_country"], "cents": math.Round(total * 100), "refunded_cents": 0.0,
	}
}
