package awskms_test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/awskms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// TestAWS runs against AWS itself, in the regions that the environment names, with the
// credentials that the AWS command line would use; without any it has nothing to run, and
// TestMain has said so.
func TestAWS(t *testing.T) {
	for region := range strings.SplitSeq(os.Getenv(liveRegions), ",") {
		if region == "" {
			continue
		}
		for _, c := range []awskms.Config{{Region: region}, {Region: region, Made: true}} {
			t.Run(dial(t, c).Place().URL, func(t *testing.T) { live(t, c) })
		}
	}
}

func dial(t *testing.T, c awskms.Config) *awskms.Keys {
	ac, err := config.LoadDefaultConfig(t.Context(), config.WithRegion(c.Region))
	require.NoError(t, err)
	keys, err := awskms.New(c, ac)
	require.NoError(t, err)
	return keys
}

func live(t *testing.T, c awskms.Config) {
	keys := dial(t, c)
	require.NoError(t, keys.Check(t.Context()))
	var mu sync.Mutex
	var made []string
	t.Cleanup(func() { // keys cost until they are deleted
		require.NoError(t, keys.Destroy(context.WithoutCancel(t.Context()), made))
	})
	kmstest.Run(t, &kmstest.Suite{New: func() (rootkms.Keys, error) { return &noting{keys, &mu, &made}, nil }})
}

// noting notes the keys that are made.
type noting struct {
	*awskms.Keys
	mu   *sync.Mutex
	made *[]string
}

func (n *noting) Make(ctx context.Context, store keystore.StoreID, root keystore.RootID) (string, error) {
	name, err := n.Keys.Make(ctx, store, root)
	if err == nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		*n.made = append(*n.made, name)
	}
	return name, err
}
