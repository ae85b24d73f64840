package fieldcrypt_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// A row of 4 fields of 32 bytes, warm, beside what one would write by hand on
// crypto/cipher for that one struct: one buffer for the row, one draw of nonces, the
// same associated data, the same base64, the same strings made, and a map of keys
// behind a lock. Both run in turns, so that what else the machine does hits both; the
// ratio of their medians is what counts:
//
//	go test -run - -bench Row ./fieldcrypt

type textRow struct {
	ID         int64  `oubli:",subject=customer"`
	A          string `oubli:"a"`
	B          string `oubli:"b"`
	C          string `oubli:"c"`
	D          string `oubli:"d"`
	Privacy    fieldcrypt.Status
	Irrelevant int
}

type binaryRow struct {
	ID         int64  `oubli:",subject=customer"`
	A          []byte `oubli:"a"`
	B          []byte `oubli:"b"`
	C          []byte `oubli:"c"`
	D          []byte `oubli:"d"`
	Privacy    fieldcrypt.Status
	Irrelevant int
}

const sample = "0123456789abcdef0123456789abcdef"

var (
	sampleText   = textRow{ID: 123456, A: sample, B: sample, C: sample, D: sample}
	sampleBinary = binaryRow{ID: 123456, A: []byte(sample), B: []byte(sample), C: []byte(sample), D: []byte(sample)}
)

func BenchmarkRow(b *testing.B) {
	ctx := context.Background()
	keys, h := keystoretest.New(b), newByHand(b)
	texts := newCodec[textRow](b, keys, "t", nil)
	binaries := newCodec[binaryRow](b, keys, "t", nil)
	sealedText, sealedBinary := seal(b, texts, sampleText), seal(b, binaries, sampleBinary)
	handText, handBinary := h.sealText(sampleText), h.sealBinary(sampleBinary)
	var text textRow
	var binary binaryRow

	b.Run("seal/text", func(b *testing.B) {
		compare(b,
			func() (err error) { text, err = texts.Seal(ctx, sampleText); return },
			func() error { text = h.sealText(sampleText); return nil })
	})
	b.Run("seal/binary", func(b *testing.B) {
		compare(b,
			func() (err error) { binary, err = binaries.Seal(ctx, sampleBinary); return },
			func() error { binary = h.sealBinary(sampleBinary); return nil })
	})
	b.Run("open/text", func(b *testing.B) {
		compare(b,
			func() error { text = sealedText; return texts.Open(ctx, &text) },
			func() error { text = handText; return h.openText(&text) })
		require.Equal(b, sample, text.D)
	})
	b.Run("open/binary", func(b *testing.B) {
		compare(b,
			func() error { binary = sealedBinary; return binaries.Open(ctx, &binary) },
			func() error { binary = handBinary; return h.openBinary(&binary) })
		require.Equal(b, sample, string(binary.D))
	})
}

// compare runs codec and floor in turns and reports their ratio. It holds some memory,
// as applications do: in an empty heap the collector would run all the time.
func compare(b *testing.B, codec, floor func() error) {
	const block = 50
	heap := make([]byte, 64<<20)
	defer runtime.KeepAlive(heap)
	run := func(f func() error) float64 {
		start := time.Now()
		for range block {
			if err := f(); err != nil {
				b.Fatal(err)
			}
		}
		return float64(time.Since(start).Nanoseconds()) / block
	}
	var ours, theirs []float64
	for b.Loop() {
		ours, theirs = append(ours, run(codec)), append(theirs, run(floor))
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	at := len(ours) / 2
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours[at], "codec-ns")
	b.ReportMetric(theirs[at], "floor-ns")
	b.ReportMetric(ours[at]/theirs[at], "x-floor")
	b.ReportMetric(testing.AllocsPerRun(100, func() { codec() })-testing.AllocsPerRun(100, func() { floor() }), "more-allocs")
}

// byHand is the floor: it knows its struct, and keeps ready ciphers in a map.
type byHand struct {
	mu     sync.RWMutex
	keys   map[int64]handKey
	suffix [4][]byte
}

type handKey struct {
	id   uint32
	aead cipher.AEAD
}

func (h *byHand) key(id int64) handKey {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.keys[id]
}

const sealedSize = 5 + 12 + len(sample) + 16

func newByHand(t testing.TB) *byHand {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	aead, err := cipher.NewGCM(block)
	require.NoError(t, err)
	h := &byHand{keys: map[int64]handKey{sampleText.ID: {0x01020304, aead}}}
	for i := range h.suffix {
		h.suffix[i] = part(part(part(nil, "t"), string(rune('a'+i))), "")
	}
	return h
}

func part(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

func (k handKey) aad(dst []byte, id int64) []byte {
	dst = part(dst, "oubli field 1")
	dst = append(dst, 0, 5, 0xB1)
	dst = binary.BigEndian.AppendUint32(dst, k.id)
	at := len(dst)
	dst = append(dst, 0, 0)
	dst = strconv.AppendInt(append(dst, "customer/"...), id, 10)
	binary.BigEndian.PutUint16(dst[at:], uint16(len(dst)-at-2))
	return append(dst, 0)
}

func (k handKey) seal(dst []byte, nonce []byte, plain string, aad []byte) []byte {
	dst = append(dst, 0xB1)
	dst = binary.BigEndian.AppendUint32(dst, k.id)
	dst = append(dst, nonce...)
	at := len(dst)
	dst = append(dst, plain...)
	return k.aead.Seal(dst[:at], nonce, dst[at:], aad)
}

func (h *byHand) sealText(row textRow) textRow {
	var nonces [48]byte
	rand.Read(nonces[:])
	k := h.key(row.ID)
	aad := k.aad(make([]byte, 0, 128), row.ID)
	const size = 7 + (sealedSize*8+5)/6
	text := make([]byte, 0, 4*size)
	envelope := make([]byte, 0, sealedSize)
	for i, s := range [4]*string{&row.A, &row.B, &row.C, &row.D} {
		envelope = k.seal(envelope[:0], nonces[12*i:12*i+12], *s, append(aad, h.suffix[i]...))
		text = append(text, "oubli1."...)
		text = base64.RawURLEncoding.AppendEncode(text, envelope)
	}
	all := string(text)
	for i, s := range [4]*string{&row.A, &row.B, &row.C, &row.D} {
		*s = all[i*size : (i+1)*size]
	}
	return row
}

func (h *byHand) sealBinary(row binaryRow) binaryRow {
	var nonces [48]byte
	rand.Read(nonces[:])
	k := h.key(row.ID)
	aad := k.aad(make([]byte, 0, 128), row.ID)
	out := make([]byte, 0, 4*sealedSize)
	for i, f := range [4]*[]byte{&row.A, &row.B, &row.C, &row.D} {
		from := len(out)
		out = append(out, 0xB1)
		out = binary.BigEndian.AppendUint32(out, k.id)
		out = append(out, nonces[12*i:12*i+12]...)
		at := len(out)
		out = append(out, *f...)
		out = k.aead.Seal(out[:at], nonces[12*i:12*i+12], out[at:], append(aad, h.suffix[i]...))
		*f = out[from:len(out):len(out)]
	}
	return row
}

func (h *byHand) openText(row *textRow) error {
	k := h.key(row.ID)
	aad := k.aad(make([]byte, 0, 128), row.ID)
	plain := make([]byte, 0, 4*len(sample))
	envelope := make([]byte, sealedSize)
	var err error
	for i, s := range [4]*string{&row.A, &row.B, &row.C, &row.D} {
		n, err := base64.RawURLEncoding.Strict().Decode(envelope, []byte((*s)[7:]))
		if err != nil {
			return err
		}
		if plain, err = k.aead.Open(plain, envelope[5:17], envelope[17:n], append(aad, h.suffix[i]...)); err != nil {
			return err
		}
	}
	all := string(plain)
	for i, s := range [4]*string{&row.A, &row.B, &row.C, &row.D} {
		*s = all[i*len(sample) : (i+1)*len(sample)]
	}
	return err
}

func (h *byHand) openBinary(row *binaryRow) (err error) {
	k := h.key(row.ID)
	aad := k.aad(make([]byte, 0, 128), row.ID)
	plain := make([]byte, 0, 4*len(sample))
	for i, f := range [4]*[]byte{&row.A, &row.B, &row.C, &row.D} {
		from := len(plain)
		if plain, err = k.aead.Open(plain, (*f)[5:17], (*f)[17:], append(aad, h.suffix[i]...)); err != nil {
			return err
		}
		*f = plain[from:len(plain):len(plain)]
	}
	return nil
}

// BenchmarkAdopt is the price of looking before sealing: a batch of 1,000 rows with three
// columns of plaintext, of people who are new or known, adopted, and rows like them
// sealed, in turns. All is for one row.
func BenchmarkAdopt(b *testing.B) {
	ctx := context.Background()
	spec := fieldcrypt.Spec{Table: "t", Kind: "customer", SubjectColumn: "id",
		Fields: []fieldcrypt.FieldSpec{{Name: "a"}, {Name: "b"}, {Name: "c"}}}
	const n = 1000
	for name, people := range map[string]int{"new": 1 << 30, "known": n} {
		b.Run(name, func(b *testing.B) {
			keys := keystoretest.New(b)
			codec, err := fieldcrypt.NewRowCodec(keys, spec, &fieldcrypt.Options{Adopting: []string{"a", "b", "c"}})
			require.NoError(b, err)
			rows, err := codec.Bind([]string{"id", "a", "b", "c"})
			require.NoError(b, err)
			id := 0
			batch := func() [][]fieldcrypt.Cell {
				list := make([][]fieldcrypt.Cell, n)
				for i := range list {
					list[i] = []fieldcrypt.Cell{{Text: strconv.Itoa(1 + id%people)}, {Text: sample}, {Text: sample}, {Text: sample}}
					id++
				}
				return list
			}
			var adopted, sealed []float64
			for b.Loop() {
				plain := batch()
				start := time.Now()
				_, err := rows.Adopt(ctx, plain)
				adopted = append(adopted, float64(time.Since(start).Nanoseconds())/n)
				require.NoError(b, err)
				plain = batch()
				start = time.Now()
				err = rows.Seal(ctx, plain)
				sealed = append(sealed, float64(time.Since(start).Nanoseconds())/n)
				require.NoError(b, err)
			}
			slices.Sort(adopted)
			slices.Sort(sealed)
			at := len(adopted) / 2
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(adopted[at], "adopt-ns")
			b.ReportMetric(sealed[at], "seal-ns")
			b.ReportMetric(adopted[at]/sealed[at], "x-seal")
		})
	}
}
