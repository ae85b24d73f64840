package rootfile

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oubli/oubli/keystore"
)

// A reader that goes on from what it has read says the same as one that begins anew,
// whatever happened to the file: appended to, cut, altered, written anew.
func TestReaderGoesOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := keystore.StoreID{4}
		b := (&anchorLog{store: store, anchor: drawAnchor(t)}).encode()
		r := new(anchorReader)
		var all []keystore.Tombstone
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"append", "append", "drop", "tear", "alter", "anew"}).Draw(t, "step") {
			case "append":
				ts := missing(nil, rapid.SliceOfN(rapid.Custom(drawTombstone), 1, 3).Draw(t, "tombstones"))
				all = append(all, ts...)
				b = appendRecord(b, store, int64(len(b)), append([]section{anchorSection(drawAnchor(t))}, tombstoneSections(ts)...))
			case "drop":
				if len(all) > 0 {
					b = appendRecord(b, store, int64(len(b)), []section{droppedSection(all[:1])})
					all = all[1:]
				}
			case "tear":
				b = b[:rapid.IntRange(0, len(b)).Draw(t, "length")]
			case "alter":
				if len(b) > 0 {
					b = slices.Clone(b)
					b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= 1
				}
			case "anew":
				b = (&anchorLog{store: store, anchor: drawAnchor(t), tombstones: missing(nil, all)}).encode()
			}
			got, err := r.decode(b)
			want, wantErr := decodeAnchor(b)
			require.Equal(t, wantErr, err)
			require.Equal(t, want, got)
			if got != nil { // what callers do with their copy is theirs
				got.tombstones = append(got.tombstones[:0], make([]keystore.Tombstone, 3)...)
				clear(got.anchor.Counters)
			}
		}
	})
}
