package fieldcrypt

import (
	"context"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// meanwhile is what happens while a value of type slow is marshalled: between the
// look-up of the keys and the moment at which something would leave.
var meanwhile func()

type slow string

func (s slow) MarshalText() ([]byte, error) {
	meanwhile()
	return []byte(s), nil
}

func (s *slow) UnmarshalText(b []byte) error {
	meanwhile()
	*s = slow(b)
	return nil
}

func TestErasedWhileARowIsAtWork(t *testing.T) {
	ctx := context.Background()
	type general struct {
		ID   int64         `oubli:",subject=customer"`
		Name Private[slow] `oubli:"name"`
	}
	type usual struct {
		ID   int64  `oubli:",subject=customer"`
		Name string `oubli:"name"`
	}
	store := keystoretest.New(t)
	c, err := NewCodec[general](store, "t", &Options{})
	require.NoError(t, err)
	u, err := NewCodec[usual](store, "u", &Options{Strict: true})
	require.NoError(t, err)
	s, err := keystore.NewSubject("customer", 1)
	require.NoError(t, err)
	erase := func() {
		meanwhile = func() {}
		_, err := store.Erase(ctx, keystore.Request{Subject: s})
		require.NoError(t, err)
	}
	again := func() { require.NoError(t, store.Readmit(ctx, s)) }

	meanwhile = func() {}
	stored, err := c.Seal(ctx, general{1, NewPrivate(slow("Ada"))})
	require.NoError(t, err)
	meanwhile = erase
	require.NoError(t, c.Open(ctx, &stored))
	require.Equal(t, StatusErased, stored.Name.Status(), "opened, and then found to be stale")

	again()
	meanwhile = erase
	_, err = c.Seal(ctx, general{1, NewPrivate(slow("Ada"))})
	require.ErrorIs(t, err, keystore.ErrErased, "sealed, and then found to be stale")

	again()
	row, err := u.Seal(ctx, usual{1, "Ada"})
	require.NoError(t, err)
	keys, err := store.Lookup(ctx, nil, s)
	require.NoError(t, err)
	erase()
	before, plain := row, usual{1, "Bob"}
	sc := u.borrow()
	aad := appendRowAAD(nil, s.String(), "", false)
	sc.aad = append(sc.aad[:0], aad...)
	require.False(t, u.openAt(sc, unsafe.Pointer(&row), &keys[0], true))
	require.Equal(t, before, row)
	sc.aad = append(sc.aad[:0], aad...)
	require.False(t, u.sealAt(sc, unsafe.Pointer(&plain), &keys[0], true))
	require.Equal(t, usual{1, "Bob"}, plain)
	sc.aad = append(sc.aad[:0], aad...)
	require.True(t, u.openAt(sc, unsafe.Pointer(&row), &keys[0], false), "the rows of a chunk are looked at together")
}

// One person is erased while the rows of many are being opened: her rows are put back and
// opened again, and everybody else's are what they were.
func TestErasedWhileManyRowsAreAtWork(t *testing.T) {
	ctx := context.Background()
	type row struct {
		ID      int64         `oubli:",subject=customer"`
		Nick    string        `oubli:"nick,replace=gone"`
		Name    Private[slow] `oubli:"name"`
		Privacy Status
	}
	const n, victim = 3*chunk + 5, 40
	store := keystoretest.New(t)
	c, err := NewCodec[row](store, "t", nil)
	require.NoError(t, err)
	meanwhile = func() {}
	plain := make([]row, n)
	for i := range plain {
		plain[i] = row{ID: int64(i + 1), Nick: "nick", Name: NewPrivate(slow("Ada"))}
	}
	stored, err := c.SealAll(ctx, plain...)
	require.NoError(t, err)
	rows := make([]*row, n)
	for i := range stored {
		rows[i] = &stored[i]
	}
	opened := 0
	meanwhile = func() {
		if opened++; opened == victim+10 { // of the same chunk, and open by now
			s, err := keystore.NewSubject("customer", victim)
			require.NoError(t, err)
			_, err = store.Erase(ctx, keystore.Request{Subject: s})
			require.NoError(t, err)
		}
	}
	require.NoError(t, c.Open(ctx, rows...))
	require.Equal(t, n+chunk-1, opened, "a chunk was opened again, but for her")
	for i, r := range rows {
		if i+1 == victim {
			require.Equal(t, "gone", r.Nick)
			require.Equal(t, StatusErased, r.Name.Status())
			continue
		}
		name, ok := r.Name.Get()
		require.True(t, ok)
		require.Equal(t, slow("Ada"), name)
		require.Equal(t, "nick", r.Nick)
	}
}

// Somebody is erased between the look-up of her keys and the moment at which her plaintext
// would be sealed, or what was found be told.
func TestErasedWhileARowIsAdopted(t *testing.T) {
	ctx := context.Background()
	store := keystoretest.New(t)
	s, err := keystore.NewSubject("customer", 1)
	require.NoError(t, err)
	codec, err := NewRowCodec(store, Spec{Table: "t", Kind: "customer", SubjectColumn: "id", Fields: []FieldSpec{{Name: "name"}}}, &Options{Adopting: []string{"name"}})
	require.NoError(t, err)
	b, err := codec.Bind([]string{"id", "name"})
	require.NoError(t, err)
	rows := [][]Cell{{{Text: "1"}, {Text: "Ada"}}}
	x := b.examine("adopt", rows)
	defer b.t.giveBack(x.sc)
	looks := 0
	found, err := x.run(ctx, true, func(sc *scratch, keys keystore.Keys, rowAAD int, found []Found) {
		if looks++; looks == 1 {
			_, err := store.Erase(ctx, keystore.Request{Subject: s})
			require.NoError(t, err)
		}
		b.adoptSlots(sc, keys, rowAAD, found)
	})
	require.NoError(t, err)
	require.Equal(t, 2, looks)
	require.Equal(t, [][]Found{{{Content: ContentPlain, State: keystore.StateErased}}}, found)
	require.Equal(t, Cell{Text: "Ada"}, rows[0][1], "what was sealed with the destroyed key went nowhere")
}

// A value that is read again because the person's state changed counts once.
func TestPlaintextCountsOnce(t *testing.T) {
	ctx := context.Background()
	type row struct {
		ID   int64         `oubli:",subject=customer"`
		Name Private[slow] `oubli:"name"`
	}
	store := keystoretest.New(t)
	c, err := NewCodec[row](store, "t", &Options{Adopting: []string{"name"}})
	require.NoError(t, err)
	meanwhile = func() {}
	_, err = c.Seal(ctx, row{1, NewPrivate(slow("Ada"))})
	require.NoError(t, err)
	r := row{ID: 1}
	require.NoError(t, r.Name.Scan("Ada"))
	meanwhile = func() {
		meanwhile = func() {}
		s, err := keystore.NewSubject("customer", 1)
		require.NoError(t, err)
		_, err = store.Erase(ctx, keystore.Request{Subject: s})
		require.NoError(t, err)
	}
	require.NoError(t, c.Open(ctx, &r))
	require.Equal(t, StatusErased, r.Name.Status())
	require.Equal(t, map[string]int64{"name": 1}, c.Plaintext())
}
