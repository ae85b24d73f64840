package keystore_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

func TestListRefuses(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), time.Hour, 64)
	w.add(6)
	w.write([]string{""}, w.people...)
	require.NoError(t, joined(w.store.Restrict(ctx, nil, subjects(w.people[:3])...)))
	cursor := map[keystore.State]string{}
	for _, state := range []keystore.State{keystore.StateUnknown, keystore.StateRestricted} {
		_, next, err := w.store.List(ctx, keystore.ListQuery{State: state, Limit: 1})
		require.NoError(t, err)
		require.Regexp(t, `^[A-Za-z0-9_-]+$`, next)
		cursor[state] = next
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor[keystore.StateUnknown])
	require.NoError(t, err)
	altered := func(i int, b byte) string {
		c := slices.Clone(raw[:len(raw)-4])
		c[i] = b
		return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(c, crc32.ChecksumIEEE(c)))
	}
	slip := slices.Clone(raw)
	slip[4] ^= 1
	for what, q := range map[string]keystore.ListQuery{
		"no limit":              {},
		"a limit below":         {Limit: -1},
		"a limit above":         {Limit: keystore.MaxList + 1},
		"a state without list":  {State: keystore.StateActive, Limit: 1},
		"a state of no name":    {State: 77, Limit: 1},
		"a cursor of nothing":   {After: "AA", Limit: 1},
		"a cursor of something": {After: "customer/1", Limit: 1},
		"one of another state":  {After: cursor[keystore.StateRestricted], Limit: 1},
		"and the other way":     {State: keystore.StateRestricted, After: cursor[keystore.StateUnknown], Limit: 1},
		"of the erased":         {State: keystore.StateErased, After: cursor[keystore.StateRestricted], Limit: 1},
		"one cut short":         {After: cursor[keystore.StateUnknown][:4], Limit: 1},
		"one cut a little":      {State: keystore.StateRestricted, After: cursor[keystore.StateRestricted][:14], Limit: 1},
		"one with a tail":       {State: keystore.StateRestricted, After: cursor[keystore.StateRestricted] + "AAAA", Limit: 1},
		"of another version":    {After: altered(0, 9), Limit: 1},
		"of a page too far":     {After: altered(2, 0x40), Limit: 1},
		"of no page":            {After: altered(2, 0xff), Limit: 1},
		"among no rings":        {After: altered(3, 'k'), Limit: 1},
		"with a slip":           {After: base64.RawURLEncoding.EncodeToString(slip), Limit: 1},
	} {
		list, next, err := w.store.List(ctx, q)
		require.ErrorIs(t, err, keystore.ErrInvalid, what)
		require.Empty(t, list, what)
		require.Empty(t, next, what)
	}
	require.NoError(t, w.store.Close())
	_, _, err = w.store.List(ctx, keystore.ListQuery{Limit: 1})
	require.ErrorIs(t, err, keystore.ErrClosed)
}

// What can't be read is named, and hides nobody else.
func TestListNamesWhatCannotBeRead(t *testing.T) {
	w := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), 0, 1)
	w.add(5)
	w.write([]string{""}, w.people...)
	w.request(w.people...)
	spoil := func(from, to []byte, n int) {
		recs, err := w.backend.Scan(w.ctx, from, to, 10)
		require.NoError(t, err)
		_, err = w.backend.Commit(w.ctx, []keystore.Group{{{Op: keystore.Put, Key: recs[n].Key, If: recs[n].Rev, Rev: 1, Value: []byte{1}}}})
		require.NoError(t, err)
	}
	spoil([]byte{0, 'r'}, []byte{0, 's'}, 1)
	spoil([]byte{0, 'w'}, []byte{0, 'x'}, 3)
	for _, key := range []string{"\x00r", "\x00r\x00\x00nobody", "\x00r\xff\xffcustomer/7", "\x00w", "\x00w\x00", "\x00w\x00\x00\x00\x00\x00\x00\x00\x03\x00"} {
		_, err := w.backend.Commit(w.ctx, []keystore.Group{{{Op: keystore.Put, Key: []byte(key), Rev: 1, Value: []byte{1}}}})
		require.NoError(t, err)
	}
	read := func(state keystore.State, limit int) (got []string, errs []error) {
		q := keystore.ListQuery{State: state, Limit: limit}
		for {
			list, next, err := w.store.List(w.ctx, q)
			if got = append(got, names(list)...); err != nil {
				require.ErrorIs(t, err, keystore.ErrTampered)
				errs = append(errs, err)
			}
			if q.After = next; next == "" {
				return got, errs
			}
		}
	}
	for _, limit := range []int{1, 2, 3, 10} {
		got, errs := read(keystore.StateUnknown, limit)
		require.Equal(t, []string{"1", "3", "4", "5"}, got)
		require.ErrorContains(t, errors.Join(errs...), "customer/2")
		require.ErrorContains(t, errors.Join(errs...), "00720000") // the key of a record that names nobody
		got, errs = read(keystore.StateErasing, limit)
		require.Equal(t, []string{"1", "3", "5"}, got)
		require.ErrorContains(t, errors.Join(errs...), "customer/2")
		require.ErrorContains(t, errors.Join(errs...), "0077") // the entry's key: it names nobody
	}
}

// While the root store is away nothing counts as final, and who is not can't be listed.
func TestListWhileTheRootIsAway(t *testing.T) {
	w := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), 0, 1)
	w.add(2)
	w.write([]string{""}, w.people...)
	require.NoError(t, erase(&scene{world: w}, nil, w.people[0]))
	w.roots.call = func(string, func() error) error { return keystore.ErrUnavailable }
	list, next, err := w.store.List(w.ctx, keystore.ListQuery{State: keystore.StateErased, Limit: 1})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.Empty(t, list)
	require.Empty(t, next)
	list, _, err = w.store.List(w.ctx, keystore.ListQuery{Limit: 2})
	require.NoError(t, err)
	require.Equal(t, keystore.StateErased, list[0].State)
	require.False(t, list[0].Final)
	w.roots.call = func(string, func() error) error { return context.Canceled }
	_, _, err = w.store.List(w.ctx, keystore.ListQuery{Limit: 2})
	require.ErrorIs(t, err, context.Canceled)
}

// A page of people who were never erased costs one scan, of one record more than it shows.
// Others cost what finality is decided by as well, once; those on a worklist a read of
// their rings.
func TestWhatAListReads(t *testing.T) {
	w := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), time.Hour, 1)
	w.add(300)
	w.write([]string{""}, w.people...)
	require.NoError(t, joined(w.store.Restrict(w.ctx, nil, subjects(w.people[:100])...)))
	counts := map[string]int{}
	reader := somebodyElse(w, func(name string, do func() error) error { counts[name]++; return do() })
	w.roots.call = func(name string, do func() error) error { counts[name]++; return do() }
	reads := func(state keystore.State) map[string]int {
		for range 2 { // a root that is new is read once
			clear(counts)
			list, _, err := reader.List(w.ctx, keystore.ListQuery{State: state, Limit: 50})
			require.NoError(t, err)
			require.Len(t, list, 50)
		}
		return counts
	}
	require.Equal(t, map[string]int{"Scan": 1}, reads(keystore.StateUnknown))
	require.Equal(t, map[string]int{"Scan": 1, "Get": 1}, reads(keystore.StateRestricted))
	require.NoError(t, erase(&scene{world: w}, nil, w.people...))
	require.Equal(t, map[string]int{"Scan": 1, "Get": 1, "Load": 1}, reads(keystore.StateUnknown))
	require.Equal(t, map[string]int{"Scan": 1, "Get": 2, "Load": 1}, reads(keystore.StateErased))
}

// widest is the most records that a backend was ever asked for at once.
type widest struct {
	keystore.Backend
	records int
}

func (m *widest) Scan(ctx context.Context, from, to []byte, limit int) ([]keystore.Record, error) {
	m.records = max(m.records, limit)
	return m.Backend.Scan(ctx, from, to, limit)
}

func (m *widest) Get(ctx context.Context, keys [][]byte) ([]keystore.Record, error) {
	m.records = max(m.records, len(keys))
	return m.Backend.Get(ctx, keys)
}

// How many there are does not matter to what a page takes of memory, nor does it where
// nobody among them is in the state that is asked for.
func TestListsHaveFlatMemory(t *testing.T) {
	w := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), time.Hour, 1)
	w.add(2500) // 51, 102 and so on to 816, and then 1000 entries are read at once where nobody is found
	w.write([]string{""}, w.people...)
	require.NoError(t, joined(w.store.Restrict(w.ctx, nil, subjects(w.people)...)))
	most := &widest{Backend: w.backend}
	s, err := keystore.Open(w.ctx, most, w.roots, w.readOnly())
	require.NoError(t, err)
	for state, want := range map[keystore.State]int{keystore.StateUnknown: 51, keystore.StateRestricted: 51, keystore.StateErasing: 1000, keystore.StateErased: 1000} {
		most.records = 0
		_, _, err := s.List(w.ctx, keystore.ListQuery{State: state, Limit: 50})
		require.NoError(t, err)
		require.LessOrEqual(t, most.records, want, state)
	}
}
