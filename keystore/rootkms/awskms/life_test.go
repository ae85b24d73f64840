package awskms_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/awskms"
)

const day = 24 * time.Hour

func TestImportedMaterialIsGoneAtOnceAndForGood(t *testing.T) {
	w := start(t, imported)
	name := w.Made()
	require.Equal(t, map[string]string{"oubli": "root", "oubli-store": keystore.StoreID{1}.String(), "oubli-root": keystore.RootID{2}.String()}, w.Tags(name))
	require.Equal(t, living, w.Fate(name))
	wrapped := w.Wrapped(name)
	require.NoError(t, w.Unwrap(name, wrapped))

	w.Destroyed(name)
	require.Zero(t, w.Material(name))
	require.Equal(t, gone, w.Fate(name))
	require.ErrorIs(t, w.Unwrap(name, wrapped), keystore.ErrNotFound)
	require.Equal(t, "PendingDeletion", w.State(name), "the empty key goes as well")
	w.Destroyed(name)

	err := w.keys.Undo(t.Context(), []string{name})
	require.ErrorContains(t, err, "IncorrectKeyMaterialException")
	require.Equal(t, 1, w.Calls("CancelKeyDeletion"), "it was tried")
	require.Equal(t, "PendingDeletion", w.State(name), "the empty key goes all the same")
	require.Equal(t, gone, w.Fate(name))
	require.ErrorIs(t, w.Unwrap(name, wrapped), keystore.ErrNotFound)

	w.Destroyed(name)
	w.Advance(7 * day)
	require.Empty(t, w.State(name))
	require.Equal(t, gone, w.Fate(name))
	w.Destroyed(name)
	require.Equal(t, keystore.Place{URL: "awskms:eu-central-1", Class: keystore.ClassEffaceable}, w.keys.Place())
}

func TestMadeMaterialIsGoneLaterAndCanBeCancelled(t *testing.T) {
	c := made
	c.Window = 10 * day
	w := start(t, c)
	require.Equal(t, keystore.Place{URL: "awskms:eu-central-1?imported=false", Class: keystore.ClassScheduled, Delay: 10 * day}, w.keys.Place())
	name := w.Made()
	wrapped := w.Wrapped(name)
	w.Destroyed(name)
	require.Equal(t, rootkms.KeyState{Fate: rootkms.Dying, Until: w.Now().Add(10 * day)}, w.Fate(name))
	require.ErrorIs(t, w.Unwrap(name, wrapped), keystore.ErrNotFound)

	w.Advance(9 * day)
	require.NoError(t, w.keys.Undo(t.Context(), []string{name}))
	require.Equal(t, living, w.Fate(name))
	require.NoError(t, w.Unwrap(name, wrapped), "an administrator can take it back")

	w.Destroyed(name)
	require.Equal(t, rootkms.KeyState{Fate: rootkms.Dying, Until: w.Now().Add(10 * day)}, w.Fate(name))
	w.Advance(10 * day)
	require.Equal(t, gone, w.Fate(name))
	require.ErrorIs(t, w.Unwrap(name, wrapped), keystore.ErrNotFound)
	require.Error(t, w.keys.Undo(t.Context(), []string{name}))
}

func TestDestroyGoesByWhatAKeyIs(t *testing.T) {
	w := start(t, made)
	other, err := awskms.New(imported, w.Config())
	require.NoError(t, err)
	other.Hurry()
	name := w.Made()
	require.NoError(t, other.Destroy(t.Context(), []string{name}))
	require.Equal(t, rootkms.Dying, w.Fate(name).Fate)
	name, err = other.Make(t.Context(), keystore.StoreID{}, keystore.RootID{})
	require.NoError(t, err)
	w.Destroyed(name)
	require.Equal(t, gone, w.Fate(name))
}

func TestMaterialThatSomebodyAddedGoesToo(t *testing.T) {
	w := start(t, imported)
	name := w.Made()
	wrapped := w.Wrapped(name)
	w.Rotate(name)
	require.NoError(t, w.Unwrap(name, wrapped))
	require.Equal(t, 2, w.Material(name))
	w.Destroyed(name)
	require.Zero(t, w.Material(name))
	require.Equal(t, gone, w.Fate(name))
}

// A key that somebody else has scheduled for deletion still has its material.
func TestAScheduledKeyWithMaterialIsNotGone(t *testing.T) {
	w := start(t, imported)
	name := w.Made()
	wrapped := w.Wrapped(name)
	w.Schedule(name)
	require.Equal(t, rootkms.KeyState{Fate: rootkms.Dying, Until: w.Now().Add(7 * day)}, w.Fate(name))
	w.Cancel(name)
	require.NoError(t, w.Unwrap(name, wrapped))
	w.Schedule(name)
	w.Destroyed(name)
	require.Zero(t, w.Material(name))
	require.Equal(t, gone, w.Fate(name))
}

func TestADisabledKeyIsBarredAndCanBeDestroyed(t *testing.T) {
	for _, c := range []awskms.Config{imported, made} {
		w := start(t, c)
		name := w.Made()
		wrapped := w.Wrapped(name)
		w.Disable(name)
		require.Equal(t, rootkms.KeyState{Fate: rootkms.Barred}, w.Fate(name))
		err := w.Unwrap(name, wrapped)
		require.ErrorIs(t, err, keystore.ErrNotFound)
		require.ErrorContains(t, err, "enable it again")
		w.Destroyed(name)
		require.NotEqual(t, rootkms.Barred, w.Fate(name).Fate)
	}
}

// Without a list of its materials, a key that waits for its deletion may have some.
func TestWithoutAListAnEmptyKeyIsGoneWhenKMSHasDeletedIt(t *testing.T) {
	w := start(t, imported)
	w.NoListing()
	name := w.Made()
	w.Destroyed(name)
	require.Zero(t, w.Material(name))
	require.Equal(t, rootkms.KeyState{Fate: rootkms.Dying, Until: w.Now().Add(7 * day)}, w.Fate(name))
	w.Advance(7 * day)
	require.Equal(t, gone, w.Fate(name))
}

func TestNewsArriveLate(t *testing.T) {
	for _, c := range []awskms.Config{imported, made} {
		w := start(t, c)
		w.Lag(3)
		name := w.Made()
		wrapped := w.Wrapped(name)
		require.NotZero(t, *w.waits)
		require.NoError(t, w.Unwrap(name, wrapped))
		require.Equal(t, living, w.Fate(name))
		w.Destroyed(name)
		require.NotEqual(t, rootkms.Living, w.Fate(name).Fate)
		require.ErrorIs(t, w.Unwrap(name, wrapped), keystore.ErrNotFound)
	}
}

// A new key that a part of KMS does not know yet must not read as destroyed.
func TestANewKeyIsNotGone(t *testing.T) {
	w := start(t, made)
	name := w.Made()
	w.Fail("DescribeKey", "NotFoundException", 3)
	require.Equal(t, living, w.Fate(name))
	w.Fail("DescribeKey", "NotFoundException", 3)
	w.Destroyed(name)
	require.Equal(t, rootkms.Dying, w.Fate(name).Fate)
}

func TestWhatNeverSettlesIsNotDestroyed(t *testing.T) {
	w := start(t, imported)
	name := w.Made()
	w.Lag(1000)
	err := w.keys.Destroy(t.Context(), []string{name})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "does not say yet")
}
