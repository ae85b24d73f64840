package gcpkms_test

import (
	"context"
	"net"
	"testing"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/gcpkms"
	"github.com/oubli/oubli/keystore/rootkms/gcpkms/gcpkmstest"
)

func TestFailuresAreToldApart(t *testing.T) {
	for c, words := range map[codes.Code]string{
		codes.PermissionDenied:   "needs cloudkms.cryptoKeyVersions.useToDecrypt",
		codes.Unauthenticated:    "no valid credentials",
		codes.ResourceExhausted:  "throttled",
		codes.Unavailable:        "outage",
		codes.Internal:           "outage",
		codes.DeadlineExceeded:   "in time",
		codes.FailedPrecondition: "not possible",
		codes.NotFound:           "no such key",
		codes.OutOfRange:         "refused (OutOfRange)",
		codes.Unknown:            "refused: ",
	} {
		w := start(t)
		name := w.Made()
		wrapped := w.Wrapped(name)
		w.Fail("Decrypt", c, 3)
		err := w.Unwrap(name, wrapped)
		require.ErrorIs(t, err, keystore.ErrUnavailable, c)
		require.NotErrorIs(t, err, keystore.ErrNotFound, c)
		require.ErrorContains(t, err, words)
		require.ErrorContains(t, err, name)
		secretless(t, err)
		w.Heal()
		require.NoError(t, w.Unwrap(name, wrapped), "it was temporary")
	}
}

func TestAnswersGetLost(t *testing.T) {
	w := start(t)
	w.Lose("CreateCryptoKeyVersion", 1)
	_, err := w.keys.Make(t.Context(), keystore.StoreID{}, keystore.RootID{})
	require.ErrorIs(t, err, keystore.ErrUnavailable, "a version that wraps nothing stays behind")
	for _, op := range []string{"GetCryptoKeyVersion", "Encrypt", "Decrypt", "DestroyCryptoKeyVersion"} {
		w.Lose(op, 1)
	}
	name := w.Made()
	require.Len(t, w.Versions(), 2)
	require.NoError(t, w.Unwrap(name, w.Wrapped(name)))
	w.Destroyed(name)
	require.Equal(t, w.dying(), w.Fate(name))
}

func TestAnOutageIsNoEnd(t *testing.T) {
	w := start(t)
	name := w.Made()
	wrapped := w.Wrapped(name)
	w.Down(true)
	_, err := w.keys.State(t.Context(), []string{name})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorIs(t, w.Unwrap(name, wrapped), keystore.ErrUnavailable)
	require.ErrorIs(t, w.keys.Destroy(t.Context(), []string{name}), keystore.ErrUnavailable)
	_, err = gcpkms.New(t.Context(), config, w.Client(t))
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	w.Down(false)
	require.Equal(t, living, w.Fate(name))
	require.NoError(t, w.Unwrap(name, wrapped))
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := gcpkmstest.Start(t)
	s.Addr = l.Addr().String()
	require.NoError(t, l.Close())
	client, err := kms.NewKeyManagementClient(t.Context(), s.Options()...)
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = gcpkms.New(ctx, config, client)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
}

func TestBytesThatArriveChanged(t *testing.T) {
	w := start(t)
	name := w.Made()
	w.Corrupt("Encrypt")
	_, err := w.keys.Wrap(t.Context(), name, []byte("the root"), []byte("ad"))
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "arrived changed")
	secretless(t, err)
	wrapped := w.Wrapped(name)
	w.Corrupt("Decrypt")
	err = w.Unwrap(name, wrapped)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "arrived changed")
	require.NoError(t, w.Unwrap(name, wrapped))
}

// A wrong project must not read as versions that are gone.
func TestTheKeyIsNotThere(t *testing.T) {
	w := start(t)
	name := w.Made()
	wrapped := w.Wrapped(name)
	w.Setup(func(k *kmspb.CryptoKey) { k.Name += "2" })
	w.Delete(name)
	_, err := w.keys.State(t.Context(), []string{name})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorIs(t, w.Unwrap(name, wrapped), keystore.ErrUnavailable)
	require.ErrorIs(t, w.keys.Destroy(t.Context(), []string{name}), keystore.ErrUnavailable)
	_, err = gcpkms.New(t.Context(), config, w.Client(t))
	require.ErrorIs(t, err, keystore.ErrNotFound)
}

func TestVersionsOfOtherKeysAreRefused(t *testing.T) {
	w := start(t)
	calls := w.Calls()
	for _, name := range []string{gcpkmstest.Key + "2/cryptoKeyVersions/1", gcpkmstest.Key, gcpkmstest.Key + "/cryptoKeyVersions/01", "7-1763800000", ""} {
		_, err := w.keys.State(t.Context(), []string{name})
		require.ErrorIs(t, err, keystore.ErrMismatch, name)
		require.ErrorIs(t, w.keys.Destroy(t.Context(), []string{name}), keystore.ErrMismatch, name)
		_, err = w.keys.Unwrap(t.Context(), name, []byte("x"), nil)
		require.ErrorIs(t, err, keystore.ErrMismatch, name)
		_, err = w.keys.Wrap(t.Context(), name, []byte("x"), nil)
		require.ErrorIs(t, err, keystore.ErrMismatch, name)
	}
	require.Equal(t, calls, w.Calls())
}

func TestSomebodyElseDestroyedItMeanwhile(t *testing.T) {
	w := start(t)
	name := w.Made()
	w.Lose("DestroyCryptoKeyVersion", 3)
	w.Destroyed(name)
	require.Equal(t, rootkms.Dying, w.Fate(name).Fate)
	other := w.Made()
	w.Deny(true, "DestroyCryptoKeyVersion")
	err := w.keys.Destroy(t.Context(), []string{name, other})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, other)
	require.ErrorContains(t, err, "cloudkms.cryptoKeyVersions.destroy")
	secretless(t, err)
}
