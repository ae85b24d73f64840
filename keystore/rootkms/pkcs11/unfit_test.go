//go:build cgo

package pkcs11

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// unfitFlags are flags of tokens that can't serve.
var unfitFlags = []struct {
	set, clear uint
	why        string
}{
	{pkcs11.CKF_WRITE_PROTECTED, 0, "write-protected"},
	{0, pkcs11.CKF_TOKEN_INITIALIZED, "not initialized"},
	{0, pkcs11.CKF_LOGIN_REQUIRED, "asks nobody for a PIN"},
	{0, pkcs11.CKF_USER_PIN_INITIALIZED, "has no PIN"},
	{pkcs11.CKF_USER_PIN_TO_BE_CHANGED, 0, "must be changed first"},
}

func TestUnfitTokens(t *testing.T) {
	c := newToken(t)
	for _, f := range unfitFlags {
		on := new(atomic.Bool)
		unfit := func(m cryptoki) cryptoki { return flagged{m, on, f.set, f.clear, ""} }
		k := openKeys(t, c, unfit)
		on.Store(true)
		err := k.Check(t.Context())
		require.ErrorIs(t, err, keystore.ErrMismatch)
		require.ErrorContains(t, err, f.why)
		_, err = open(t.Context(), c, unfit(module{testModule(t)}))
		require.ErrorIs(t, err, keystore.ErrMismatch)
		require.ErrorContains(t, err, f.why)
	}
}

// unfits are tokens that Check refuses.
func unfits() map[string]func(cryptoki) cryptoki {
	m := map[string]func(cryptoki) cryptoki{
		"does not do CKM_AES_GCM":     func(m cryptoki) cryptoki { return lacking{m, pkcs11.CKM_AES_GCM, pkcs11.CKF_ENCRYPT} },
		"does not do CKM_AES_KEY_GEN": func(m cryptoki) cryptoki { return lacking{m, pkcs11.CKM_AES_KEY_GEN, 0} },
		"does not authenticate":       func(m cryptoki) cryptoki { return careless{m} },
		"still has it":                func(m cryptoki) cryptoki { return hoarding{m, nil} },
		"does not destroy keys":       func(m cryptoki) cryptoki { return hoarding{m, pkcs11.Error(pkcs11.CKR_ACTION_PROHIBITED)} },
		"does not tell the nonce":     func(m cryptoki) cryptoki { return ownNonce{m, "not", true} },
		"tells the value":             func(m cryptoki) cryptoki { return making{m, pkcs11.CKA_VALUE, make([]byte, 32)} },
	}
	for _, a := range attributesOf(nil) {
		wrong := a.value
		switch v := a.value.(type) {
		case bool:
			wrong = !v
		case uint:
			wrong = v + 1
		case []byte:
			wrong = []byte("cut off")
		}
		m[a.name+" is not"] = func(m cryptoki) cryptoki { return making{m, a.typ, wrong} }
	}
	return m
}

func TestUnfitKeys(t *testing.T) {
	c := newToken(t)
	for why, unfit := range unfits() {
		k := openKeys(t, c, unfit)
		err := k.Check(t.Context())
		require.ErrorIs(t, err, keystore.ErrMismatch, why)
		require.ErrorContains(t, err, why)
		if strings.HasPrefix(why, "CKA_") {
			before := objects(t, k)
			_, err := k.Make(t.Context(), someStore, someRoot)
			require.ErrorIs(t, err, keystore.ErrMismatch, why)
			require.Equal(t, before, objects(t, k), "%s: the key was not given up", why)
		}
	}
}

// What oubli can do without, or differently, does not make a token unfit.
func TestOtherMakersTokens(t *testing.T) {
	c := newToken(t)
	for name, other := range map[string]func(cryptoki) cryptoki{
		"no CKA_COPYABLE":             func(m cryptoki) cryptoki { return old{m, pkcs11.CKA_COPYABLE} },
		"its nonce in place":          func(m cryptoki) cryptoki { return ownNonce{m, "in place", false} },
		"its nonce in place of zeros": func(m cryptoki) cryptoki { return ownNonce{m, "in place", true} },
		"its nonce behind the tag":    func(m cryptoki) cryptoki { return ownNonce{m, "behind", false} },
	} {
		k := openKeys(t, c, other)
		require.NoError(t, k.Check(t.Context()), name)
		w := makeWrapped(t, k, "root")
		w.requireOpens(t, k)
		w.requireOpens(t, openKeys(t, c, nil))
		require.NoError(t, k.Destroy(t.Context(), []string{w.name}))
		w.requireGone(t, k)
	}
	k := openKeys(t, c, func(m cryptoki) cryptoki { return ownNonce{m, "not", false} })
	name, err := k.Make(t.Context(), someStore, someRoot)
	require.NoError(t, err)
	_, err = k.Wrap(t.Context(), name, []byte("root"), testAD)
	require.ErrorIs(t, err, keystore.ErrUnavailable, "what would not open again is not returned")
}

func TestPlace(t *testing.T) {
	c := newToken(t)
	require.Equal(t, keystore.Place{URL: c.url(), Class: keystore.ClassBestEffort}, openKeys(t, c, nil).Place(), "software")
	k := openKeys(t, c, func(m cryptoki) cryptoki { return hardware{m} })
	require.Equal(t, keystore.Place{URL: c.url(), Class: keystore.ClassEffaceable}, k.Place())
}

func TestModuleThatCannotBeLoaded(t *testing.T) {
	c := Config{Token: "t", PIN: pin(testPIN), Module: filepath.Join(t.TempDir(), "no-such.so")}
	_, err := Open(t.Context(), c)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "no-such.so")
	require.ErrorContains(t, err, "is module-path right")
	require.NoError(t, os.WriteFile(c.Module, []byte("#!/bin/sh"), 0o700))
	_, err = Open(t.Context(), c)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "can't be loaded")
	c.Module = ""
	_, err = Open(t.Context(), c)
	require.ErrorIs(t, err, keystore.ErrInvalid)
}

func TestTokensAreToldApart(t *testing.T) {
	c := newToken(t)
	wrong := c
	wrong.Token = "another"
	_, err := Open(t.Context(), wrong)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, `there is`)
	require.ErrorContains(t, err, `"`+c.Token+`" of serial number`)

	k := openKeys(t, c, nil)
	require.NoError(t, k.ready())
	serial := k.session.serial
	w := makeWrapped(t, k, "root")
	initToken(t, c.Token)
	_, err = Open(t.Context(), c)
	require.ErrorIs(t, err, keystore.ErrMismatch)
	require.ErrorContains(t, err, "2 tokens of that label")
	require.ErrorContains(t, err, serial)
	c.Serial = serial
	named, err := Open(t.Context(), c)
	require.NoError(t, err)
	defer named.Close()
	w.requireOpens(t, named)
	c.Serial = "0"
	_, err = Open(t.Context(), c)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
}
