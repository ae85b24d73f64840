package boltstore_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
)

const (
	benchSubjects = 100_000
	benchBatch    = 10_000
	benchKey      = 25
	benchValue    = 110
)

// subjectKey spreads i over the key space, as shards do.
func subjectKey(i int) []byte {
	key := make([]byte, benchKey)
	binary.BigEndian.PutUint64(key, uint64(i+1)*0x9E3779B97F4A7C15)
	copy(key[8:], fmt.Sprintf("customer/%08d", i))
	return key
}

// load fills a new keystore in batches and returns its path, with the most bytes for
// a subject that the file had after any batch.
func load(tb testing.TB, n int) (path string, most float64) {
	path = filepath.Join(tb.TempDir(), "keys")
	s, err := boltstore.Create(path, nil)
	require.NoError(tb, err)
	for i := 0; i < n; i += benchBatch {
		g := make(keystore.Group, 0, benchBatch)
		for j := i; j < i+benchBatch; j++ {
			g = append(g, keystore.Write{Op: keystore.Put, Key: subjectKey(j), Rev: keystore.Rev(rand.Uint64() | 1), Value: make([]byte, benchValue)})
		}
		_, err := s.Commit(tb.Context(), []keystore.Group{g})
		require.NoError(tb, err)
		info, err := os.Stat(path)
		require.NoError(tb, err)
		most = max(most, float64(info.Size())/float64(i+benchBatch))
	}
	require.NoError(tb, s.Close())
	return path, most
}

func loadRaw(tb testing.TB, n int) string {
	path := filepath.Join(tb.TempDir(), "raw")
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	require.NoError(tb, err)
	for i := 0; i < n; i += benchBatch {
		require.NoError(tb, db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("o"))
			if err != nil {
				return err
			}
			for j := i; j < i+benchBatch; j++ {
				if err := b.Put(subjectKey(j), make([]byte, benchValue+12)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	require.NoError(tb, db.Close())
	return path
}

func BenchmarkLoad(b *testing.B) {
	b.Run("boltstore", func(b *testing.B) {
		for b.Loop() {
			path, most := load(b, benchSubjects)
			b.ReportMetric(most, "max-B/subject")
			info, err := os.Stat(path)
			require.NoError(b, err)
			b.ReportMetric(float64(info.Size())/benchSubjects, "B/subject")
			compacted := path + ".compacted"
			b.StopTimer()
			require.NoError(b, boltstore.Compact(compacted, path))
			info, err = os.Stat(compacted)
			require.NoError(b, err)
			b.ReportMetric(float64(info.Size())/benchSubjects, "compacted-B/subject")
			b.StartTimer()
		}
	})
	b.Run("floor", func(b *testing.B) {
		for b.Loop() {
			loadRaw(b, benchSubjects)
		}
	})
}

func BenchmarkGet(b *testing.B) {
	path, _ := load(b, benchSubjects)
	keys := make([][]byte, benchSubjects)
	for i := range keys {
		keys[i] = subjectKey(rand.IntN(benchSubjects))
	}
	b.Run("one", func(b *testing.B) {
		s, err := boltstore.Open(path, nil)
		require.NoError(b, err)
		defer s.Close()
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			rs, err := s.Get(b.Context(), keys[i:i+1])
			if err != nil || rs[0].Rev == 0 {
				b.Fatal(err)
			}
			i = (i + 1) % len(keys)
		}
	})
	b.Run("thousand", func(b *testing.B) {
		s, err := boltstore.Open(path, nil)
		require.NoError(b, err)
		defer s.Close()
		b.ReportAllocs()
		for i := 0; b.Loop(); i = (i + 1000) % (len(keys) - 1000) {
			if _, err := s.Get(b.Context(), keys[i:i+1000]); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/key")
	})
	b.Run("floor-one", func(b *testing.B) {
		db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
		require.NoError(b, err)
		defer db.Close()
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			err := db.View(func(tx *bolt.Tx) error {
				v := tx.Bucket([]byte("o")).Get(keys[i])
				_ = append([]byte(nil), v...)
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			i = (i + 1) % len(keys)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	path, _ := load(b, benchSubjects)
	for b.Loop() {
		s, err := boltstore.Open(path, nil)
		require.NoError(b, err)
		require.NoError(b, s.Close())
	}
}
