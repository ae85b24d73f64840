//go:build cgo

package pkcs11

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

var (
	someStore = keystore.StoreID{1}
	someRoot  = keystore.RootID{2}
)

// wrapped is a key with what it wrapped.
type wrapped struct {
	name             string
	secret, blob, ad []byte
}

var testAD = []byte("what it is for")

func makeWrapped(t *testing.T, k *Keys, secret string) wrapped {
	t.Helper()
	name, err := k.Make(t.Context(), someStore, someRoot)
	require.NoError(t, err)
	blob, err := k.Wrap(t.Context(), name, []byte(secret), testAD)
	require.NoError(t, err)
	return wrapped{name, []byte(secret), blob, testAD}
}

func (w wrapped) requireOpens(t *testing.T, k *Keys) {
	t.Helper()
	secret, err := k.Unwrap(t.Context(), w.name, w.blob, w.ad)
	require.NoError(t, err)
	require.Equal(t, w.secret, secret)
}

func (w wrapped) requireGone(t *testing.T, k *Keys) {
	t.Helper()
	_, err := k.Unwrap(t.Context(), w.name, w.blob, w.ad)
	require.ErrorIs(t, err, keystore.ErrNotFound)
	states, err := k.State(t.Context(), []string{w.name})
	require.NoError(t, err)
	require.Equal(t, []rootkms.KeyState{{Fate: rootkms.Gone}}, states)
}

// objectsOf returns a session that is logged in and the objects of the key.
func objectsOf(t *testing.T, k *Keys, name string) (*session, []pkcs11.ObjectHandle) {
	t.Helper()
	require.NoError(t, k.ready())
	objects, err := k.session.search(name)
	require.NoError(t, err)
	return k.session, objects
}

func TestKeyCannotLeaveTheToken(t *testing.T) {
	k := openKeys(t, newToken(t), nil)
	require.NoError(t, k.Check(t.Context()))
	name, err := k.Make(t.Context(), someStore, someRoot)
	require.NoError(t, err)
	s, objects := objectsOf(t, k, name)
	require.Len(t, objects, 1)
	m := testModule(t)

	_, err = m.GetAttributeValue(s.handle, objects[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
	require.ErrorIs(t, err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_SENSITIVE))
	label, err := m.GetAttributeValue(s.handle, objects[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, nil)})
	require.NoError(t, err)
	require.Equal(t, "oubli "+someStore.String()+" "+someRoot.String(), string(label[0].Value))

	wrapper, err := m.GenerateKey(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)},
		[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_WRAP, true), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32)})
	require.NoError(t, err)
	_, err = m.WrapKey(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_WRAP, nil)}, wrapper, objects[0])
	require.ErrorIs(t, err, pkcs11.Error(pkcs11.CKR_KEY_UNEXTRACTABLE))
	_, err = m.CopyObject(s.handle, objects[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, []byte("escaped"))})
	require.ErrorIs(t, err, pkcs11.Error(pkcs11.CKR_ACTION_PROHIBITED))
	err = m.SetAttributeValue(s.handle, objects[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, []byte("escaped"))})
	require.Error(t, err)
	for _, mechanism := range []uint{pkcs11.CKM_AES_CMAC} {
		err = m.SignInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, objects[0])
		require.ErrorIs(t, err, pkcs11.Error(pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED))
	}
}

func TestCheckLeavesNothing(t *testing.T) {
	k := openKeys(t, newToken(t), nil)
	require.NoError(t, k.Check(t.Context()))
	require.NoError(t, k.ready())
	s := k.session
	require.NoError(t, s.FindObjectsInit(s.handle, nil))
	objects, _, err := s.FindObjects(s.handle, 10)
	require.NoError(t, err)
	require.NoError(t, s.FindObjectsFinal(s.handle))
	require.Empty(t, objects)
}

// Another application's key that happens to have the random part as its id is not ours.
func TestForeignObjectsStay(t *testing.T) {
	k := openKeys(t, newToken(t), nil)
	w := makeWrapped(t, k, "root")
	require.NoError(t, k.ready())
	s := k.session
	serial, foreign := parseName(w.name)
	foreign = foreign[len(idPrefix):]
	m := testModule(t)
	_, err := m.GenerateKey(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_ID, foreign),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32)})
	require.NoError(t, err)
	require.NoError(t, k.Destroy(t.Context(), []string{w.name, string(foreign), "", "oubli:", ".", "%.", strings.ToUpper(w.name), w.name[len(serial)+1:]}))
	require.NoError(t, s.FindObjectsInit(s.handle, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, foreign)}))
	objects, _, err := s.FindObjects(s.handle, 10)
	require.NoError(t, err)
	require.NoError(t, s.FindObjectsFinal(s.handle))
	require.Len(t, objects, 1)
}

// A key that cannot decrypt is barred; a second object of its id dies with it.
func TestBarredAndCopied(t *testing.T) {
	k := openKeys(t, newToken(t), nil)
	w := makeWrapped(t, k, "root")
	m := testModule(t)
	generate := func(name string, decrypt bool) {
		require.NoError(t, k.ready())
		_, err := m.GenerateKey(k.session.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_ID, id(name)),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, decrypt)})
		require.NoError(t, err)
	}
	generate(w.name, true)
	_, err := k.Wrap(t.Context(), w.name, []byte("root"), nil)
	require.ErrorIs(t, err, keystore.ErrMismatch)
	require.ErrorContains(t, err, "2 keys of that id")
	w.requireOpens(t, k)
	require.NoError(t, k.Destroy(t.Context(), []string{w.name}))
	w.requireGone(t, k)

	barred := someKey(k)
	generate(barred, false)
	states, err := k.State(t.Context(), []string{barred, w.name})
	require.NoError(t, err)
	require.Equal(t, []rootkms.KeyState{{Fate: rootkms.Barred}, {Fate: rootkms.Gone}}, states)
	_, err = k.Unwrap(t.Context(), barred, w.blob, testAD)
	require.ErrorIs(t, err, keystore.ErrNotFound)
	require.NoError(t, k.Destroy(t.Context(), []string{barred}))
	states, err = k.State(t.Context(), []string{barred})
	require.NoError(t, err)
	require.Equal(t, rootkms.Gone, states[0].Fate)
}

func TestUnwrapTellsTampered(t *testing.T) {
	k := openKeys(t, newToken(t), nil)
	w, other := makeWrapped(t, k, strings.Repeat("r", maxSecret)), makeWrapped(t, k, "another root")
	w.requireOpens(t, k)
	for i := range w.blob {
		blob := append([]byte(nil), w.blob...)
		blob[i] ^= 1
		_, err := k.Unwrap(t.Context(), w.name, blob, testAD)
		require.ErrorIs(t, err, keystore.ErrTampered, "byte %d", i)
	}
	for _, blob := range [][]byte{nil, {1}, w.blob[:20], w.blob[:len(w.blob)-1], append(w.blob, 0), other.blob} {
		_, err := k.Unwrap(t.Context(), w.name, blob, testAD)
		require.ErrorIs(t, err, keystore.ErrTampered)
	}
	for _, ad := range [][]byte{nil, []byte("another thing")} {
		_, err := k.Unwrap(t.Context(), w.name, w.blob, ad)
		require.ErrorIs(t, err, keystore.ErrTampered)
	}
	_, err := k.Wrap(t.Context(), w.name, make([]byte, maxSecret+1), nil)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	w.requireOpens(t, k)
}

func TestManyAtOnce(t *testing.T) {
	c := newToken(t)
	stores := []*Keys{openKeys(t, c, nil), openKeys(t, c, nil)}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 4 {
				k := stores[i%2]
				w := makeWrapped(t, k, "root")
				w.requireOpens(t, stores[(i+1)%2])
				if !mayFail(t, k.Destroy(t.Context(), []string{w.name})) {
					return
				}
				w.requireGone(t, stores[(i+1)%2])
			}
		})
	}
	wg.Wait()
}

func mayFail(t *testing.T, err error) bool {
	if err != nil {
		t.Errorf("%v", err)
	}
	return err == nil
}

// One process may use a token by several modules' users: who closes or logs out does not
// take the others along.
func TestCloseIsForOneself(t *testing.T) {
	c := newToken(t)
	a, b := openKeys(t, c, nil), openKeys(t, c, nil)
	w := makeWrapped(t, a, "root")
	require.NoError(t, a.Close())
	w.requireOpens(t, b)
	_, err := a.Make(t.Context(), someStore, someRoot)
	require.ErrorIs(t, err, keystore.ErrClosed)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
}

func TestContextEnds(t *testing.T) {
	k := openKeys(t, newToken(t), nil)
	w := makeWrapped(t, k, "root")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := k.Make(ctx, someStore, someRoot)
	requireCanceled(t, err)
	_, err = k.Wrap(ctx, w.name, nil, nil)
	requireCanceled(t, err)
	_, err = k.Unwrap(ctx, w.name, w.blob, testAD)
	requireCanceled(t, err)
	_, err = k.State(ctx, []string{w.name})
	requireCanceled(t, err)
	requireCanceled(t, k.Destroy(ctx, []string{w.name}))
	requireCanceled(t, k.Check(ctx))
	w.requireOpens(t, k)
}

func requireCanceled(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorIs(t, err, context.Canceled)
}

func TestUndoFails(t *testing.T) {
	k := openKeys(t, newToken(t), nil)
	w := makeWrapped(t, k, "root")
	require.NoError(t, k.Destroy(t.Context(), []string{w.name}))
	require.Error(t, k.Undo(t.Context(), []string{w.name}))
	w.requireGone(t, k)
	require.Nil(t, k.Before([]string{"a"}, []string{"b"}))
}
