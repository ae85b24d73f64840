package enginetest

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
	"github.com/oubli/oubli/keystore/roottransit"
)

// start starts an engine for a test.
func start(t *testing.T, o *Options) *Engine {
	t.Helper()
	e, err := Start(o)
	require.NoError(t, err)
	t.Cleanup(func() { e.Close() })
	return e
}

// open opens a root store with a token of its policy.
func open(t *testing.T, e *Engine, c *roottransit.Config) *roottransit.Store {
	t.Helper()
	token, err := e.Token(c, time.Hour, 0)
	require.NoError(t, err)
	s, err := e.Open(c, token, "")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// made sets a root store up and opens it.
func made(t *testing.T, e *Engine) (*roottransit.Config, *roottransit.Store) {
	t.Helper()
	c := e.Config()
	_, err := e.Setup(c)
	require.NoError(t, err)
	return c, open(t, e, c)
}

// stores makes root stores in one engine, each with a key and a path of its own.
type stores struct {
	t       *testing.T
	e       *Engine
	n       atomic.Int32
	configs map[any]*roottransit.Config
}

func (w *stores) open() (*roottransit.Store, *roottransit.Config) {
	c := w.e.Config()
	c.Key = fmt.Sprintf("oubli-%d", w.n.Add(1))
	c.Path = c.Key
	_, err := w.e.Setup(c)
	require.NoError(w.t, err)
	return open(w.t, w.e, c), c
}

// away are stores whose server does not answer, is sealed, or does not know the token.
func away(t *testing.T) []*roottransit.Store {
	down, sealed, e := start(t, nil), start(t, nil), start(t, nil)
	_, a := made(t, down)
	down.Down()
	_, b := made(t, sealed)
	require.NoError(t, sealed.Seal())
	c, _ := made(t, e)
	token, err := e.Token(c, time.Hour, 0)
	require.NoError(t, err)
	revoked, err := e.Open(c, token, "")
	require.NoError(t, err)
	t.Cleanup(func() { revoked.Close() })
	require.NoError(t, e.Admin().Auth().Token().RevokeTree(token))
	none, err := e.Open(c, "", "")
	require.NoError(t, err)
	t.Cleanup(func() { none.Close() })
	other, err := e.Admin().Auth().Token().CreateOrphan(&api.TokenCreateRequest{Policies: []string{"default"}})
	require.NoError(t, err)
	poor, err := e.Open(c, other.Auth.ClientToken, "")
	require.NoError(t, err)
	t.Cleanup(func() { poor.Close() })
	return []*roottransit.Store{a, b, revoked, none, poor}
}

func TestKeys(t *testing.T) {
	w := &stores{t: t, e: start(t, nil), configs: map[any]*roottransit.Config{}}
	kmstest.Run(t, &kmstest.Suite{
		New: func() (rootkms.Keys, error) {
			s, c := w.open()
			w.configs[s.Keys()] = c
			return s.Keys(), nil
		},
		Again: func(k rootkms.Keys) (rootkms.Keys, error) { return open(t, w.e, w.configs[k]).Keys(), nil },
		Disable: func(k rootkms.Keys, name string) error { // and all that are older
			var v int
			fmt.Sscanf(strings.Split(name, "-")[0], "%d", &v)
			_, err := w.e.Admin().Logical().Write("transit/keys/"+w.configs[k].Key+"/config", map[string]any{"min_decryption_version": v + 1, "min_encryption_version": v + 1})
			return err
		},
		Unknown: "77-1763800000",
		Miswired: func() ([]rootkms.Keys, error) {
			var list []rootkms.Keys
			for _, setting := range []string{"deletion_allowed", "exportable", "allow_plaintext_backup"} {
				s, c := w.open()
				_, err := w.e.Admin().Logical().Write("transit/keys/"+c.Key+"/config", map[string]any{setting: true})
				require.NoError(t, err)
				list = append(list, s.Keys())
			}
			for i, how := range []map[string]any{{"derived": true}, {"derived": true, "convergent_encryption": true}, {"type": "rsa-2048"}, {"type": "aes128-gcm96"}, {"type": "ed25519"}} {
				c := w.e.Config()
				c.Key = fmt.Sprintf("miswired-%d", i)
				_, err := w.e.Admin().Logical().Write("transit/keys/"+c.Key, how)
				require.NoError(t, err)
				require.NoError(t, w.e.Admin().Sys().PutPolicy(c.PolicyName(), c.Policy()))
				list = append(list, open(t, w.e, c).Keys())
			}
			return list, nil
		},
		Away: func() (list []rootkms.Keys, err error) {
			for _, s := range away(t) {
				list = append(list, s.Keys())
			}
			return list, nil
		},
	})
}

func TestShelf(t *testing.T) {
	w := &stores{t: t, e: start(t, nil), configs: map[any]*roottransit.Config{}}
	kmstest.RunShelf(t, &kmstest.ShelfSuite{
		New: func() (rootkms.Shelf, error) {
			s, c := w.open()
			w.configs[s.Shelf()] = c
			return s.Shelf(), nil
		},
		Again: func(s rootkms.Shelf) (rootkms.Shelf, error) {
			if err := w.e.Restart(); err != nil {
				return nil, err
			}
			return open(t, w.e, w.configs[s]).Shelf(), nil
		},
		Away: func() (list []rootkms.Shelf, err error) {
			for _, s := range away(t) {
				list = append(list, s.Shelf())
			}
			return list, nil
		},
	})
}
