package boltstore_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
)

// sample makes a keystore file of n records, in several commits with replacements and
// deletions, and returns what stands in it.
func sample(t testing.TB, n int) (file []byte, records []keystore.Record) {
	path := filepath.Join(t.TempDir(), "keys")
	s, err := boltstore.Create(path, nil)
	require.NoError(t, err)
	rev := func(i, version int) keystore.Rev { return keystore.Rev(uint64(2*i+version+1) * 0x9E3779B97F4A7C15) }
	key := func(i int) []byte { return fmt.Appendf(nil, "r%05d", i*7919%100003) }
	value := func(i, version int) []byte {
		return bytes.Repeat(fmt.Appendf(nil, "%d.%d ", i, version), 3+i%40)
	}
	commit := func(g keystore.Group) {
		_, err := s.Commit(t.Context(), []keystore.Group{g})
		require.NoError(t, err)
	}
	var g keystore.Group
	for i := range n {
		g = append(g, keystore.Write{Op: keystore.Put, Key: key(i), Rev: rev(i, 0), Value: value(i, 0)})
	}
	commit(g)
	g = nil
	for i := range n {
		switch {
		case i%5 == 0:
			g = append(g, keystore.Write{Op: keystore.Put, Key: key(i), If: rev(i, 0), Rev: rev(i, 1), Value: value(i, 1)})
		case i%11 == 0:
			g = append(g, keystore.Write{Op: keystore.Delete, Key: key(i), If: rev(i, 0)})
		}
	}
	commit(g)
	records, err = s.Scan(t.Context(), []byte("a"), []byte("z"), n+1)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	file, err = os.ReadFile(path)
	require.NoError(t, err)
	return file, records
}

// requireErrorOrTruth opens an altered copy of a keystore: it must be refused, or hold
// just what it held before, with goOn also after a further write, which takes fsyncs.
func requireErrorOrTruth(t testing.TB, altered []byte, records []keystore.Record, goOn bool) (refused bool) {
	path := filepath.Join(t.TempDir(), "altered")
	require.NoError(t, os.WriteFile(path, altered, 0o600))
	s, err := boltstore.Open(path, nil)
	if err != nil {
		require.ErrorIs(t, err, keystore.ErrTampered)
		require.Contains(t, err.Error(), path)
		require.Contains(t, err.Error(), "oubli restore")
		return true
	}
	got, err := s.Scan(t.Context(), []byte("a"), []byte("z"), len(records)+10)
	require.NoError(t, err)
	require.Equal(t, records, got)
	if !goOn {
		require.NoError(t, s.Close())
		return false
	}
	g := keystore.Group{{Op: keystore.Put, Key: []byte("s"), Rev: 1, Value: make([]byte, 9000)}}
	_, err = s.Commit(t.Context(), []keystore.Group{g})
	require.NoError(t, err)
	got, err = s.Scan(t.Context(), []byte("a"), []byte("s"), len(records)+10)
	require.NoError(t, err)
	require.Equal(t, records, got)
	require.NoError(t, s.Close())
	return false
}

// alter reads changes from script: each has an offset, 3 bytes, and a byte to add; the
// first 3 bytes cut the file, where they lie within it.
func alter(file, script []byte) []byte {
	file = bytes.Clone(file)
	offset := func() int { return int(binary.BigEndian.Uint32(append([]byte{0}, script[:3]...))) }
	if len(script) < 3 {
		return file
	}
	if cut := offset(); cut < len(file) {
		file = file[:cut]
	}
	for script = script[3:]; len(script) >= 4 && len(file) > 0; script = script[4:] {
		file[offset()%len(file)] += script[3]
	}
	return file
}

func FuzzAlteredFile(f *testing.F) {
	whole := "\xff\xff\xff"
	for _, seed := range []string{
		"\x00\x00\x00", "\x00\x00\x50", "\x00\x10\x00", "\x00\x20\x10", "\x00\x40\x00", "\x00\x7f\xff",
		whole,
		whole + "\x00\x00\x10\x01",                 // magic
		whole + "\x00\x10\x48\x01",                 // transaction of the second meta page
		whole + "\x00\x30\x08\x01",                 // page type
		whole + "\x00\x30\x0a\xff",                 // count
		whole + "\x00\x30\x0c\x01",                 // overflow
		whole + "\x00\x40\x14\x01\x00\x50\x18\x01", // positions and sizes
		whole + "\x00\x60\x20\x01",
		whole + "\x00\x30\x31\x30", // id of the inline page
	} {
		f.Add([]byte(seed))
	}
	small, smallRecords := sample(f, 4) // inline bucket
	large, largeRecords := sample(f, 300)
	f.Fuzz(func(t *testing.T, script []byte) {
		requireErrorOrTruth(t, alter(small, script), smallRecords, true)
		requireErrorOrTruth(t, alter(large, script), largeRecords, true)
	})
}
