package gcpkms_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	tinkgcp "github.com/tink-crypto/tink-go-gcpkms/v2/integration/gcpkms"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/oubli/oubli/keystore/rootkms/gcpkms"
	"github.com/oubli/oubli/keystore/rootkms/gcpkms/gcpkmstest"
)

// What is wrapped here opens with Tink, and the other way round: a root that Tink wraps or
// unwraps needs nothing of this package but the associated data.
func TestTinkAgrees(t *testing.T) {
	w := start(t)
	w.Made()
	name := w.Made()
	dial := func(name string) tink.AEADWithContext {
		a, err := tinkgcp.GetAEADWithContext(t.Context(), "gcp-kms://"+name, tinkgcp.WithGoogleAPIClientOptions(w.Options()...))
		require.NoError(t, err)
		return a
	}
	plain, err := dial(gcpkmstest.Key).DecryptWithContext(t.Context(), w.Wrapped(name), gcpkms.Bound(name, []byte("ad")))
	require.NoError(t, err)
	require.Equal(t, "the root", string(plain))
	wrapped, err := dial(name).EncryptWithContext(t.Context(), []byte("the root"), gcpkms.Bound(name, []byte("ad")))
	require.NoError(t, err)
	require.NoError(t, w.Unwrap(name, wrapped))
}
