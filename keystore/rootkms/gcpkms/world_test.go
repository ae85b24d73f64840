package gcpkms_test

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/gcpkms"
	"github.com/oubli/oubli/keystore/rootkms/gcpkms/gcpkmstest"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// liveKey names the variable with a CryptoKey of Cloud KMS to test against. A run makes some
// hundred versions of it, and schedules their destruction.
const liveKey = "OUBLI_TEST_GCPKMS"

func TestMain(m *testing.M) {
	if os.Getenv(liveKey) == "" {
		fmt.Fprintln(os.Stderr, "NOT TESTED: Google Cloud itself. "+liveKey+" is not set to a CryptoKey such as projects/P/locations/L/keyRings/R/cryptoKeys/K; only our fake of Cloud KMS was tested.")
	}
	os.Exit(m.Run())
}

const day = 24 * time.Hour

var config = gcpkms.Config{Key: gcpkmstest.Key}

type world struct {
	*kmstest.Trial
	t testing.TB
	*gcpkmstest.Service
	keys  *gcpkms.Keys
	waits *int
}

func start(t testing.TB) *world {
	s := gcpkmstest.Start(t)
	keys, err := gcpkms.New(t.Context(), config, s.Client(t))
	require.NoError(t, err)
	return &world{kmstest.Try(t, keys), t, s, keys, keys.Hurry()}
}

func (w *world) dying() rootkms.KeyState {
	return rootkms.KeyState{Fate: rootkms.Dying, Until: w.Now().Add(gcpkmstest.Delay)}
}

var gone, living, barred = rootkms.KeyState{Fate: rootkms.Gone}, rootkms.KeyState{Fate: rootkms.Living}, rootkms.KeyState{Fate: rootkms.Barred}

// secretless fails if an error repeats what Google wrote.
func secretless(t *testing.T, err error) {
	t.Helper()
	for ; err != nil; err = errors.Unwrap(err) {
		for _, s := range []string{"FAKE", "@", "the root"} {
			require.NotContains(t, err.Error(), s)
		}
	}
}
