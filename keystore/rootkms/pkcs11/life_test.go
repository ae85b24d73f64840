//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/internal/oracle"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// recorder notes all that was ever wrapped, and where: old copies of the shelf have it.
type recorder struct {
	*Keys
	all []wrapped
}

func (r *recorder) Wrap(ctx context.Context, name string, secret, ad []byte) ([]byte, error) {
	blob, err := r.Keys.Wrap(ctx, name, secret, ad)
	if err == nil {
		r.all = append(r.all, wrapped{name, slices.Clone(secret), blob, slices.Clone(ad)})
	}
	return blob, err
}

// A keystore from its making to its end. The attacker has every record ever written, each
// root as it was ever wrapped, and what the token stores at the end, with the PIN.
func TestLifeOfAKeystore(t *testing.T) {
	ctx := t.Context()
	c := newToken(t)
	keys := &recorder{Keys: openKeys(t, c, nil)}
	shelf := rootkms.BackendShelf(memstore.New())
	roots := rootkms.New(keys, shelf, nil)
	memory := memstore.New()
	backend := fault.Wrap(memory)
	attacker := oracle.NewAttacker()
	learn := func() []keystore.Root {
		contents, err := roots.Load(ctx)
		require.NoError(t, err)
		var ids []keystore.RootID
		for _, r := range contents.Living {
			ids = append(ids, r.ID)
		}
		contents, err = roots.Load(ctx, ids...)
		require.NoError(t, err)
		for _, r := range contents.Living {
			attacker.Root(r)
		}
		return contents.Living
	}

	require.NoError(t, keystore.Create(ctx, backend, roots, &keystore.CreateOptions{Shards: 32}))
	store, err := keystore.Open(ctx, backend, roots, nil)
	require.NoError(t, err)
	var people []keystore.Subject
	for i := range 8 {
		sub, err := keystore.NewSubject("customer", i+1)
		require.NoError(t, err)
		people = append(people, sub)
	}
	_, err = store.Ensure(ctx, nil, []string{""}, people...)
	require.NoError(t, err)
	learn()
	before := copyTokens(t)
	old := slices.Clone(keys.all)
	require.NotEmpty(t, old)

	erased := people[:3]
	for _, sub := range erased {
		list, err := store.Erase(ctx, keystore.Request{Subject: sub})
		require.NoError(t, err)
		require.NoError(t, list[0].Err)
		require.True(t, list[0].Final, "a grace of 0, and a token destroys at once")
		learn()
	}
	require.NoError(t, store.Close())
	attacker.Write(backend.Attempted()...)
	backend = fault.Wrap(memory.Snapshot())
	store, err = keystore.Open(ctx, backend, rootkms.New(openKeys(t, c, nil), shelf, nil), nil)
	require.NoError(t, err)
	found, err := store.Lookup(ctx, nil, people...)
	require.NoError(t, err)
	for i := range people {
		_, _, err := found[i].Primary("")
		require.Equal(t, i < len(erased), errors.Is(err, keystore.ErrErased), "%v", err)
	}

	after := copyTokens(t)
	end := learn()
	require.Len(t, end, 1)
	attacker.Write(backend.Attempted()...)
	require.Empty(t, attacker.Faults())
	statuses, err := store.Status(ctx, people...)
	require.NoError(t, err)
	var opened []keystore.Root
	fates := elsewhere(t, after, c, keys.all...)
	for i, w := range keys.all {
		is := fmt.Sprintf("%x", w.secret) == fmt.Sprintf("%x", end[0].Key[:])
		require.Equal(t, map[bool]string{true: "opens", false: "gone"}[is], fates[i])
		if is {
			opened = append(opened, end[0])
		}
	}
	require.Len(t, opened, 1, "the current root, as it was wrapped once")
	reach := attacker.Reach(opened)
	everything := attacker.Everything()
	for i, st := range statuses {
		for _, id := range st.Dropped {
			for _, secret := range attacker.Secrets(oracle.Label{Subject: people[i].String(), ID: id}) {
				require.False(t, reach.Keys[secret], "%s is erased", people[i])
				require.True(t, everything.Keys[secret], "the attacker looked in the right place")
			}
		}
		for _, key := range st.Keys {
			require.True(t, reach.Data[oracle.Label{Subject: people[i].String(), ID: key.ID}], "%s lives", people[i])
		}
	}
	require.Len(t, statuses[0].Dropped, 1)
	require.Len(t, statuses[7].Keys, 1)

	// Who kept a copy of the token from before, and has the PIN, opens what was wrapped then.
	for _, fate := range elsewhere(t, before, c, old...) {
		require.Equal(t, "opens", fate)
	}

	rehearsal, err := roots.Rehearse(ctx)
	require.NoError(t, err)
	require.True(t, rehearsal.Proven(), "%+v", rehearsal.Steps)
	require.NoError(t, store.Close())
	require.NoError(t, roots.Remove(ctx))
	for _, w := range keys.all {
		w.requireGone(t, keys.Keys)
	}
	require.Zero(t, objects(t, keys.Keys))
}
