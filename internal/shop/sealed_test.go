package shop_test

import (
	"bytes"
	"maps"
	"regexp"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// personal are the values of Chinook that are personal in the shop.
func personal(t *testing.T) []string {
	values := map[string]bool{}
	collect := func(table string, columns ...string) {
		for _, row := range chinook(t, table) {
			for _, column := range columns {
				if row[column] != "" {
					values[row[column]] = true
				}
			}
		}
	}
	collect("customers.csv", "first_name", "last_name", "company", "phone", "fax", "email", "address", "city", "state", "postal_code")
	collect("invoices.csv", "billing_address", "billing_city", "billing_state", "billing_postal_code")
	return slices.Sorted(maps.Keys(values))
}

// envelope is what a sealed value looks like in a column of text.
var envelope = regexp.MustCompile(`^oubli1\.[A-Za-z0-9_-]+$`)

// requireSealed looks for values in every column of text or bytes of the database, the
// keystore's included, and returns how many envelopes it met. Nothing is looked for in
// those, and only long values in other bytes: a state of two letters stands in many a
// one by chance.
func requireSealed(t *testing.T, pool *pgxpool.Pool, values []string) (envelopes int) {
	t.Helper()
	type column struct{ Schema, Table, Column string }
	rows, err := pool.Query(t.Context(), `SELECT table_schema AS schema, table_name AS table, column_name AS column
		FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
		WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')
		AND data_type IN ('text', 'character varying', 'bytea')`)
	require.NoError(t, err)
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByName[column])
	require.NoError(t, err)
	var found []string
	for _, c := range columns {
		name := pgx.Identifier{c.Schema, c.Table, c.Column}
		rows, err := pool.Query(t.Context(), "SELECT "+name[2:].Sanitize()+" FROM "+name[:2].Sanitize()+" WHERE "+name[2:].Sanitize()+" IS NOT NULL")
		require.NoError(t, err)
		cells, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]byte, error) { return bytes.Clone(row.RawValues()[0]), nil })
		require.NoError(t, err)
		for _, cell := range cells {
			if envelope.Match(cell) {
				envelopes++
				continue
			}
			for _, v := range values {
				if (c.Schema == "public" || len(v) >= 8) && bytes.Contains(cell, []byte(v)) {
					found = append(found, name.Sanitize()+" "+v)
				}
			}
		}
	}
	require.Empty(t, found)
	return envelopes
}
