package gcpkms_test

import (
	"context"
	"os"
	"sync"
	"testing"

	kms "cloud.google.com/go/kms/apiv1"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/gcpkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// TestGoogle runs against Google Cloud itself, on the CryptoKey that the environment names,
// with the credentials that Google's client finds; without one it has nothing to run, and
// TestMain has said so.
func TestGoogle(t *testing.T) {
	key := os.Getenv(liveKey)
	if key == "" {
		return
	}
	client, err := kms.NewKeyManagementClient(context.Background())
	require.NoError(t, err)
	defer client.Close()
	keys, err := gcpkms.New(t.Context(), gcpkms.Config{Key: key}, client)
	require.NoError(t, err)
	require.NoError(t, keys.Check(t.Context()))
	n := &noting{Keys: keys}
	defer func() { // versions cost until they are destroyed
		require.NoError(t, keys.Destroy(context.Background(), n.made))
	}()
	kmstest.Run(t, &kmstest.Suite{New: func() (rootkms.Keys, error) { return n, nil }})
}

// noting notes the versions that are made.
type noting struct {
	*gcpkms.Keys
	mu   sync.Mutex
	made []string
}

func (n *noting) Make(ctx context.Context, store keystore.StoreID, root keystore.RootID) (string, error) {
	name, err := n.Keys.Make(ctx, store, root)
	if err == nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.made = append(n.made, name)
	}
	return name, err
}
