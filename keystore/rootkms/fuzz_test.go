package rootkms

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

func sampleHead() *head {
	at := time.Unix(1_790_000_000, 0).UTC()
	sub, err := keystore.NewSubject("customer", "42")
	if err != nil {
		panic(err)
	}
	return &head{
		store: keystore.StoreID{1, 2}, phase: removing, sweeps: 300, nextPage: 9, firstPage: 4,
		roots: []entry{
			{id: keystore.RootID{1}, epoch: 7, created: at, key: "arn:aws:kms:eu-west-1:1:key/a", wrapped: []byte("wrapped"), former: []string{"5", "6"}},
			{id: keystore.RootID{2}, epoch: 6, created: at, key: "7", dying: true, doomed: true, asked: at, until: at.Add(time.Hour), gone: at},
			{id: keystore.RootID{3}, key: "8", dying: true, scratch: true, asked: at, until: at},
		},
		destroyed: []keystore.RootID{{4}, {5}},
		anchor:    keystore.Anchor{Epoch: 7, Advances: 8, Counters: []uint64{1, 1 << 60, 0}, LedgerSize: 3, LedgerHead: [32]byte{9}},
		recent: []keystore.Tombstone{{Event: keystore.EventID{1}, Subject: sub, Page: 3, Counter: 4, At: at.Add(5), Keys: []uint32{1, 1<<32 - 1}, Erased: true},
			{Event: keystore.EventID{2}, Subject: sub, At: at, Keep: []string{"tax"}, Gone: []string{"ads", ""}}},
		pages: []pageRef{{number: 4, count: 1000, sum: sha256.Sum256(nil)}, {number: 8, count: 1}},
		extra: []section{{optionalTag + 3, []byte("of a later version")}},
	}
}

func TestHeadRoundTrip(t *testing.T) {
	for _, h := range []*head{sampleHead(), {}} {
		b := h.encode()
		got, err := decodeHead(b)
		require.NoError(t, err)
		require.Equal(t, h, got)
		require.Equal(t, b, got.encode())
	}
	h := sampleHead()
	h.extra[0].tag = 9
	_, err := decodeHead(h.encode())
	require.ErrorContains(t, err, "newer")
	require.ErrorIs(t, err, keystore.ErrTampered)
}

// FuzzHead parses documents whose frame is made right: what parses is written as it was.
func FuzzHead(f *testing.F) {
	sample := sampleHead().encode()
	f.Add(sample[:len(sample)-sha256.Size])
	empty := (&head{}).encode()
	f.Add(empty[:len(empty)-sha256.Size])
	f.Add([]byte("oubliKH\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, doc := range [][]byte{b, framed(b)} {
			h, err := decodeHead(doc)
			if err != nil {
				if !errors.Is(err, keystore.ErrTampered) {
					t.Fatalf("the error is not ErrTampered: %v", err)
				}
				continue
			}
			again, err := decodeHead(h.encode())
			if err != nil {
				t.Fatalf("what was written does not parse: %v", err)
			}
			if !bytes.Equal(again.encode(), h.encode()) {
				t.Fatal("a second time it is written otherwise")
			}
		}
	})
}

func framed(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(bytes.Clone(b), sum[:]...)
}

// FuzzPage does the same for a page of tombstones.
func FuzzPage(f *testing.F) {
	h := sampleHead()
	sample := encodePage(h.store, 4, h.recent)
	f.Add(sample[:len(sample)-sha256.Size])
	f.Fuzz(func(t *testing.T, b []byte) {
		doc := framed(b)
		for count := range 3 {
			p, err := decodePage(doc, h.store, pageRef{number: 4, count: count, sum: sha256.Sum256(doc)})
			if err != nil {
				if !errors.Is(err, keystore.ErrTampered) {
					t.Fatalf("the error is not ErrTampered: %v", err)
				}
				continue
			}
			if checkTombstones(p) != nil {
				t.Fatal("what was read would not be written")
			}
		}
	})
}

// What a root is bound to can't be read in two ways.
func TestAssociatedDataIsUnambiguous(t *testing.T) {
	seen := map[string]bool{}
	for _, ad := range [][]byte{
		rootAD(keystore.StoreID{1}, keystore.RootID{2}, 3, "4"), rootAD(keystore.StoreID{2}, keystore.RootID{2}, 3, "4"),
		rootAD(keystore.StoreID{1}, keystore.RootID{1}, 3, "4"), rootAD(keystore.StoreID{1}, keystore.RootID{2}, 4, "4"),
		rootAD(keystore.StoreID{1}, keystore.RootID{2}, 3, "5"), rootAD(keystore.StoreID{1}, keystore.RootID{2}, 3, ""),
	} {
		require.False(t, seen[string(ad)])
		seen[string(ad)] = true
	}
	require.Equal(t, "oubli wrapped root\x01\x10\x01"+string(make([]byte, 15))+"\x10\x02"+string(make([]byte, 15))+"\x08\x00\x00\x00\x00\x00\x00\x00\x03\x02k1",
		string(rootAD(keystore.StoreID{1}, keystore.RootID{2}, 3, "k1")))
}
