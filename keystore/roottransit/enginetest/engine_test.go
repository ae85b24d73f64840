package enginetest

import (
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

func TestEngineProbe(t *testing.T) {
	at := time.Now()
	e, err := Start(nil)
	require.NoError(t, err)
	t.Log(time.Since(at))
	require.NoError(t, e.Admin().Sys().Mount("transit", mountInput("transit", "")))
	require.NoError(t, e.Admin().Sys().Mount("secret", mountInput("kv", "2")))
	_, err = e.Admin().Logical().Write("transit/keys/oubli", nil)
	require.NoError(t, err)
	require.NoError(t, e.Restart())
	s, err := e.Admin().Logical().Write("transit/keys/oubli/rotate", nil)
	require.NoError(t, err)
	t.Log(s.Data)
	t.Log(time.Since(at), e.Calls())
	for _, d := range e.Record().Every() {
		t.Log(d.Mount, d.Key, len(d.Value))
	}
	require.NoError(t, e.Close())
	t.Log(time.Since(at))
}

func mountInput(kind, version string) *api.MountInput {
	in := &api.MountInput{Type: kind}
	if version != "" {
		in.Options = map[string]string{"version": version}
	}
	return in
}
