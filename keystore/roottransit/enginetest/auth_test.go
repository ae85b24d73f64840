package enginetest

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/roottransit"
)

// count tells how many of some requests were for a path.
func count(calls map[string]int, path string) (n int) {
	for call, c := range calls {
		if strings.HasSuffix(call, " "+path) {
			n += c
		}
	}
	return n
}

// A token that has to be renewed is, until Close.
func TestTokenIsRenewed(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	c := e.Config()
	_, err := e.Setup(c)
	require.NoError(t, err)
	token, err := e.Token(c, 2*time.Second, 0)
	require.NoError(t, err)
	s, err := e.Open(c, token, "")
	require.NoError(t, err)
	require.NoError(t, s.Keys().Check(t.Context()))
	e.Calls()
	time.Sleep(4 * time.Second) // nobody calls; it must live all the same
	require.NoError(t, s.Keys().Check(t.Context()))
	require.NoError(t, s.Close())
	require.Positive(t, count(e.Calls(), "auth/token/renew-self"))
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Keys().Check(t.Context()), keystore.ErrClosed)
	time.Sleep(3 * time.Second)
	require.Zero(t, count(e.Calls(), "auth/token/renew-self"))
	_, err = e.Client(token).Auth().Token().LookupSelf()
	require.Error(t, err, "nobody renews it any more")
}

// A login is made anew when its token can't be renewed further, without a call that fails.
func TestAppRole(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	c := e.Config()
	_, err := e.Setup(c)
	require.NoError(t, err)
	with, secret, err := e.AppRole(c, time.Second, 2*time.Second)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "secret-id")
	require.NoError(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
	fromFile := *with
	fromFile.SecretIDFile = file
	for _, how := range []struct {
		c      *roottransit.Config
		secret string
	}{{with, secret}, {&fromFile, ""}} {
		e.Calls()
		s, err := e.Open(how.c, "", how.secret)
		require.NoError(t, err)
		require.NoError(t, s.Keys().Check(t.Context()))
		require.Equal(t, 1, count(e.Calls(), "auth/approle/login"))
		// Nobody calls, and there is a new token.
		logins := 0
		require.Eventually(t, func() bool {
			logins += count(e.Calls(), "auth/approle/login")
			return logins >= 2
		}, 30*time.Second, 100*time.Millisecond)
		require.NoError(t, s.Keys().Check(t.Context()))
		require.NoError(t, s.Close())
	}

	// The token is revoked: the next call logs in anew. Then the login is, and it is said.
	s, err := e.Open(with, "", secret)
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Keys().Check(t.Context()))
	require.NoError(t, e.RevokeLogins(with))
	require.NoError(t, s.Keys().Check(t.Context()))
	_, err = e.Admin().Logical().Write("auth/approle/role/"+c.PolicyName()+"/secret-id/destroy", map[string]any{"secret_id": secret})
	require.NoError(t, err)
	require.NoError(t, e.RevokeLogins(with))
	fails(t, s.Keys().Check(t.Context()), secret, "refused the login at auth/approle")
	wrong, err := e.Open(with, "", "hunter2")
	require.NoError(t, err)
	defer wrong.Close()
	fails(t, wrong.Keys().Check(t.Context()), "hunter2", "refused the login")
	none, err := e.Open(with, "", "")
	require.NoError(t, err)
	defer none.Close()
	fails(t, none.Keys().Check(t.Context()), "", "secret ID for AppRole must be provided")

	// The server goes away and comes back: so does the login.
	e.Down()
	away, err := e.Open(with, "", secret)
	require.NoError(t, err)
	defer away.Close()
	fails(t, away.Keys().Check(t.Context()), secret, "was not reached")
}

// The file with the service account's token is read anew at each login: Kubernetes
// replaces it.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	c := e.Config()
	_, err := e.Setup(c)
	require.NoError(t, err)
	admin := e.Admin()
	require.NoError(t, admin.Sys().EnableAuthWithOptions("k8s", &api.EnableAuthOptions{Type: "kubernetes"}))
	file := filepath.Join(t.TempDir(), "token")
	accept := func(jwt string) {
		_, err := admin.Logical().Write("auth/k8s/role/oubli", map[string]any{"jwt": jwt, "policies": c.PolicyName(), "ttl": 3600})
		require.NoError(t, err)
	}
	accept("first")
	require.NoError(t, os.WriteFile(file, []byte("first"), 0o600))
	with := *c
	with.Auth, with.AuthMount, with.Role, with.JWTFile = roottransit.AuthKubernetes, "k8s", "oubli", file
	s, err := e.Open(&with, "", "")
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Keys().Check(t.Context()))

	accept("second")
	require.NoError(t, admin.Sys().RevokePrefix("auth/k8s/login"))
	fails(t, s.Keys().Check(t.Context()), "first", "refused the login at auth/k8s")
	require.NoError(t, os.WriteFile(file, []byte("second"), 0o600))
	require.NoError(t, s.Keys().Check(t.Context()))
	require.NoError(t, os.Remove(file))
	require.NoError(t, admin.Sys().RevokePrefix("auth/k8s/login"))
	fails(t, s.Keys().Check(t.Context()), "second", file)
}

// Close leaves nothing running.
func TestCloseEndsAll(t *testing.T) {
	e := start(t, nil)
	c, s := made(t, e)
	require.NoError(t, s.Keys().Check(t.Context()))
	for range 5 {
		s := open(t, e, c)
		require.NoError(t, s.Keys().Check(t.Context()))
		require.NoError(t, s.Close())
	}
	running := func() int {
		stacks := make([]byte, 1<<20)
		text := string(stacks[:runtime.Stack(stacks, true)])
		return strings.Count(text, "LifetimeWatcher).Start(") + strings.Count(text, "roottransit.(*session).keep(")
	}
	require.Eventually(t, func() bool { return running() == 2 }, 5*time.Second, 50*time.Millisecond) // of the one that is not closed
	require.NoError(t, s.Close())
	require.Eventually(t, func() bool { return running() == 0 }, 5*time.Second, 50*time.Millisecond)
}
