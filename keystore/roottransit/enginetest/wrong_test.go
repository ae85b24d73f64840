package enginetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/roottransit"
)

// What can be wrong with a root store, each with the answer that it gets. None of them
// reads as an erasure, and none tells the token.

// living makes a keystore with ten customers, which is open.
func living(t *testing.T, e *Engine) (c *roottransit.Config, roots *roottransit.Store, b *memstore.Store, ks *keystore.Store, list []keystore.Subject) {
	c, roots = made(t, e)
	b = memstore.New()
	require.NoError(t, keystore.Create(t.Context(), b, roots, &keystore.CreateOptions{Shards: 64, Grace: 24 * time.Hour}))
	ks = keyed(t, b, roots, nil)
	return c, roots, b, ks, customers(t, ks, 1, 10)
}

// fails checks an error.
func fails(t *testing.T, err error, token string, texts ...string) {
	t.Helper()
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.NotErrorIs(t, err, keystore.ErrErased)
	for _, text := range texts {
		require.ErrorContains(t, err, text)
	}
	if token != "" {
		require.NotContains(t, err.Error(), token)
	}
	t.Log(err)
}

// opens tries to open the keystore in a process of its own, which writes nothing.
func opens(t *testing.T, b keystore.Backend, roots keystore.RootStore) error {
	ks, err := keystore.Open(t.Context(), b.(*memstore.Store).Snapshot(), roots, &keystore.Options{ReadOnly: true})
	if err == nil {
		ks.Close()
	}
	return err
}

// An outage delays advances and the opening of new processes. Processes that are open go
// on reading and writing fields.
func TestSealedAndUnreachable(t *testing.T) {
	e := start(t, nil)
	c, _, b, ks, list := living(t, e)
	token, err := e.Token(c, time.Hour, 0)
	require.NoError(t, err)
	other, err := e.Open(c, token, "")
	require.NoError(t, err)
	defer other.Close()
	for i, outage := range []struct {
		begin func() error
		end   func() error
		text  string
	}{
		{e.Seal, e.Unseal, "is sealed: unseal it"},
		{func() error { e.Down(); return nil }, e.Up, "was not reached"},
		{func() error { e.Down(); return nil }, e.Restart, "was not reached"},
	} {
		require.NoError(t, outage.begin())
		fails(t, opens(t, b, other), token, e.URL(), outage.text)
		_, err := ks.Lookup(t.Context(), nil, list...)
		require.NoError(t, err)
		customers(t, ks, 100, 5)
		fails(t, advances(t, ks, list[i]), token, outage.text)
		require.NoError(t, outage.end())
		require.NoError(t, opens(t, b, other))
		before, err := ks.Health(t.Context())
		require.NoError(t, err)
		require.NoError(t, ks.Advance(t.Context()))
		after, err := ks.Health(t.Context())
		require.NoError(t, err)
		require.Equal(t, before.Epoch+1, after.Epoch)
		_, err = ks.Lookup(t.Context(), nil, list...)
		require.NoError(t, err)
	}
}

// advances erases somebody, for which the tree has to advance.
func advances(t *testing.T, ks *keystore.Store, s keystore.Subject) error {
	es, err := ks.Erase(t.Context(), keystore.Request{Subject: s})
	if err == nil {
		err = es[0].Err
	}
	return err
}

func TestTokenExpires(t *testing.T) {
	e := start(t, nil)
	c, _, b, _, _ := living(t, e)
	token, err := e.Token(c, time.Second, time.Second)
	require.NoError(t, err)
	s, err := e.Open(c, token, "")
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, opens(t, b, s))
	require.Eventually(t, func() bool { return opens(t, b, s) != nil }, 10*time.Second, 200*time.Millisecond)
	fails(t, opens(t, b, s), token, "it has expired or was revoked")

	none, err := e.Open(c, "", "")
	require.NoError(t, err)
	defer none.Close()
	fails(t, opens(t, b, none), "", "there is no token")
}

// An administrator trims too far: the epochs are named that are lost, and what brings
// them back. Trimming less than that, by the limit alone, names the limit.
func TestTrimmedTooFar(t *testing.T) {
	e := start(t, nil)
	c, roots, b, ks, list := living(t, e)
	require.NoError(t, advances(t, ks, list[0])) // two roots: one superseded, within its grace
	admin := e.Admin().Logical()
	_, err := admin.Write("transit/keys/oubli/rotate", nil)
	require.NoError(t, err)
	_, err = admin.Write("transit/keys/oubli/config", map[string]any{"min_decryption_version": 4, "min_encryption_version": 4})
	require.NoError(t, err)

	err = opens(t, b, open(t, e, c))
	fails(t, err, "", "epochs 1 (key 2-", "2 (key 3-", "disabled")
	_, err = roots.Keys().Unwrap(t.Context(), "3-1", []byte("vault:v3:AAAA"), nil)
	require.ErrorIs(t, err, keystore.ErrNotFound)
	require.ErrorContains(t, err, "below min_decryption_version 4 and not trimmed")
	_, err = admin.Write("transit/keys/oubli/config", map[string]any{"min_decryption_version": 1, "min_encryption_version": 1})
	require.NoError(t, err)
	require.NoError(t, opens(t, b, open(t, e, c)))

	// One too few is left: the superseded epoch is lost, the current one opens.
	trim := func(v int) {
		_, err = admin.Write("transit/keys/oubli/config", map[string]any{"min_decryption_version": v, "min_encryption_version": v})
		require.NoError(t, err)
		_, err = admin.Write("transit/keys/oubli/trim", map[string]any{"min_available_version": v})
		require.NoError(t, err)
	}
	trim(3)
	require.NoError(t, opens(t, b, open(t, e, c)))
	report, err := keystore.InspectRoots(t.Context(), b, open(t, e, c), nil)
	require.NoError(t, err)
	require.Contains(t, report.Roots[0].Lost, "lost the keys of the living epochs 1 (key 2-")
	require.Empty(t, report.Roots[1].Lost)

	trim(4)
	fails(t, opens(t, b, open(t, e, c)), "", "epochs 1 (key 2-", "2 (key 3-", "snapshot")
	_, err = roots.Keys().Unwrap(t.Context(), "3-1", []byte("vault:v3:AAAA"), nil)
	require.ErrorContains(t, err, "was trimmed (everything below 4 was): it is gone for good")
}

// A key that was deleted is never made again by us, also by a token that could.
func TestKeyDeleted(t *testing.T) {
	e := start(t, nil)
	c, roots, b, ks, list := living(t, e)
	generous := c.Policy() + "\npath \"transit/*\" { capabilities = [\"create\", \"update\", \"read\", \"delete\", \"list\"] }\n"
	require.NoError(t, e.Admin().Sys().PutPolicy(c.PolicyName(), generous))
	admin := e.Admin().Logical()
	_, err := admin.Write("transit/keys/oubli/config", map[string]any{"deletion_allowed": true})
	require.NoError(t, err)
	err = roots.Keys().Check(t.Context())
	require.ErrorIs(t, err, keystore.ErrMismatch)
	require.ErrorContains(t, err, "may be deleted, and every root would be lost with it: vault write transit/keys/oubli/config deletion_allowed=false")
	t.Log(err)

	name, err := roots.Keys().Make(t.Context(), keystore.StoreID{}, keystore.RootID{})
	require.NoError(t, err)
	_, err = admin.Delete("transit/keys/oubli")
	require.NoError(t, err)
	gone := func() {
		s, err := admin.Read("transit/keys/oubli")
		require.NoError(t, err)
		require.Nil(t, s, "the key was made again")
	}
	_, err = roots.Keys().Wrap(t.Context(), name, []byte("root"), nil)
	require.ErrorIs(t, err, keystore.ErrNotFound)
	gone()
	fails(t, open(t, e, c).Add(t.Context(), root(0, 0, 0)), "", "has no key oubli")
	gone()
	fails(t, advances(t, ks, list[0]), "", "has no key oubli")
	gone()
	fails(t, opens(t, b, open(t, e, c)), "", "epochs 1 (key 2-")
	gone()

	// The engine itself does make one, which is why.
	_, err = e.Client("").Logical().Write("transit/encrypt/oubli", map[string]any{"plaintext": "AAAA"})
	require.Error(t, err)
	_, err = admin.Write("transit/encrypt/oubli", map[string]any{"plaintext": "AAAA"})
	require.NoError(t, err)

	// The new key's versions have the numbers of the old one's, and are not taken for them.
	time.Sleep(1100 * time.Millisecond)
	for range 3 {
		_, err = admin.Write("transit/keys/oubli/rotate", nil)
		require.NoError(t, err)
	}
	fails(t, opens(t, b, open(t, e, c)), "", "epochs 1 (key 2-", "snapshot")
	_, err = roots.Keys().Unwrap(t.Context(), name, []byte("vault:v3:AAAA"), nil)
	require.ErrorIs(t, err, keystore.ErrNotFound)
	require.ErrorContains(t, err, "is another than that was")
	require.NoError(t, roots.Keys().Destroy(t.Context(), []string{name}))
	s, err := admin.Read("transit/keys/oubli")
	require.NoError(t, err)
	require.Len(t, s.Data["keys"], 4, "what was not named was destroyed")
}

func TestStoreOfAnotherKeystore(t *testing.T) {
	e := start(t, nil)
	_, _, b, _, _ := living(t, e)
	c := e.Config()
	c.Key, c.Path = "second", "second"
	_, err := e.Setup(c)
	require.NoError(t, err)
	roots := open(t, e, c)
	require.ErrorIs(t, opens(t, b, roots), keystore.ErrNotFound)
	require.NoError(t, keystore.Create(t.Context(), memstore.New(), roots, &keystore.CreateOptions{Shards: 64}))
	err = opens(t, b, roots)
	require.ErrorIs(t, err, keystore.ErrMismatch)
	t.Log(err)

	// Nor does it take the place of another.
	err = keystore.Create(t.Context(), memstore.New(), roots, &keystore.CreateOptions{Shards: 64})
	require.ErrorIs(t, err, keystore.ErrExists)
	t.Log(err)
}

// The documents are gone: by the engine's own delete, which can be taken back, it is said.
func TestDocumentDeleted(t *testing.T) {
	e := start(t, nil)
	c, _, b, _, _ := living(t, e)
	admin := e.Admin().Logical()
	_, err := admin.Delete("secret/data/oubli/head")
	require.NoError(t, err)
	fails(t, opens(t, b, open(t, e, c)), "", "vault kv undelete -versions=2 secret/oubli/head")
	require.Error(t, keystore.Create(t.Context(), memstore.New(), open(t, e, c), &keystore.CreateOptions{Shards: 64}))
	_, err = admin.Write("secret/undelete/oubli/head", map[string]any{"versions": []int{2}})
	require.NoError(t, err)
	require.NoError(t, opens(t, b, open(t, e, c)))

	_, err = admin.Write("secret/config", map[string]any{"delete_version_after": "1h"})
	require.NoError(t, err)
	fails(t, open(t, e, c).Add(t.Context(), root(0, 0, 0)), "", "delete_version_after=0s")
}
