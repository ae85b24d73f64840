package awskms_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/awskms"
	"github.com/oubli/oubli/keystore/rootkms/awskms/awskmstest"
)

// secretless fails if an error repeats what AWS wrote, or a credential.
func secretless(t *testing.T, err error) {
	t.Helper()
	for ; err != nil; err = errors.Unwrap(err) {
		for _, s := range []string{"FAKE", "token:", "the root"} {
			require.NotContains(t, err.Error(), s)
		}
	}
}

func TestFailuresAreToldApart(t *testing.T) {
	for code, words := range map[string]string{
		"AccessDeniedException":       "must allow kms:Decrypt",
		"ThrottlingException":         "throttled",
		"LimitExceededException":      "quota",
		"KMSInternalException":        "outage",
		"DependencyTimeoutException":  "outage",
		"ExpiredTokenException":       "have expired",
		"UnrecognizedClientException": "are wrong",
		"InvalidSignatureException":   "are wrong",
		"RequestExpired":              "clock",
		"SomethingNewException":       "refused (SomethingNewException)",
		"Odd TOKENFAKE":               "refused: ",
	} {
		w := start(t, imported)
		name := w.Made()
		wrapped := w.Wrapped(name)
		w.Fail("Decrypt", code, 3)
		err := w.Unwrap(name, wrapped)
		require.ErrorIs(t, err, keystore.ErrUnavailable, code)
		require.NotErrorIs(t, err, keystore.ErrNotFound, code)
		require.ErrorContains(t, err, words)
		require.ErrorContains(t, err, name)
		secretless(t, err)
		w.Heal()
		require.NoError(t, w.Unwrap(name, wrapped), "it was temporary")
	}
}

func TestAThrottledCallIsTriedAgain(t *testing.T) {
	w := start(t, imported)
	for _, op := range []string{"CreateKey", "GetParametersForImport", "ImportKeyMaterial", "DescribeKey", "Encrypt", "Decrypt",
		"DeleteImportedKeyMaterial", "ListKeyRotations", "ScheduleKeyDeletion"} {
		w.Fail(op, "ThrottlingException", 2)
	}
	w.Fail("GetParametersForImport", "ThrottlingException", 20) // one in four seconds is allowed
	name := w.Made()
	require.NoError(t, w.Unwrap(name, w.Wrapped(name)))
	w.Destroyed(name)
	require.Equal(t, gone, w.Fate(name))
}

func TestAnswersGetLost(t *testing.T) {
	for _, c := range []awskms.Config{imported, made} {
		w := start(t, c)
		for _, op := range []string{"CreateKey", "GetParametersForImport", "ImportKeyMaterial", "DescribeKey", "Encrypt", "Decrypt",
			"DeleteImportedKeyMaterial", "ListKeyRotations", "ScheduleKeyDeletion"} {
			w.Lose(op, 1)
		}
		name := w.Made()
		require.NoError(t, w.Unwrap(name, w.Wrapped(name)))
		w.Destroyed(name)
		require.NotEqual(t, rootkms.Living, w.Fate(name).Fate)
	}
}

func TestAnOutageIsNoEnd(t *testing.T) {
	w := start(t, imported)
	name := w.Made()
	wrapped := w.Wrapped(name)
	w.Down(true)
	_, err := w.keys.Make(t.Context(), keystore.StoreID{}, keystore.RootID{})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorIs(t, w.Unwrap(name, wrapped), keystore.ErrUnavailable)
	_, err = w.keys.State(t.Context(), []string{name})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorIs(t, w.keys.Destroy(t.Context(), []string{name}), keystore.ErrUnavailable)
	require.ErrorIs(t, w.keys.Check(t.Context()), keystore.ErrUnavailable)
	require.ErrorIs(t, w.keys.Undo(t.Context(), []string{name}), keystore.ErrUnavailable)
	w.Down(false)
	require.Equal(t, living, w.Fate(name))
	require.NoError(t, w.Unwrap(name, wrapped))
}

func TestCancelledContexts(t *testing.T) {
	w := start(t, imported)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.keys.Make(ctx, keystore.StoreID{}, keystore.RootID{})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorIs(t, err, context.Canceled)
}

// Who takes connections and answers nothing is away: nothing waits for it for ever.
func TestAServiceThatNeverAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	ac := awskmstest.Start(t).Config()
	ac.BaseEndpoint = aws.String("http://" + l.Addr().String())
	keys, err := awskms.New(imported, ac)
	require.NoError(t, err)
	require.Equal(t, 30*time.Second, keys.Timeout())
	ac.HTTPClient = awshttp.NewBuildableClient().WithTimeout(50 * time.Millisecond)
	keys, err = awskms.New(imported, ac)
	require.NoError(t, err)
	require.Equal(t, 50*time.Millisecond, keys.Timeout())
	require.ErrorIs(t, keys.Check(context.Background()), keystore.ErrUnavailable)
}

func TestCredentialsThatCannotBeRead(t *testing.T) {
	s := awskmstest.Start(t)
	ac := s.Config()
	ac.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("parse failed of process output: SECRETFAKE")
	})
	keys, err := awskms.New(imported, ac)
	require.NoError(t, err)
	_, err = keys.Make(t.Context(), keystore.StoreID{}, keystore.RootID{})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "no usable credentials")
	secretless(t, err)
}

func TestAKeyWhoseMakingFailsIsDeleted(t *testing.T) {
	for _, op := range []string{"GetParametersForImport", "ImportKeyMaterial", "Encrypt"} {
		w := start(t, imported)
		w.Deny(true, op)
		_, err := w.keys.Make(t.Context(), keystore.StoreID{}, keystore.RootID{})
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorContains(t, err, "kms:"+op)
		secretless(t, err)
		require.Len(t, w.Keys(), 1)
		require.Equal(t, "PendingDeletion", w.State(w.Keys()[0]))
	}
}

// The empty key costs a dollar a month; the material is gone all the same.
func TestDestroyNeedsNoPermissionToDeleteTheEmptyKey(t *testing.T) {
	w := start(t, imported)
	name := w.Made()
	w.Deny(true, "ScheduleKeyDeletion")
	w.Destroyed(name)
	require.Equal(t, gone, w.Fate(name))
	w = start(t, made)
	name = w.Made()
	w.Deny(true, "ScheduleKeyDeletion")
	require.ErrorIs(t, w.keys.Destroy(t.Context(), []string{name}), keystore.ErrUnavailable)
	require.Equal(t, living, w.Fate(name))
}

func TestOneThatFailsStopsNoOther(t *testing.T) {
	w := start(t, imported)
	a, b := w.Made(), w.Made()
	w.Fail("DeleteImportedKeyMaterial", "AccessDeniedException", 1)
	err := w.keys.Destroy(t.Context(), []string{a, b})
	require.ErrorContains(t, err, a)
	require.Equal(t, living, w.Fate(a))
	require.Equal(t, gone, w.Fate(b))
}

func TestCheckWantsToBeToldOfDestroyedKeys(t *testing.T) {
	w := start(t, imported)
	require.NoError(t, w.keys.Check(t.Context()))
	w.Deny(true, "DescribeKey")
	err := w.keys.Check(t.Context())
	require.ErrorIs(t, err, keystore.ErrMismatch)
	require.ErrorContains(t, err, "allow kms:DescribeKey without a condition")
	secretless(t, err)
}

func TestWrappedBytesBelongToOneKey(t *testing.T) {
	w := start(t, imported)
	a, b := w.Made(), w.Made()
	wrapped := w.Wrapped(a)
	for name, do := range map[string]func() ([]byte, error){
		"another key": func() ([]byte, error) { return w.keys.Unwrap(t.Context(), b, wrapped, []byte("ad")) },
		"another ad":  func() ([]byte, error) { return w.keys.Unwrap(t.Context(), a, wrapped, []byte("da")) },
		"other bytes": func() ([]byte, error) { return w.keys.Unwrap(t.Context(), a, []byte("junk"), []byte("ad")) },
		"changed byte": func() ([]byte, error) {
			return w.keys.Unwrap(t.Context(), a, append(wrapped[:len(wrapped)-1:len(wrapped)-1], 0), []byte("ad"))
		},
	} {
		_, err := do()
		require.ErrorIs(t, err, keystore.ErrTampered, name)
		secretless(t, err)
	}
}

// AWS answers "not found" for a key of another region; that must not read as destroyed.
func TestKeysOfOtherPlacesAreRefused(t *testing.T) {
	w := start(t, imported)
	for _, name := range []string{
		"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
		"arn:aws:kms:eu-central-1:111122223333:alias/mine",
		"1234abcd-12ab-34cd-56ef-1234567890ab",
		"",
	} {
		_, err := w.keys.State(t.Context(), []string{name})
		require.ErrorIs(t, err, keystore.ErrMismatch, name)
		require.ErrorIs(t, w.keys.Destroy(t.Context(), []string{name}), keystore.ErrMismatch, name)
		_, err = w.keys.Unwrap(t.Context(), name, []byte("x"), nil)
		require.ErrorIs(t, err, keystore.ErrMismatch, name)
		_, err = w.keys.Wrap(t.Context(), name, []byte("x"), nil)
		require.ErrorIs(t, err, keystore.ErrMismatch, name)
	}
	require.Zero(t, w.Calls("DescribeKey"))
}

func TestAKeyWithReplicasIsNotTakenForOne(t *testing.T) {
	w := start(t, made)
	name := w.Made()
	w.Replicate(name)
	_, err := w.keys.State(t.Context(), []string{name})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "replicas")
}
