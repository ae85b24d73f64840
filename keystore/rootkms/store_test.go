package rootkms_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

func TestKeystoreSmoke(t *testing.T) {
	for _, kind := range []kmstest.Kind{kmstest.Trimmed, kmstest.Single, kmstest.Scheduled} {
		svc := kmstest.NewService(kind, time.Hour, nil)
		roots := rootkms.New(svc.Keys(), rootkms.BackendShelf(memstore.New()), nil)
		b := memstore.New()
		require.NoError(t, keystore.Create(t.Context(), b, roots, nil))
		s, err := keystore.Open(t.Context(), b, roots, nil)
		require.NoError(t, err)
		sub, err := keystore.NewSubject("customer", "42")
		require.NoError(t, err)
		_, err = s.Ensure(t.Context(), nil, []string{""}, sub)
		require.NoError(t, err)
		es, err := s.Erase(t.Context(), keystore.Request{Subject: sub})
		require.NoError(t, err)
		t.Log(es[0], svc.Names(), svc.Calls())
		r, err := roots.Rehearse(t.Context())
		require.NoError(t, err)
		for _, st := range r.Steps {
			t.Log(st)
		}
		t.Log(r.Until, r.Proven())
	}
}
