package awskms_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/awskms"
	"github.com/oubli/oubli/keystore/rootkms/awskms/awskmstest"
)

// liveRegions names the variable with the regions of AWS to test against, by commas. A run
// makes some hundred keys in each, and schedules their deletion; AWS charges none for that,
// but its quota of requests is shared.
const liveRegions = "OUBLI_TEST_AWSKMS"

func TestMain(m *testing.M) {
	if os.Getenv(liveRegions) == "" {
		fmt.Fprintln(os.Stderr, "NOT TESTED: AWS itself. "+liveRegions+" is not set to regions such as eu-central-1; only our fake of AWS KMS was tested.")
	}
	os.Exit(m.Run())
}

var (
	imported = awskms.Config{Region: awskmstest.Region}
	made     = awskms.Config{Region: awskmstest.Region, Made: true}
)

type world struct {
	t testing.TB
	*awskmstest.Service
	keys  *awskms.Keys
	waits *int
}

func start(t testing.TB, c awskms.Config) *world {
	s := awskmstest.Start(t)
	keys, err := awskms.New(c, s.Config())
	require.NoError(t, err)
	return &world{t, s, keys, keys.Hurry()}
}

func (w *world) make() string {
	name, err := w.keys.Make(w.t.Context(), keystore.StoreID{1}, keystore.RootID{2})
	require.NoError(w.t, err)
	return name
}

func (w *world) wrap(name string) []byte {
	wrapped, err := w.keys.Wrap(w.t.Context(), name, []byte("the root"), []byte("ad"))
	require.NoError(w.t, err)
	return wrapped
}

func (w *world) unwrap(name string, wrapped []byte) error {
	secret, err := w.keys.Unwrap(w.t.Context(), name, wrapped, []byte("ad"))
	if err == nil {
		require.Equal(w.t, "the root", string(secret))
	}
	return err
}

func (w *world) destroy(names ...string) {
	require.NoError(w.t, w.keys.Destroy(w.t.Context(), names))
}

func (w *world) fate(name string) rootkms.KeyState {
	states, err := w.keys.State(w.t.Context(), []string{name})
	require.NoError(w.t, err)
	require.Len(w.t, states, 1)
	return states[0]
}

var gone, living = rootkms.KeyState{Fate: rootkms.Gone}, rootkms.KeyState{Fate: rootkms.Living}
