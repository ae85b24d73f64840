package gcpkms_test

import (
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/gcpkms/gcpkmstest"
)

// life is a keystore whose roots Cloud KMS wraps.
type life struct {
	*world
	roots   *rootkms.Store
	backend keystore.Backend
	store   *keystore.Store
}

func begin(t *testing.T, grace time.Duration) *life {
	w := start(t)
	l := &life{world: w, backend: memstore.New()}
	l.roots = rootkms.New(w.keys, rootkms.BackendShelf(memstore.New()), &rootkms.Options{Clock: w.Now})
	require.NoError(t, keystore.Create(t.Context(), l.backend, l.roots, &keystore.CreateOptions{Grace: grace, Shards: 16}))
	l.open()
	for _, id := range []string{"1", "2"} {
		_, err := l.store.Ensure(t.Context(), nil, []string{""}, l.subject(id))
		require.NoError(t, err)
	}
	return l
}

func (l *life) open() {
	var err error
	l.store, err = keystore.Open(l.t.Context(), l.backend, l.roots, &keystore.Options{Clock: l.Now})
	require.NoError(l.t, err)
}

func (l *life) subject(id string) keystore.Subject {
	sub, err := keystore.NewSubject("customer", id)
	require.NoError(l.t, err)
	return sub
}

// opens tells whether a subject's keys can be had by a process that starts now.
func (l *life) opens(id string) error {
	l.open()
	keys, err := l.store.Lookup(l.t.Context(), nil, l.subject(id))
	require.NoError(l.t, err)
	return keys[0].Err()
}

func (l *life) status(id string) keystore.Status {
	st, err := l.store.Status(l.t.Context(), l.subject(id))
	require.NoError(l.t, err)
	return st[0]
}

func TestAKeystoreOnCloudKMS(t *testing.T) {
	l := begin(t, day)
	es, err := l.store.Erase(t.Context(), keystore.Request{Subject: l.subject("1")})
	require.NoError(t, err)
	require.True(t, es[0].FinalAt.Equal(l.Now().Add(day+gcpkmstest.Delay)), "the delay comes on top of the grace")
	first := l.Versions()[0]

	l.Advance(day)
	require.NoError(t, l.opens("2"))
	require.ErrorIs(t, l.opens("1"), keystore.ErrErased)
	require.Equal(t, l.dying(), l.fate(first))
	require.False(t, l.status("1").Final)

	l.Advance(day)
	l.Change(first, func(v *kmspb.CryptoKeyVersion) { // an administrator restores it
		v.State, v.DestroyTime = kmspb.CryptoKeyVersion_ENABLED, nil
	})
	require.NoError(t, l.opens("2"))
	require.Equal(t, l.dying(), l.fate(first), "it was noticed and begun again")
	require.True(t, l.status("1").FinalAt.Equal(l.Now().Add(gcpkmstest.Delay)))

	l.Advance(day)
	require.NoError(t, l.opens("2"))
	require.False(t, l.status("1").Final, "the first schedule does not count")
	l.Advance(day)
	require.NoError(t, l.opens("2"))
	require.False(t, l.Holds(first))
	require.True(t, l.status("1").Final)
	require.Len(t, l.Versions(), 2, "a version for each epoch")
}

func TestAnOutageDelaysAndLosesNothing(t *testing.T) {
	l := begin(t, 0)
	l.Down(true)
	_, err := l.store.Ensure(t.Context(), nil, []string{""}, l.subject("3"))
	require.NoError(t, err, "an open process needs no root")
	_, err = l.store.Erase(t.Context(), keystore.Request{Subject: l.subject("1")})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	_, err = keystore.Open(t.Context(), l.backend, l.roots, nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	l.Down(false)
	require.NoError(t, l.store.Advance(t.Context()))
	require.NoError(t, l.opens("2"))
	require.ErrorIs(t, l.opens("1"), keystore.ErrErased)
	l.Advance(gcpkmstest.Delay)
	require.NoError(t, l.opens("3"))
	require.True(t, l.status("1").Final)
}

// One Decrypt for each epoch and process, none for each read: what docs/roots.md promises.
func TestCallsAreCounted(t *testing.T) {
	l := begin(t, 0)
	before := l.Calls()["Decrypt"]
	require.NoError(t, l.opens("2"))
	for range 100 {
		_, err := l.store.Lookup(t.Context(), nil, l.subject("1"), l.subject("2"))
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
	_, err := l.store.Erase(t.Context(), keystore.Request{Subject: l.subject("1")})
	require.NoError(t, err)
	t.Logf("an advance with the destruction of its root begun: %d calls", total()-before)
	require.LessOrEqual(t, total()-before, 12)
}

func TestRehearse(t *testing.T) {
	l := begin(t, 0)
	r, err := l.roots.Rehearse(t.Context())
	require.NoError(t, err)
	require.False(t, r.Proven())
	require.True(t, r.Until.Equal(l.Now().Add(gcpkmstest.Delay)), "%v", r)
	require.Equal(t, l.dying(), l.fate(l.Versions()[1]))
	require.Equal(t, living, l.fate(l.Versions()[0]))
}
