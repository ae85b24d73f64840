package gcpkms_test

import (
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/gcpkms"
	"github.com/oubli/oubli/keystore/rootkms/gcpkms/gcpkmstest"
)

func TestAVersionIsGoneLaterAndCanBeRestored(t *testing.T) {
	w := start(t)
	require.Equal(t, keystore.Place{URL: "gcpkms:" + gcpkmstest.Key, Class: keystore.ClassScheduled, Delay: gcpkmstest.Delay}, w.keys.Place())
	name := w.Made()
	require.Equal(t, living, w.Fate(name))
	wrapped := w.Wrapped(name)
	require.NoError(t, w.Unwrap(name, wrapped))

	w.Destroyed(name)
	require.Equal(t, w.dying(), w.Fate(name))
	err := w.Unwrap(name, wrapped)
	require.ErrorIs(t, err, keystore.ErrNotFound)
	require.ErrorContains(t, err, "waits for its destruction")

	w.Advance(gcpkmstest.Delay / 2)
	require.NoError(t, w.keys.Undo(t.Context(), []string{name}))
	require.Equal(t, living, w.Fate(name))
	require.NoError(t, w.Unwrap(name, wrapped), "an administrator can take it back")

	w.Destroyed(name)
	require.Equal(t, w.dying(), w.Fate(name), "it began anew")
	w.Advance(gcpkmstest.Delay)
	require.False(t, w.Holds(name))
	require.Equal(t, gone, w.Fate(name))
	w.Destroyed(name)
	err = w.Unwrap(name, wrapped)
	require.ErrorIs(t, err, keystore.ErrNotFound)
	require.ErrorContains(t, err, "destroyed")
	require.ErrorIs(t, w.keys.Undo(t.Context(), []string{name}), keystore.ErrUnavailable)

	w.Delete(name)
	require.Equal(t, gone, w.Fate(name))
	require.ErrorIs(t, w.Unwrap(name, wrapped), keystore.ErrNotFound)
}

func TestADisabledVersionIsBarredAndCanBeDestroyed(t *testing.T) {
	w := start(t)
	name := w.Made()
	wrapped := w.Wrapped(name)
	w.Change(name, func(v *kmspb.CryptoKeyVersion) { v.State = kmspb.CryptoKeyVersion_DISABLED })
	require.Equal(t, barred, w.Fate(name))
	require.ErrorContains(t, w.Unwrap(name, wrapped), "enable it again")
	w.Destroyed(name)
	require.Equal(t, w.dying(), w.Fate(name))
}

func TestStatesOfTheService(t *testing.T) {
	w := start(t)
	for state, want := range map[kmspb.CryptoKeyVersion_CryptoKeyVersionState]rootkms.KeyState{
		kmspb.CryptoKeyVersion_ENABLED:                      living,
		kmspb.CryptoKeyVersion_DISABLED:                     barred,
		kmspb.CryptoKeyVersion_DESTROYED:                    gone,
		kmspb.CryptoKeyVersion_GENERATION_FAILED:            gone,
		kmspb.CryptoKeyVersion_IMPORT_FAILED:                gone,
		kmspb.CryptoKeyVersion_PENDING_IMPORT:               barred,
		kmspb.CryptoKeyVersion_PENDING_EXTERNAL_DESTRUCTION: barred,
		kmspb.CryptoKeyVersion_EXTERNAL_DESTRUCTION_FAILED:  barred,
		77: barred,
	} {
		name := w.Made()
		w.Change(name, func(v *kmspb.CryptoKeyVersion) { v.State = state })
		require.Equal(t, want, w.Fate(name), state)
	}
	name := w.Made()
	w.Change(name, func(v *kmspb.CryptoKeyVersion) {
		v.State, v.ReimportEligible = kmspb.CryptoKeyVersion_DESTROYED, true
	})
	require.Equal(t, barred, w.Fate(name), "who imported it can import it again")
}

func TestAnHSMTakesItsTime(t *testing.T) {
	w := start(t)
	w.Setup(func(k *kmspb.CryptoKey) { k.VersionTemplate.ProtectionLevel = kmspb.ProtectionLevel_HSM })
	require.NoError(t, w.keys.Check(t.Context()))
	w.Slow(3)
	name := w.Made()
	require.Equal(t, 4, *w.waits)
	require.NoError(t, w.Unwrap(name, w.Wrapped(name)))
	w.Slow(100)
	_, err := w.keys.Make(t.Context(), keystore.StoreID{}, keystore.RootID{})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "PENDING_GENERATION")
}

func TestTheDelayIsTheKeys(t *testing.T) {
	s := gcpkmstest.Start(t)
	s.Setup(func(k *kmspb.CryptoKey) { k.DestroyScheduledDuration = nil })
	keys, err := gcpkms.New(t.Context(), config, s.Client(t))
	require.NoError(t, err)
	require.Equal(t, 30*day, keys.Place().Delay, "Google's default")
	require.NoError(t, keys.Check(t.Context()))
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	w := start(t)
	w.Setup(func(k *kmspb.CryptoKey) {
		k.Purpose = kmspb.CryptoKey_MAC
		k.ImportOnly = true
		k.VersionTemplate.ProtectionLevel = kmspb.ProtectionLevel_EXTERNAL
	})
	err := w.keys.Check(t.Context())
	require.ErrorIs(t, err, keystore.ErrMismatch)
	for _, words := range []string{"purpose is MAC", "imported material only", "protection level is EXTERNAL", "oubli root policy"} {
		require.ErrorContains(t, err, words)
	}
}

func TestMaterialFromElsewhereIsRefused(t *testing.T) {
	w := start(t)
	w.Setup(func(k *kmspb.CryptoKey) { k.VersionTemplate.ProtectionLevel = kmspb.ProtectionLevel_EXTERNAL })
	_, err := w.keys.Make(t.Context(), keystore.StoreID{}, keystore.RootID{})
	require.ErrorIs(t, err, keystore.ErrMismatch)
}

func TestParse(t *testing.T) {
	c, err := gcpkms.Parse("gcpkms:" + gcpkmstest.Key)
	require.NoError(t, err)
	require.Equal(t, config, c)
	again, err := gcpkms.Parse(start(t).keys.Place().URL)
	require.NoError(t, err)
	require.Equal(t, config, again)
	for url, words := range map[string]string{
		"awskms:eu-central-1": "is named gcpkms:",
		"gcpkms:":             "name of a CryptoKey",
		"gcpkms:" + gcpkmstest.Key + "/cryptoKeyVersions/1":        "name of a CryptoKey",
		"gcpkms:projects/p/locations/l/keyRings/r":                 "name of a CryptoKey",
		"gcpkms:projects/P/locations/l/keyRings/r/cryptoKeys/../k": "name of a CryptoKey",
		"gcpkms:" + gcpkmstest.Key + "?secret=TOKENFAKE":           `no parameter "secret"`,
	} {
		_, err := gcpkms.Parse(url)
		require.ErrorIs(t, err, keystore.ErrInvalid, url)
		require.ErrorContains(t, err, words)
		secretless(t, err)
	}
	_, err = gcpkms.New(t.Context(), gcpkms.Config{}, nil)
	require.ErrorIs(t, err, keystore.ErrInvalid)
}

func FuzzParse(f *testing.F) {
	f.Add("gcpkms:" + gcpkmstest.Key)
	f.Fuzz(func(t *testing.T, url string) {
		c, err := gcpkms.Parse(url)
		if err != nil {
			require.ErrorIs(t, err, keystore.ErrInvalid)
			return
		}
		require.Equal(t, "gcpkms:"+c.Key, url)
		require.Contains(t, c.Policy(), "gcloud")
	})
}

func TestPolicy(t *testing.T) {
	p := config.Policy()
	for _, words := range []string{
		"gcloud kms keys create roots --project=oubli-test --location=europe-west3 --keyring=oubli",
		"--destroy-scheduled-duration=1d", "--skip-initial-version-creation",
		"cloudkms.cryptoKeys.get,", "cloudkms.cryptoKeyVersions.create,", "cloudkms.cryptoKeyVersions.get,",
		"cloudkms.cryptoKeyVersions.useToEncrypt,", "cloudkms.cryptoKeyVersions.useToDecrypt,", "cloudkms.cryptoKeyVersions.destroy\n",
	} {
		require.Contains(t, p, words)
	}
	require.NotContains(t, p, "PROJECT ")
	require.NotContains(t, p, "cryptoKeyVersions.update")

	// These permissions are what a life needs: each call of it needs one of them.
	w := start(t)
	require.NoError(t, w.keys.Check(t.Context()))
	name := w.Made()
	require.NoError(t, w.Unwrap(name, w.Wrapped(name)))
	w.Destroyed(name)
	needs := map[string]string{
		"GetCryptoKey": "cryptoKeys.get", "CreateCryptoKeyVersion": "cryptoKeyVersions.create", "GetCryptoKeyVersion": "cryptoKeyVersions.get",
		"Encrypt": "cryptoKeyVersions.useToEncrypt", "Decrypt": "cryptoKeyVersions.useToDecrypt", "DestroyCryptoKeyVersion": "cryptoKeyVersions.destroy",
	}
	for op := range w.Calls() {
		require.Contains(t, needs, op)
		delete(needs, op)
	}
	require.Empty(t, needs)
}

func TestTimeIsNotLost(t *testing.T) {
	w := start(t)
	name := w.Made()
	w.Destroyed(name)
	until := w.Fate(name).Until
	w.Advance(time.Hour)
	w.Destroyed(name)
	require.Equal(t, until, w.Fate(name).Until, "destroying again does not begin anew")
}
