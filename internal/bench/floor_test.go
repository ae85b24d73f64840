package bench

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/maypok86/otter/v2"
	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"
	bolt "go.etcd.io/bbolt"

	"github.com/stretchr/testify/require"
)

// floor is a keystore by hand: one bbolt file with a wrapped data key a subject, shard
// keys in memory, a root in a file.
type floor struct {
	db     *bolt.DB
	dir    string
	shards []tink.AEAD
	root   tink.AEAD
	cache  *otter.Cache[string, cipher.AEAD]
}

const (
	floorShards = 8192
	floorPages  = 32
	ringPlain   = 46 // a section's head, a key id, a time, an empty purpose, 32 bytes of key
	ringAD      = 60
	pagePlain   = floorShards / floorPages * 34
)

var (
	floorBucket = []byte("b")
	ad          = make([]byte, ringAD)
)

func newTink(t testing.TB) tink.AEAD {
	key := make([]byte, 32)
	rand.Read(key)
	p, err := aesgcm.NewParameters(aesgcm.ParametersOpts{KeySizeInBytes: 32, IVSizeInBytes: 12, TagSizeInBytes: 16, Variant: aesgcm.VariantNoPrefix})
	require.NoError(t, err)
	k, err := aesgcm.NewKey(secretdata.NewBytesFromData(key, insecuresecretdataaccess.Token{}), 0, p)
	require.NoError(t, err)
	a, err := aesgcm.NewAEAD(k)
	require.NoError(t, err)
	return a
}

func newFloor(t testing.TB, dir string) *floor {
	f := &floor{dir: dir, root: newTink(t), shards: make([]tink.AEAD, floorShards)}
	for i := range f.shards {
		f.shards[i] = newTink(t)
	}
	var err error
	f.db, err = bolt.Open(filepath.Join(dir, "floor.db"), 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	require.NoError(t, err)
	require.NoError(t, f.db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket(floorBucket)
		return err
	}))
	f.cache = otter.Must(&otter.Options[string, cipher.AEAD]{MaximumSize: 100_000})
	return f
}

// key is as long as a ring's, and as well spread.
func (f *floor) key(i int) []byte {
	shard := uint16(uint32(i) * 2654435761 >> 16 % floorShards)
	k := []byte{byte(shard / (floorShards / floorPages)), 'r'}
	k = binary.BigEndian.AppendUint16(k, shard)
	return fmt.Appendf(k, "customer/%d", i)
}

func shardOf(k []byte) int { return int(binary.BigEndian.Uint16(k[2:])) % floorShards }

// value is a wrapped data key with a revision and a checksum in front.
func (f *floor) value(t testing.TB, shard int) []byte {
	plain := make([]byte, ringPlain)
	rand.Read(plain)
	sealed, err := f.shards[shard].Encrypt(plain, ad)
	require.NoError(t, err)
	v := make([]byte, 16, 16+len(sealed))
	rand.Read(v)
	return append(v, sealed...)
}

type pair struct{ k, v []byte }

func (f *floor) pairs(t testing.TB, from, n int) []pair {
	ps := make([]pair, n)
	for i := range ps {
		ps[i].k = f.key(from + i)
		ps[i].v = f.value(t, shardOf(ps[i].k))
	}
	slices.SortFunc(ps, func(a, b pair) int { return slices.Compare(a.k, b.k) })
	return ps
}

// put is the floor of creating: raw puts in one commit.
func (f *floor) put(ps []pair) error {
	return f.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(floorBucket)
		for _, p := range ps {
			if err := b.Put(p.k, p.v); err != nil {
				return err
			}
		}
		return nil
	})
}

// read is the floor of a cold read: get, unwrap, make the cipher, put it in the cache.
func (f *floor) read(cached bool, ks ...[]byte) error {
	values := make([][]byte, len(ks))
	err := f.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(floorBucket)
		for i, k := range ks {
			values[i] = slices.Clone(b.Get(k))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, k := range ks {
		plain, err := f.shards[shardOf(k)].Decrypt(values[i][16:], ad)
		if err != nil {
			return err
		}
		block, err := aes.NewCipher(plain[14:46])
		if err != nil {
			return err
		}
		a, err := cipher.NewGCM(block)
		if err != nil {
			return err
		}
		if cached {
			f.cache.Set(string(k[4:]), a)
		}
	}
	return nil
}

// erase is the floor of an erasure, durable and final: the tombstone in one commit; a
// new root on disk; the re-wrapped shards with all pages in another; the old root
// overwritten. It leaves out the intent, so that it would not survive a crash.
func (f *floor) erase(t testing.TB, is ...int) error {
	touched := map[int]bool{}
	err := f.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(floorBucket)
		for _, i := range is {
			k := f.key(i)
			touched[shardOf(k)] = true
			if err := b.Put(k, make([]byte, 60)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	old := filepath.Join(f.dir, "floor.root")
	if err := writeSynced(old+".new", 100); err != nil {
		return err
	}
	err = f.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(floorBucket)
		for shard := range touched {
			prefix := f.prefix(shard)
			var moved []pair
			fresh := newTink(t)
			c := b.Cursor()
			for k, v := c.Seek(prefix); len(k) >= 4 && slices.Equal(k[:4], prefix); k, v = c.Next() {
				if len(v) == 60 {
					continue
				}
				plain, err := f.shards[shard].Decrypt(v[16:], ad)
				if err != nil {
					return err
				}
				sealed, err := fresh.Encrypt(plain, ad)
				if err != nil {
					return err
				}
				moved = append(moved, pair{slices.Clone(k), append(slices.Clone(v[:16]), sealed...)})
			}
			f.shards[shard] = fresh
			for _, p := range moved {
				if err := b.Put(p.k, p.v); err != nil {
					return err
				}
			}
		}
		for p := range floorPages {
			sealed, err := f.root.Encrypt(make([]byte, pagePlain), ad)
			if err != nil {
				return err
			}
			if err := b.Put([]byte{byte(p), 'k'}, sealed); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := os.Rename(old+".new", old); err != nil {
		return err
	}
	return writeSynced(old, 100)
}

func (f *floor) prefix(shard int) []byte {
	k := []byte{byte(shard / (floorShards / floorPages)), 'r'}
	return binary.BigEndian.AppendUint16(k, uint16(shard))
}

func writeSynced(path string, n int) error {
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if _, err := w.Write(make([]byte, n)); err != nil {
		return err
	}
	if err := w.Sync(); err != nil {
		return err
	}
	return w.Close()
}
