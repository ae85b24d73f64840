package awskms_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/awskms"
)

// life is a keystore whose roots AWS KMS wraps.
type life struct {
	*world
	roots   *rootkms.Store
	backend keystore.Backend
	store   *keystore.Store
}

func begin(t *testing.T, c awskms.Config, grace time.Duration) *life {
	w := start(t, c)
	l := &life{world: w, backend: memstore.New()}
	l.roots = rootkms.New(w.keys, rootkms.BackendShelf(memstore.New()), &rootkms.Options{Clock: w.Now})
	require.NoError(t, keystore.Create(t.Context(), l.backend, l.roots, &keystore.CreateOptions{Grace: grace, Shards: 16}))
	l.open()
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

func (l *life) erase(id string) keystore.Erasure {
	es, err := l.store.Erase(l.t.Context(), keystore.Request{Subject: l.subject(id)})
	require.NoError(l.t, err)
	require.NoError(l.t, es[0].Err)
	return es[0]
}

func (l *life) ensure(id string) error {
	_, err := l.store.Ensure(l.t.Context(), nil, []string{""}, l.subject(id))
	return err
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

func TestAKeystoreOnImportedMaterial(t *testing.T) {
	l := begin(t, imported, day)
	require.NoError(t, l.ensure("1"))
	require.NoError(t, l.ensure("2"))
	e := l.erase("1")
	require.False(t, e.Final)
	require.True(t, e.FinalAt.Equal(l.Now().Add(day)))
	first := l.Keys()[0]
	require.Equal(t, 1, l.Material(first), "the superseded root lives through the grace")

	l.Advance(day)
	require.NoError(t, l.opens("2"))
	require.Zero(t, l.Material(first))
	require.True(t, l.status("1").Final)
	require.Len(t, l.Keys(), 2, "a key for each epoch")
}

func TestAKeystoreOnMaterialOfAWS(t *testing.T) {
	l := begin(t, made, day)
	require.NoError(t, l.ensure("1"))
	require.NoError(t, l.ensure("2"))
	e := l.erase("1")
	require.True(t, e.FinalAt.Equal(l.Now().Add(8*day)), "the delay comes on top of the grace")
	key := l.Keys()[0]

	l.Advance(day)
	require.NoError(t, l.opens("2"))
	require.Equal(t, "PendingDeletion", l.State(key))
	require.False(t, l.status("1").Final)

	l.Advance(5 * day)
	l.Cancel(key) // an administrator
	require.NoError(t, l.opens("2"))
	require.Equal(t, "PendingDeletion", l.State(key), "it was noticed and begun again")
	require.True(t, l.status("1").FinalAt.Equal(l.Now().Add(7*day)), "got %s", l.status("1").FinalAt)

	l.Advance(2 * day)
	require.NoError(t, l.opens("2"))
	require.False(t, l.status("1").Final, "the first schedule does not count")
	l.Advance(5 * day)
	require.NoError(t, l.opens("2"))
	require.Empty(t, l.State(key))
	require.True(t, l.status("1").Final)
}

func TestAnOutageDelaysAndLosesNothing(t *testing.T) {
	for _, c := range []awskms.Config{imported, made} {
		l := begin(t, c, 0)
		require.NoError(t, l.ensure("1"))
		require.NoError(t, l.ensure("2"))
		l.Down(true)
		require.NoError(t, l.ensure("2"), "an open process needs no root")
		_, err := l.store.Erase(t.Context(), keystore.Request{Subject: l.subject("1")})
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		_, err = keystore.Open(t.Context(), l.backend, l.roots, nil)
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		l.Down(false)
		require.NoError(t, l.store.Advance(t.Context()))
		require.NoError(t, l.opens("2"))
		require.ErrorIs(t, l.opens("1"), keystore.ErrErased)
		l.Advance(8 * day)
		require.NoError(t, l.opens("2"))
		require.True(t, l.status("1").Final)
	}
}

// One Decrypt for each epoch and process, none for each read: what docs/roots.md promises.
func TestCallsAreCounted(t *testing.T) {
	l := begin(t, imported, 0)
	for _, id := range []string{"1", "2", "3"} {
		require.NoError(t, l.ensure(id))
	}
	before := l.Calls("Decrypt")
	require.NoError(t, l.opens("2"))
	require.Equal(t, 1, l.Calls("Decrypt")-before)
	for range 100 {
		_, err := l.store.Lookup(t.Context(), nil, l.subject("1"), l.subject("2"), l.subject("3"))
		require.NoError(t, err)
	}
	require.Equal(t, 1, l.Calls("Decrypt")-before)
	before = l.Total()
	l.erase("1")
	t.Logf("an advance with the end of its root: %d calls", l.Total()-before)
	require.LessOrEqual(t, l.Total()-before, 20)
}

func TestRehearse(t *testing.T) {
	l := begin(t, imported, 0)
	r, err := l.roots.Rehearse(t.Context())
	require.NoError(t, err)
	require.True(t, r.Proven(), "%v", r)
	require.Zero(t, l.Material(l.Keys()[1]))
	require.Equal(t, "PendingDeletion", l.State(l.Keys()[1]), "the empty key costs until it is deleted")

	l = begin(t, made, 0)
	r, err = l.roots.Rehearse(t.Context())
	require.NoError(t, err)
	require.False(t, r.Proven())
	require.True(t, r.Until.Equal(l.Now().Add(7*day)), "%v", r)
	require.Equal(t, "PendingDeletion", l.State(l.Keys()[1]))
	require.Equal(t, "Enabled", l.State(l.Keys()[0]))
}
