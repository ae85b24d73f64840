package awskms_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms/awskms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// life is a keystore whose roots AWS KMS wraps.
type life struct {
	*world
	*kmstest.Life
}

func begin(t *testing.T, c awskms.Config, grace time.Duration) *life {
	w := start(t, c)
	return &life{w, kmstest.Begin(t, w.keys, w.Now, grace)}
}

func TestAKeystoreOnImportedMaterial(t *testing.T) {
	l := begin(t, imported, day)
	require.NoError(t, l.Ensure("1", "2"))
	e := l.Erase("1")
	require.False(t, e.Final)
	require.True(t, e.FinalAt.Equal(l.Now().Add(day)))
	first := l.Keys()[0]
	require.Equal(t, 1, l.Material(first), "the superseded root lives through the grace")

	l.Advance(day)
	require.NoError(t, l.Opens("2"))
	require.Zero(t, l.Material(first))
	require.True(t, l.Status("1").Final)
	require.Len(t, l.Keys(), 2, "a key for each epoch")
}

func TestAKeystoreOnMaterialOfAWS(t *testing.T) {
	l := begin(t, made, day)
	require.NoError(t, l.Ensure("1", "2"))
	e := l.Erase("1")
	require.True(t, e.FinalAt.Equal(l.Now().Add(8*day)), "the delay comes on top of the grace")
	key := l.Keys()[0]

	l.Advance(day)
	require.NoError(t, l.Opens("2"))
	require.Equal(t, "PendingDeletion", l.State(key))
	require.False(t, l.Status("1").Final)

	l.Advance(5 * day)
	l.Cancel(key) // an administrator
	require.NoError(t, l.Opens("2"))
	require.Equal(t, "PendingDeletion", l.State(key), "it was noticed and begun again")
	require.True(t, l.Status("1").FinalAt.Equal(l.Now().Add(7*day)), "got %s", l.Status("1").FinalAt)

	l.Advance(2 * day)
	require.NoError(t, l.Opens("2"))
	require.False(t, l.Status("1").Final, "the first schedule does not count")
	l.Advance(5 * day)
	require.NoError(t, l.Opens("2"))
	require.Empty(t, l.State(key))
	require.True(t, l.Status("1").Final)
}

func TestAnOutageDelaysAndLosesNothing(t *testing.T) {
	for _, c := range []awskms.Config{imported, made} {
		l := begin(t, c, 0)
		require.NoError(t, l.Ensure("1", "2"))
		l.Down(true)
		require.NoError(t, l.Ensure("2"), "an open process needs no root")
		_, err := l.Store.Erase(t.Context(), keystore.Request{Subject: l.Customer("1")})
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		_, err = keystore.Open(t.Context(), l.Backend, l.Roots, nil)
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		l.Down(false)
		require.NoError(t, l.Store.Advance(t.Context()))
		require.NoError(t, l.Opens("2"))
		require.ErrorIs(t, l.Opens("1"), keystore.ErrErased)
		l.Advance(8 * day)
		require.NoError(t, l.Opens("2"))
		require.True(t, l.Status("1").Final)
	}
}

// One Decrypt for each epoch and process, none for each read: what docs/roots.md promises.
func TestCallsAreCounted(t *testing.T) {
	l := begin(t, imported, 0)
	require.NoError(t, l.Ensure("1", "2", "3"))
	before := l.Calls("Decrypt")
	require.NoError(t, l.Opens("2"))
	require.Equal(t, 1, l.Calls("Decrypt")-before)
	for range 100 {
		_, err := l.Store.Lookup(t.Context(), nil, l.Customer("1"), l.Customer("2"), l.Customer("3"))
		require.NoError(t, err)
	}
	require.Equal(t, 1, l.Calls("Decrypt")-before)
	before = l.Total()
	l.Erase("1")
	t.Logf("an advance with the end of its root: %d calls", l.Total()-before)
	require.LessOrEqual(t, l.Total()-before, 20)
}

func TestRehearse(t *testing.T) {
	l := begin(t, imported, 0)
	r, err := l.Roots.Rehearse(t.Context())
	require.NoError(t, err)
	require.True(t, r.Proven(), "%v", r)
	require.Zero(t, l.Material(l.Keys()[1]))
	require.Equal(t, "PendingDeletion", l.State(l.Keys()[1]), "the empty key costs until it is deleted")

	l = begin(t, made, 0)
	r, err = l.Roots.Rehearse(t.Context())
	require.NoError(t, err)
	require.False(t, r.Proven())
	require.True(t, r.Until.Equal(l.Now().Add(7*day)), "%v", r)
	require.Equal(t, "PendingDeletion", l.State(l.Keys()[1]))
	require.Equal(t, "Enabled", l.State(l.Keys()[0]))
}
