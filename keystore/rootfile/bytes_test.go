package rootfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oubli/oubli/keystore"
)

func drawRoots(t *rapid.T) *rootFile {
	id := rapid.SliceOfN(rapid.Byte(), 16, 16)
	f := &rootFile{store: keystore.StoreID(id.Draw(t, "store"))}
	seen := make(map[keystore.RootID]bool)
	for range rapid.IntRange(0, 80).Draw(t, "roots") {
		r := keystore.Root{
			ID:      keystore.RootID(id.Draw(t, "id")),
			Epoch:   rapid.Uint64().Draw(t, "epoch"),
			Created: time.Unix(rapid.Int64Range(-1e10, 1e10).Draw(t, "created"), 0).UTC(),
			Key:     keystore.Secret(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key")),
		}
		if !seen[r.ID] {
			seen[r.ID] = true
			f.living = append(f.living, r)
		}
	}
	for range rapid.IntRange(0, 300).Draw(t, "destroyed") {
		f.destroyed = append(f.destroyed, keystore.RootID(id.Draw(t, "gone")))
	}
	if rapid.Bool().Draw(t, "later part") {
		f.extra = append(f.extra, section{0x8001, 3, []byte("of a later version")})
	}
	return f
}

func TestRootFileRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawRoots(t)
		atLeast := rapid.IntRange(0, 20000).Draw(t, "at least")
		b := f.encode(atLeast)
		require.Zero(t, len(b)%rootBlock)
		require.GreaterOrEqual(t, len(b), atLeast)
		got, err := decodeRoot(b)
		require.NoError(t, err)
		require.Equal(t, f, got)

		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		_, err = decodeRoot(b[:at])
		require.ErrorIs(t, err, keystore.ErrTampered)
		b[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		_, err = decodeRoot(b)
		require.ErrorIs(t, err, keystore.ErrTampered)
	})
}

func TestRootFileFromALaterVersion(t *testing.T) {
	_, err := decodeRoot((&rootFile{extra: []section{{7, 1, []byte("x")}}}).encode(0))
	require.ErrorContains(t, err, "newer version (section 7.1)")
	_, err = decodeRoot((&rootFile{extra: []section{{tagRoots, 1, nil}}}).encode(0))
	require.ErrorContains(t, err, "twice")
}

func drawTombstone(t *rapid.T) keystore.Tombstone {
	text := rapid.StringN(0, 20, 60)
	s, err := keystore.NewSubject("kind", rapid.StringMatching(`[1-9a-z@/-]{0,20}x`).Draw(t, "id"), keystore.AllowAt())
	require.NoError(t, err)
	out := keystore.Tombstone{
		Subject: s,
		Page:    rapid.Byte().Draw(t, "page"),
		Counter: rapid.Uint64().Draw(t, "counter"),
		At:      time.Unix(rapid.Int64Range(-1e10, 1e10).Draw(t, "at"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC(),
		Erased:  rapid.Bool().Draw(t, "erased"),
	}
	binary.BigEndian.PutUint64(out.Event[:], rapid.Uint64Min(1).Draw(t, "event"))
	for range rapid.IntRange(0, 3).Draw(t, "n") {
		out.Keys = append(out.Keys, rapid.Uint32().Draw(t, "key"))
		out.Keep = append(out.Keep, text.Draw(t, "keep"))
		out.Gone = append(out.Gone, text.Draw(t, "gone"))
	}
	return out
}

func drawAnchor(t *rapid.T) keystore.Anchor {
	a := keystore.Anchor{
		Epoch: rapid.Uint64().Draw(t, "epoch"), Advances: rapid.Uint64().Draw(t, "advances"),
		LedgerSize: rapid.Uint64Min(1).Draw(t, "size"),
		LedgerHead: [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "head")),
	}
	for range rapid.IntRange(0, 32).Draw(t, "pages") {
		a.Counters = append(a.Counters, rapid.Uint64().Draw(t, "counter"))
	}
	return a
}

func TestAnchorRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &anchorLog{store: keystore.StoreID{4}, anchor: drawAnchor(t)}
		l.tombstones = missing(nil, rapid.SliceOfN(rapid.Custom(drawTombstone), 0, 20).Draw(t, "tombstones"))
		if rapid.Bool().Draw(t, "later part") {
			l.extra = []section{{0x8001, 3, []byte("of a later version")}}
		}
		b := l.encode()
		require.LessOrEqual(t, int64(len(b)), l.needs()+recordFrame)
		got, err := decodeAnchor(b)
		require.NoError(t, err)
		got.size, got.total = 0, 0
		if len(l.tombstones) == 0 {
			l.tombstones, got.tombstones = nil, nil
		}
		require.Equal(t, l, got)
	})
}

// threeRecords returns a log that was written in three steps, and where each ends.
func threeRecords(t testing.TB) (b []byte, ends []int) {
	store := keystore.StoreID{4}
	l := &anchorLog{store: store, anchor: keystore.Anchor{Epoch: 1, Counters: []uint64{1}}, tombstones: nil}
	b = l.encode()
	ends = append(ends, len(b))
	for i := range 2 {
		ts := tombstoneSections([]keystore.Tombstone{tombstone(t, i)})
		b = appendRecord(b, store, int64(len(b)), append([]section{anchorSection(keystore.Anchor{Epoch: uint64(i + 2)})}, ts...))
		ends = append(ends, len(b))
	}
	return b, ends
}

func TestTornAndAlteredAnchor(t *testing.T) {
	b, ends := threeRecords(t)
	for n := range len(b) + 1 {
		l, err := decodeAnchor(b[:n])
		if n < ends[0] {
			require.ErrorIs(t, err, keystore.ErrTampered, "cut at %d", n)
			continue
		}
		require.NoError(t, err, "cut at %d", n)
		whole := 1
		for whole < 3 && n >= ends[whole] {
			whole++
		}
		require.Equal(t, uint64(whole), l.anchor.Epoch)
		require.Equal(t, int64(ends[whole-1]), l.size)
		require.Len(t, l.tombstones, whole-1)
	}
	for n := range b {
		bad := bytes.Clone(b)
		bad[n] ^= 0x40
		l, err := decodeAnchor(bad)
		if n < ends[1] {
			require.ErrorIs(t, err, keystore.ErrTampered, "altered at %d", n)
		} else { // not to be told from a write that was cut off
			require.NoError(t, err)
			require.Equal(t, uint64(2), l.anchor.Epoch)
		}
	}
	cut := append(bytes.Clone(b[:ends[0]]), b[ends[1]:]...)
	l, err := decodeAnchor(cut)
	require.NoError(t, err)
	require.Equal(t, uint64(1), l.anchor.Epoch, "a record counts only where it was written")
}

func TestTornTailIsCutOffByTheNextWrite(t *testing.T) {
	ps := paths(t, 1)
	s := created(t, ps, newRoot(1))
	require.NoError(t, s.Raise(ctx, keystore.Anchor{Epoch: 2}, nil))
	f, err := os.OpenFile(ps[0]+anchorSuffix, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.WriteString(recordMarker + strings.Repeat("torn", 1000))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, s.Raise(ctx, keystore.Anchor{Epoch: 3}, []keystore.Tombstone{tombstone(t, 0)}))
	require.NotContains(t, string(everyByte(t, ps)), "torntorn")
	require.Equal(t, uint64(3), load(t, s).Anchor.Epoch)
}

func FuzzRootFile(f *testing.F) {
	r := keystore.Root{ID: keystore.RootID{1}, Epoch: 2, Created: time.Unix(3, 0), Key: keystore.Secret{4}}
	good := &rootFile{store: keystore.StoreID{5}, living: []keystore.Root{r}, destroyed: []keystore.RootID{{6}}}
	f.Add(good.encode(0)[:rootHeader+2*sectionHeader+rootSize+16]) // short, without the padding
	good.extra = []section{{0x9000, 1, []byte("later")}}
	f.Add(good.encode(0)[:rootHeader+3*sectionHeader+rootSize+16+5])
	f.Add([]byte(rootMagic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := decodeRoot(b); err != nil {
			require.ErrorIs(t, err, keystore.ErrTampered)
		}
		// past length and checksum, where parsing begins
		b = sealed(b)
		got, err := decodeRoot(b)
		if err != nil {
			require.ErrorIs(t, err, keystore.ErrTampered)
			return
		}
		again, err := decodeRoot(got.encode(0))
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

// sealed gives b the length and the checksum that it must have.
func sealed(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) < rootHeader {
		return b
	}
	binary.BigEndian.PutUint32(b[12:], uint32(len(b)+32))
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func FuzzAnchor(f *testing.F) {
	b, ends := threeRecords(f)
	f.Add(b, b[ends[0]+8:ends[1]-32])
	f.Add(b[:len(b)-1], []byte{})
	f.Add([]byte(anchorMagic), b[ends[0]:])
	f.Add(b[:anchorHeader], appendSection(nil, droppedSection([]keystore.Tombstone{tombstone(f, 0)})))
	f.Fuzz(func(t *testing.T, b, body []byte) {
		if _, err := decodeAnchor(b); err != nil {
			require.ErrorIs(t, err, keystore.ErrTampered)
		}
		// a whole record with any body
		l := &anchorLog{}
		file := l.encode()
		start := len(file)
		file = append(file, recordMarker...)
		file = binary.BigEndian.AppendUint32(file, uint32(len(body)))
		file = append(file, body...)
		sum := recordSum(l.store, int64(start), file[start:])
		file = append(file, sum[:]...)
		got, err := decodeAnchor(file)
		if err != nil {
			require.ErrorIs(t, err, keystore.ErrTampered)
			return
		}
		again, err := decodeAnchor(got.encode())
		require.NoError(t, err)
		require.Equal(t, got.anchor, again.anchor)
		require.ElementsMatch(t, got.tombstones, again.tombstones)
	})
}
