package awskms_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/awskms"
	"github.com/oubli/oubli/keystore/rootkms/awskms/awskmstest"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
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
	*kmstest.Trial
	t testing.TB
	*awskmstest.Service
	keys  *awskms.Keys
	waits *int
}

func start(t testing.TB, c awskms.Config) *world {
	s := awskmstest.Start(t)
	keys, err := awskms.New(c, s.Config())
	require.NoError(t, err)
	return &world{kmstest.Try(t, keys), t, s, keys, keys.Hurry()}
}

var gone, living = rootkms.KeyState{Fate: rootkms.Gone}, rootkms.KeyState{Fate: rootkms.Living}
