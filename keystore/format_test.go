package keystore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func mustSubject(t testing.TB, text string) Subject {
	t.Helper()
	s, err := ParseSubject(text)
	require.NoError(t, err)
	return s
}

func drawRing(t *rapid.T) *ring {
	text := rapid.StringMatching(`[a-zé"/]{0,9}`)
	texts := rapid.SliceOfN(text, 0, 3)
	second := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(1, 1<<35).Draw(t, "s"), 0).UTC()
	})
	r := &ring{shard: 3, gen: 7, rev: 9, state: State(rapid.IntRange(1, 4).Draw(t, "state"))}
	for range rapid.IntRange(0, 4).Draw(t, "keys") {
		r.addKey(text.Draw(t, "purpose"), second.Draw(t, "created"))
	}
	for range rapid.IntRange(0, 4).Draw(t, "dropped") {
		r.dropped = append(r.dropped, droppedKey{id: newKeyID(r.knows), erased: rapid.Bool().Draw(t, "erased")})
	}
	none := func(list []string) []string {
		if len(list) == 0 {
			return nil
		}
		return list
	}
	r.gone = none(texts.Draw(t, "gone"))
	r.purposes, r.kept, r.hold = none(texts.Draw(t, "purposes")), rapid.Bool().Draw(t, "kept"), text.Draw(t, "hold")
	if rapid.Bool().Draw(t, "journal") {
		r.journal = &Journal{Event: newID(), before: StateActive, Blanking: rapid.Bool().Draw(t, "blanking"),
			Requested: second.Draw(t, "requested"), Actor: text.Draw(t, "actor"), Receivers: none(texts.Draw(t, "receivers")),
			Acked: none(texts.Draw(t, "acked")), Keep: none(texts.Draw(t, "keep")), Claim: text.Draw(t, "claim"), ClaimUntil: second.Draw(t, "until")}
	}
	for range rapid.IntRange(0, 3).Draw(t, "changes") {
		r.enter(ChangeKind(rapid.IntRange(1, 10).Draw(t, "kind")), text.Draw(t, "who"), second.Draw(t, "at"))
	}
	r.entry, r.last = rapid.Uint64().Draw(t, "entry"), event{id: newID(), counter: rapid.Uint64Range(1, 1<<63).Draw(t, "counter")}
	return r
}

func TestRingsComeBack(t *testing.T) {
	key := newSecret()
	aead, err := newAEAD(&key)
	require.NoError(t, err)
	store := StoreID(newID())
	rapid.Check(t, func(rt *rapid.T) {
		r := drawRing(rt)
		r.subject = mustSubject(t, "customer/"+rapid.StringMatching(`[1-9][0-9]{0,9}`).Draw(rt, "id"))
		value, err := r.seal(store, r.gen, aead)
		require.NoError(rt, err)
		got, err := openRing(store, r.subject, r.shard, Record{Value: value, Rev: r.rev}, aead)
		require.NoError(rt, err)
		require.Equal(rt, r, got)
	})
}

// A history is read whole or not at all; entries of kinds that are not known stay, and those
// of one that is too long until the next is entered.
func TestHistoriesComeBack(t *testing.T) {
	var c clearPart
	for i := range maxHistory {
		c.enter(ChangeKind(200+i%9), "officer", time.Unix(int64(i), 0))
	}
	c.history = append(c.history, c.history...)
	good := c.encode()
	var got clearPart
	require.NoError(t, got.decode(good))
	require.Equal(t, good, got.encode())
	list := got.changes()
	require.Len(t, list, 2*maxHistory)
	got.enter(ChangeExported, "another", time.Unix(99, 0))
	require.Equal(t, append(list[maxHistory+1:], Change{At: time.Unix(99, 0).UTC(), Kind: ChangeExported, Actor: "another"}), got.changes())
	require.Equal(t, good, c.encode(), "what was read is not changed")

	for n := 1; n < len("officer")+3; n++ {
		cut := clearPart{history: c.history[:len(c.history)-n]}
		require.ErrorIs(t, new(clearPart).decode(cut.encode()), ErrTampered, "cut by %d", n)
	}
}

// A ring opens only where it belongs: for its subject, in its shard and store, with its
// state and journal as they are, and unaltered.
func TestRingsAreBound(t *testing.T) {
	key := newSecret()
	aead, err := newAEAD(&key)
	require.NoError(t, err)
	store := StoreID(newID())
	r := &ring{subject: mustSubject(t, "customer/1"), shard: 3, state: StateActive}
	r.addKey("", time.Unix(1, 0))
	r.journal = &Journal{Event: newID(), Actor: "officer"}
	r.enter(ChangeRequested, "officer", time.Unix(1, 0))
	value, err := r.seal(store, 1, aead)
	require.NoError(t, err)
	opens := func(store StoreID, sub string, shard uint16, value []byte) error {
		_, err := openRing(store, mustSubject(t, sub), shard, Record{Value: value, Rev: 1}, aead)
		return err
	}
	require.NoError(t, opens(store, "customer/1", 3, value))
	require.ErrorIs(t, opens(store, "customer/2", 3, value), ErrTampered)
	require.ErrorIs(t, opens(store, "employee/1", 3, value), ErrTampered)
	require.ErrorIs(t, opens(store, "customer/1", 4, value), ErrTampered)
	require.ErrorIs(t, opens(StoreID(newID()), "customer/1", 3, value), ErrTampered)
	for i := range value {
		for bit := range 8 {
			altered := append([]byte(nil), value...)
			altered[i] ^= 1 << bit
			require.ErrorIs(t, opens(store, "customer/1", 3, altered), ErrTampered, "byte %d bit %d", i, bit)
		}
		require.ErrorIs(t, opens(store, "customer/1", 3, value[:i]), ErrTampered, "cut at %d", i)
	}
}

func samplePage(t testing.TB) (l layout, store StoreID, value []byte, root Secret) {
	l, store, root = newLayout(64), StoreID(newID()), newSecret()
	aead, err := newAEAD(&root)
	require.NoError(t, err)
	p := newPage(l, 5, 3, RootID(newID()))
	p = p.with(map[uint16]generation{p.first: {gen: 2, key: newSecret()}})
	value, err = p.seal(store, aead)
	require.NoError(t, err)
	return l, store, value, root
}

func TestPagesAreBound(t *testing.T) {
	l, store, value, root := samplePage(t)
	aead, err := newAEAD(&root)
	require.NoError(t, err)
	opens := func(store StoreID, number uint8, value []byte) error {
		h, err := parsePageHeader(number, value)
		if err != nil {
			return err
		}
		p, err := h.open(store, l, number, 1, aead)
		if err == nil {
			require.True(t, p.rekeying())
		}
		return err
	}
	require.NoError(t, opens(store, 5, value))
	require.ErrorIs(t, opens(store, 6, value), ErrTampered)
	require.ErrorIs(t, opens(StoreID(newID()), 5, value), ErrTampered)
	for i := range value {
		altered := append([]byte(nil), value...)
		altered[i] ^= 1
		require.ErrorIs(t, opens(store, 5, altered), ErrTampered, "byte %d", i)
		require.ErrorIs(t, opens(store, 5, value[:i]), ErrTampered, "cut at %d", i)
	}
}

func sampleEpoch(t testing.TB) (value []byte, root Secret) {
	root = newSecret()
	aead, err := newAEAD(&root)
	require.NoError(t, err)
	cur, next, old := RootID(newID()), RootID(newID()), RootID(newID())
	now := time.Unix(1700000000, 0).UTC()
	e := &epochRecord{store: newID(), layout: newLayout(64), grace: time.Hour, created: now,
		place: Place{URL: "file:/r", Host: "h", Class: "best-effort"}, epoch: 4, current: cur, advances: 5,
		intent: &intent{epoch: 5, target: next},
		roots:  []rootInfo{{id: old, since: now}, {id: cur, covers: []uint64{1, 2}}, {id: next, covers: []uint64{3, 2}}}}
	e.touch(9)
	value, err = e.encode(aead)
	require.NoError(t, err)
	return value, root
}

func TestEpochRecordsAreAuthenticated(t *testing.T) {
	value, root := sampleEpoch(t)
	aead, err := newAEAD(&root)
	require.NoError(t, err)
	opens := func(value []byte) error {
		_, check, err := parseEpoch(Record{Value: value, Rev: 1})
		if err != nil {
			return err
		}
		return check(aead)
	}
	require.NoError(t, opens(value))
	for i := range value {
		altered := append([]byte(nil), value...)
		altered[i] ^= 1
		require.ErrorIs(t, opens(altered), ErrTampered, "byte %d", i)
		require.ErrorIs(t, opens(value[:i]), ErrTampered, "cut at %d", i)
	}
	e, _, err := parseEpoch(Record{Value: value, Rev: 1})
	require.NoError(t, err)
	again, err := e.encode(aead)
	require.NoError(t, err)
	require.Equal(t, value[:len(value)-28], again[:len(again)-28], "all but the tag")
}

func FuzzRing(f *testing.F) {
	key := newSecret()
	aead, err := newAEAD(&key)
	require.NoError(f, err)
	r := &ring{subject: mustSubject(f, "customer/1"), state: StateErasing}
	r.journal = &Journal{Event: newID(), Receivers: []string{"crm"}}
	r.enter(ChangeRequested, "officer", time.Unix(1, 0))
	r.addKey("tax", time.Unix(1, 0))
	value, err := r.seal(StoreID{}, 1, aead)
	require.NoError(f, err)
	h, err := parseRingHeader(value)
	require.NoError(f, err)
	plain, err := h.unwrap(StoreID{}, r.subject, 0, aead)
	require.NoError(f, err)
	f.Add(value, h.clear, plain)
	f.Add([]byte{ringVersion}, []byte{secJournal, 1}, []byte{secKeys, 2, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, value, clear, plain []byte) {
		if h, err := parseRingHeader(value); err == nil {
			new(clearPart).decode(h.clear)
		}
		var c clearPart
		if c.decode(clear) == nil {
			var again clearPart
			require.NoError(t, again.decode(c.encode()))
			require.Equal(t, c.encode(), again.encode())
		}
		new(ring).decodeKeys(plain)
	})
}

func FuzzPage(f *testing.F) {
	l, store, value, root := samplePage(f)
	aead, err := newAEAD(&root)
	require.NoError(f, err)
	f.Add(uint8(5), value)
	f.Add(uint8(5), []byte{pageVersion, pageShards})
	f.Fuzz(func(t *testing.T, number uint8, altered []byte) {
		number %= uint8(l.pages)
		if h, err := parsePageHeader(number, altered); err == nil {
			if _, err := h.open(store, l, number, 1, aead); err == nil {
				require.Equal(t, value, altered, "only the page as sealed opens")
			}
		}
	})
}

func FuzzEpoch(f *testing.F) {
	value, root := sampleEpoch(f)
	aead, err := newAEAD(&root)
	require.NoError(f, err)
	f.Add(value)
	f.Add([]byte{2, 1, 0})
	f.Fuzz(func(t *testing.T, altered []byte) {
		if _, check, err := parseEpoch(Record{Value: altered, Rev: 1}); err == nil {
			if check(aead) == nil {
				require.Equal(t, value, altered, "only the record as made authenticates")
			}
		}
	})
}

func FuzzWork(f *testing.F) {
	w := work{kind: workDestroyed, shard: 2, tomb: Tombstone{Event: newID(), Subject: mustSubject(f, "customer/1"), Keys: []uint32{7}, Keep: []string{"tax"}}}
	f.Add(w.encode())
	f.Add([]byte{workVersion, 1})
	f.Fuzz(func(t *testing.T, value []byte) {
		if w, err := parseWork(Record{Key: workKey(1, 2), Value: value, Rev: 1}); err == nil {
			again, err := parseWork(Record{Key: workKey(1, 2), Value: w.encode(), Rev: 1})
			require.NoError(t, err)
			require.Equal(t, w, again)
		}
		parseCounter(Record{Value: value, Rev: 1})
	})
}

// Data keys are the standard library's GCM; Tink reads and writes the same bytes.
func TestDataKeysAreTinkKeys(t *testing.T) {
	key := newSecret()
	std := newDataAEAD(&key)
	tink, err := newAEAD(&key)
	require.NoError(t, err)
	nonce := newSecret()
	sealed := std.Seal(append([]byte(nil), nonce[:12]...), nonce[:12], []byte("Ann"), []byte("ad"))
	plain, err := tink.Decrypt(sealed, []byte("ad"))
	require.NoError(t, err)
	require.Equal(t, "Ann", string(plain))
	sealed, err = tink.Encrypt([]byte("Bob"), []byte("ad"))
	require.NoError(t, err)
	plain, err = std.Open(nil, sealed[:12], sealed[12:], []byte("ad"))
	require.NoError(t, err)
	require.Equal(t, "Bob", string(plain))
}

// Parts that a later version added outlive a write by this one.
func TestPartsOfLaterVersionsAreKept(t *testing.T) {
	key := newSecret()
	aead, err := newAEAD(&key)
	require.NoError(t, err)
	later := appendSection(nil, 99, []byte("of a later version"))
	r := &ring{subject: mustSubject(t, "customer/1"), state: StateActive, rev: 1, gen: 1, extra: later, clearPart: clearPart{extra: later}}
	r.addKey("", time.Unix(1, 0))
	value, err := r.seal(StoreID{}, 1, aead)
	require.NoError(t, err)
	got, err := openRing(StoreID{}, r.subject, 0, Record{Value: value, Rev: 1}, aead)
	require.NoError(t, err)
	require.Equal(t, later, got.extra)
	require.Equal(t, later, got.clearPart.extra)
	got.addKey("tax", time.Unix(2, 0))
	value, err = got.seal(StoreID{}, 1, aead)
	require.NoError(t, err)
	got, err = openRing(StoreID{}, r.subject, 0, Record{Value: value, Rev: 1}, aead)
	require.NoError(t, err)
	require.Equal(t, later, got.extra)

	record, root := sampleEpoch(t)
	rootAEAD, err := newAEAD(&root)
	require.NoError(t, err)
	e, _, err := parseEpoch(Record{Value: record, Rev: 1})
	require.NoError(t, err)
	e.extra = later
	record, err = e.clone().encode(rootAEAD)
	require.NoError(t, err)
	e, _, err = parseEpoch(Record{Value: record, Rev: 1})
	require.NoError(t, err)
	require.Equal(t, later, e.extra)
}
