package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var heapSizes = regexp.MustCompile(` (\d+)->(\d+)->\d+ MB`)

// Memory does not grow with the file: the heap stays below a fraction of its size.
func memoryIsFlat(t *testing.T) {
	p := newPeople(t, 1, 0)
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "oubli.yaml"),
		[]byte("tables: {people: {subject: customer=id, personal: [name]}}"), 0o600))
	f, err := os.Create(filepath.Join(p.dir, "in.csv"))
	require.NoError(t, err)
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, "id,name,rest")
	for i := range 40_000 {
		fmt.Fprintf(w, "%d,name %d,%s\n", i%100+1, i, strings.Repeat("x", 1000))
	}
	require.NoError(t, w.Flush())
	require.NoError(t, f.Close())

	// What the kernel counts would include this test's own memory, from before the exec.
	heap := func(args ...string) (most int) {
		c := p.command(args...)
		c.Env = append(os.Environ(), "GODEBUG=gctrace=1")
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s", out)
		for _, m := range heapSizes.FindAllSubmatch(out, -1) {
			n, err := strconv.Atoi(string(m[2]))
			require.NoError(t, err)
			most = max(most, n)
		}
		return most
	}
	sealing := heap("seal", "people", "in.csv", "-o", "out.csv")
	opening := heap("open", "people", "out.csv", "-o", "back.csv")
	t.Logf("of 40 MB, sealing takes %d MB of heap and opening %d", sealing, opening)
	for _, mb := range []int{sealing, opening} {
		require.NotZero(t, mb)
		require.Less(t, mb, 15)
	}
	in, err := os.ReadFile(filepath.Join(p.dir, "in.csv"))
	require.NoError(t, err)
	back, err := os.ReadFile(filepath.Join(p.dir, "back.csv"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(in, back))
}
