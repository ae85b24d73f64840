package transittest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
	"github.com/oubli/oubli/keystore/roottransit"
)

func TestKeys(t *testing.T) {
	f := startFront(t)
	var n atomic.Int32
	names := map[rootkms.Keys]string{}
	kmstest.Run(t, &kmstest.Suite{
		New: func() (rootkms.Keys, error) {
			name := fmt.Sprintf("oubli-%d", n.Add(1))
			k := f.open(name).Keys()
			names[k] = name
			return k, nil
		},
		Again:   func(k rootkms.Keys) (rootkms.Keys, error) { return f.again(names[k]).Keys(), nil },
		Unknown: "77-1763800000",
	})
}

func TestShelf(t *testing.T) {
	f := startFront(t)
	var n atomic.Int32
	names := map[rootkms.Shelf]string{}
	kmstest.RunShelf(t, &kmstest.ShelfSuite{
		New: func() (rootkms.Shelf, error) {
			name := fmt.Sprintf("oubli-%d", n.Add(1))
			s := f.open(name).Shelf()
			names[s] = name
			return s, nil
		},
		Again: func(s rootkms.Shelf) (rootkms.Shelf, error) { return f.again(names[s]).Shelf(), nil },
	})
}

// materials are the keys of a transit key's versions that stand in what the engine stored.
func materials(t *testing.T, stored []byte) (list []string) {
	d := json.NewDecoder(bytes.NewReader(stored))
	for d.More() {
		var doc any
		require.NoError(t, d.Decode(&doc))
		var walk func(v any)
		walk = func(v any) {
			switch v := v.(type) {
			case map[string]any:
				if key, ok := v["key"].(string); ok && key != "" {
					list = append(list, key)
				}
				for _, inner := range v {
					walk(inner)
				}
			case []any:
				for _, inner := range v {
					walk(inner)
				}
			}
		}
		walk(doc)
	}
	return list
}

// TestLife erases somebody. The key that wrapped the old root is in the engine's storage
// before, and not after.
func TestLife(t *testing.T) {
	f := startFront(t)
	roots := f.open("oubli")
	b := memstore.New()
	clock := time.Now()
	now := func() time.Time { return clock }
	require.NoError(t, keystore.Create(t.Context(), b, roots, &keystore.CreateOptions{Shards: 16, Grace: time.Hour}))
	keys := f.keystore(b, roots, now)
	sub := func(id int) keystore.Subject {
		s, err := keystore.NewSubject("customer", id)
		require.NoError(t, err)
		return s
	}
	_, err := keys.Ensure(t.Context(), nil, []string{""}, sub(1), sub(2))
	require.NoError(t, err)
	before := materials(t, f.stored())
	require.NotEmpty(t, before)
	es, err := keys.Erase(t.Context(), keystore.Request{Subject: sub(1)})
	require.NoError(t, err)
	require.NoError(t, es[0].Err)
	require.False(t, es[0].Final)
	require.Subset(t, materials(t, f.stored()), before, "within the grace the old root opens backups")

	clock = clock.Add(2 * time.Hour)
	require.NoError(t, keys.Advance(t.Context()))
	after := materials(t, f.stored())
	require.NotEmpty(t, after)
	h, err := keys.Health(t.Context())
	require.NoError(t, err)
	require.Len(t, h.Roots, 1)
	st, err := keys.Status(t.Context(), sub(1))
	require.NoError(t, err)
	require.True(t, st[0].Final)
	for _, material := range before {
		require.False(t, bytes.Contains(f.stored(), []byte(material)), "a key that should be trimmed stands in the storage")
	}
	found, err := f.keystore(b, f.again("oubli"), now).Lookup(t.Context(), nil, sub(1), sub(2))
	require.NoError(t, err)
	require.ErrorIs(t, found[0].Err(), keystore.ErrErased)
	require.NoError(t, found[1].Err())

	r, err := roots.Rehearse(t.Context())
	require.NoError(t, err)
	require.True(t, r.Proven(), "%+v", r)
}

func (f *front) keystore(b keystore.Backend, roots *roottransit.Store, now func() time.Time) *keystore.Store {
	ks, err := keystore.Open(f.t.Context(), b, roots, &keystore.Options{Clock: now})
	require.NoError(f.t, err)
	return ks
}
