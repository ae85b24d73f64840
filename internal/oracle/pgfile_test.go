package oracle_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/oracle"
	"github.com/oubli/oubli/keystore"
)

// What PostgreSQL writes, made by hand; internal/pgoracle has the real thing.

// column is a value of variable length at an offset in its row.
func column(at int, value []byte) []byte {
	if len(value) < 127 {
		return append([]byte{byte(len(value)+1)<<1 | 1}, value...)
	}
	padding := make([]byte, -at&3)
	return append(binary.LittleEndian.AppendUint32(padding, uint32(len(value)+4)<<2), value...)
}

func pgRow(rec keystore.Record, value func(at int) []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(rec.Rev))
	b = append(b, rec.Key[0], 0)
	b = append(b, column(len(b), rec.Key[1:])...)
	return append(b, value(len(b))...)
}

func inPlace(rec keystore.Record) []byte {
	return pgRow(rec, func(at int) []byte { return column(at, rec.Value) })
}

// logPages cuts what is logged from an address on into pages. Every other page has the
// header of one that begins a file.
func logPages(address uint64, logged []byte) (pages [][]byte) {
	for header := 24; len(logged) > 0; header = 64 - header {
		page := make([]byte, header, 8192)
		copy(page, []byte{0x10, 0xd1, byte(header-24) / 8})
		binary.LittleEndian.PutUint64(page[8:], address)
		n := min(8192-header, len(logged))
		page = append(page, logged[:n]...)
		pages, logged, address = append(pages, page[:8192]), logged[n:], address+8192
	}
	return pages
}

func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func found(t *testing.T, files ...[]byte) []keystore.Record {
	dir := t.TempDir()
	for i, b := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), b, 0o600))
	}
	p := oracle.NewPGFiles()
	require.NoError(t, p.Add(dir))
	return p.Records()
}

func TestPGFilesFindsRowsInHeapAndLog(t *testing.T) {
	var recs []keystore.Record
	for i, n := range []int{0, 1, 125, 126, 127, 128, 129, 130, 1500} {
		key := fmt.Appendf([]byte{byte(i), 'r', 1, 2}, "customer/%0*d", i+1, i)
		recs = append(recs, keystore.Record{Key: key, Value: noise(n), Rev: keystore.Rev(rand.Uint64() | 1)})
	}
	for range 50 {
		var file []byte
		for _, rec := range recs {
			file = append(append(file, noise(rand.N(900))...), inPlace(rec)...)
		}
		require.Subset(t, found(t, file), recs)
		pages := logPages(3<<24, file)
		require.Greater(t, len(pages), 0)
		require.Subset(t, found(t, slices.Concat(pages...)), recs)
		slices.Reverse(pages) // each in a file of its own
		require.Subset(t, found(t, pages...), recs)
		for i := range file {
			file[i] ^= 0x55
		}
		require.NotSubset(t, found(t, file), recs)
	}

	// A row that ends in the next page of the log is not there without that.
	long := recs[len(recs)-1]
	pages := logPages(0, append(noise(8192-24-1000), inPlace(long)...))
	require.Len(t, pages, 2)
	require.Contains(t, found(t, pages...), long)
	require.NotContains(t, found(t, pages[0]), long)
}

func TestPGFilesJoinsTOAST(t *testing.T) {
	recs := []keystore.Record{
		{Key: []byte{0, 'k'}, Value: noise(5000), Rev: 11},
		{Key: []byte{0, 'k'}, Value: noise(5000), Rev: 12},
		{Key: []byte{1, 'k'}, Value: noise(1996 * 2), Rev: 13},
	}
	var chunks, rows []byte
	for i, rec := range recs {
		id := uint32(0x0005a100 + i)
		seq := uint32(0)
		for chunk := range slices.Chunk(rec.Value, 1996) {
			chunks = binary.LittleEndian.AppendUint32(chunks, id)
			chunks = binary.LittleEndian.AppendUint32(chunks, seq)
			chunks = append(binary.LittleEndian.AppendUint32(chunks, uint32(len(chunk)+4)<<2), chunk...)
			seq++
		}
		row := pgRow(rec, func(int) []byte {
			b := binary.LittleEndian.AppendUint32([]byte{1, 18}, uint32(len(rec.Value)+4))
			b = binary.LittleEndian.AppendUint32(b, uint32(len(rec.Value)))
			b = binary.LittleEndian.AppendUint32(b, id)
			return binary.LittleEndian.AppendUint32(b, 0x4001)
		})
		if i == 1 { // an update that has its end from the row before
			row = row[:len(row)-7]
		}
		rows = append(append(rows, row...), bytes.Repeat([]byte{0xee}, 20)...)
	}
	require.Subset(t, found(t, rows, chunks), recs)
	require.Subset(t, found(t, slices.Concat(logPages(0, slices.Concat(rows, chunks))...)), recs)
	require.Empty(t, found(t, rows), "a pointer alone is no record")
}

func TestPGFilesReadsDumps(t *testing.T) {
	p := oracle.NewPGFiles()
	p.AddDump([]byte("COPY oubli.records (rev, page, key, value) FROM stdin;\n-7\t3\t\\\\x6b\t\\\\x0102\n7\t3\t\\\\x78\t\\\\x0102\nx\t3\t\\\\x6b\t\\\\x01\n\\.\n"))
	rev := int64(-7)
	require.Equal(t, []keystore.Record{{Key: []byte{3, 'k'}, Value: []byte{1, 2}, Rev: keystore.Rev(rev)}}, p.Records())
}
