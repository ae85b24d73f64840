package pgrows_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// A list of 60 MB is read with a page of it in memory at a time.
func TestListTakesFlatMemory(t *testing.T) {
	w := newWorld(t)
	ctx := within(t)
	const rows = 30_000 // with nothing personal in them, so that none needs a key
	w.exec(`INSERT INTO customers (first_name, street, country, plan)
		SELECT '', '', 'GB', repeat('x', 2000) FROM generate_series(1, 30000)`)
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, most, n := heap(), int64(0), 0
	for c, err := range w.customers.List(ctx) {
		require.NoError(t, err)
		require.Len(t, c.Plan, 2000)
		if n++; n%3000 == 0 {
			most = max(most, heap()-before)
		}
	}
	require.Equal(t, rows, n)
	require.Less(t, most, int64(15<<20))
}
