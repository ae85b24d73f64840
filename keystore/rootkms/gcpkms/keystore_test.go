package gcpkms_test

import (
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms/gcpkms/gcpkmstest"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// life is a keystore whose roots Cloud KMS wraps.
type life struct {
	*world
	*kmstest.Life
}

func begin(t *testing.T, grace time.Duration) *life {
	w := start(t)
	l := &life{w, kmstest.Begin(t, w.keys, w.Now, grace)}
	require.NoError(t, l.Ensure("1", "2"))
	return l
}

func TestAKeystoreOnCloudKMS(t *testing.T) {
	l := begin(t, day)
	require.True(t, l.Erase("1").FinalAt.Equal(l.Now().Add(day+gcpkmstest.Delay)), "the delay comes on top of the grace")
	first := l.Versions()[0]

	l.Advance(day)
	require.NoError(t, l.Opens("2"))
	require.ErrorIs(t, l.Opens("1"), keystore.ErrErased)
	require.Equal(t, l.dying(), l.Fate(first))
	require.False(t, l.Status("1").Final)

	l.Advance(day)
	l.Change(first, func(v *kmspb.CryptoKeyVersion) { // an administrator restores it
		v.State, v.DestroyTime = kmspb.CryptoKeyVersion_ENABLED, nil
	})
	require.NoError(t, l.Opens("2"))
	require.Equal(t, l.dying(), l.Fate(first), "it was noticed and begun again")
	require.True(t, l.Status("1").FinalAt.Equal(l.Now().Add(gcpkmstest.Delay)))

	l.Advance(day)
	require.NoError(t, l.Opens("2"))
	require.False(t, l.Status("1").Final, "the first schedule does not count")
	l.Advance(day)
	require.NoError(t, l.Opens("2"))
	require.False(t, l.Holds(first))
	require.True(t, l.Status("1").Final)
	require.Len(t, l.Versions(), 2, "a version for each epoch")
}

func TestAnOutageDelaysAndLosesNothing(t *testing.T) {
	l := begin(t, 0)
	l.Down(true)
	require.NoError(t, l.Ensure("3"), "an open process needs no root")
	_, err := l.Store.Erase(t.Context(), keystore.Request{Subject: l.Customer("1")})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	_, err = keystore.Open(t.Context(), l.Backend, l.Roots, nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	l.Down(false)
	require.NoError(t, l.Store.Advance(t.Context()))
	require.NoError(t, l.Opens("2"))
	require.ErrorIs(t, l.Opens("1"), keystore.ErrErased)
	l.Advance(gcpkmstest.Delay)
	require.NoError(t, l.Opens("3"))
	require.True(t, l.Status("1").Final)
}

// One Decrypt for each epoch and process, none for each read: what docs/roots.md promises.
func TestCallsAreCounted(t *testing.T) {
	l := begin(t, 0)
	before := l.Calls()["Decrypt"]
	require.NoError(t, l.Opens("2"))
	for range 100 {
		_, err := l.Store.Lookup(t.Context(), nil, l.Customer("1"), l.Customer("2"))
		require.NoError(t, err)
	}
	require.Equal(t, 1, l.Calls()["Decrypt"]-before)
	total := func() (n int) {
		for _, c := range l.Calls() {
			n += c
		}
		return n
	}
	before = total()
	l.Erase("1")
	t.Logf("an advance with the destruction of its root begun: %d calls", total()-before)
	require.LessOrEqual(t, total()-before, 12)
}

func TestRehearse(t *testing.T) {
	l := begin(t, 0)
	r, err := l.Roots.Rehearse(t.Context())
	require.NoError(t, err)
	require.False(t, r.Proven())
	require.True(t, r.Until.Equal(l.Now().Add(gcpkmstest.Delay)), "%v", r)
	require.Equal(t, l.dying(), l.Fate(l.Versions()[1]))
	require.Equal(t, living, l.Fate(l.Versions()[0]))
}
