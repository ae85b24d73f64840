package roottransit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// loggingIn opens a root store that logs in at a server which answers a login, and a
// renewal, with a status and a body. It counts the logins.
func loggingIn(t *testing.T, login, renewal string, later ...string) (*Store, *atomic.Int32) {
	logins := new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := `200{"data":{"type":"aes256-gcm96","latest_version":1,"min_decryption_version":1,"keys":{"1":1763800000}}}`
		switch {
		case strings.HasSuffix(r.URL.Path, "/login"):
			if answer = login; logins.Add(1) > 1 && len(later) > 0 {
				answer = later[0]
			}
		case strings.HasSuffix(r.URL.Path, "/renew-self"):
			answer = renewal
		}
		var status int
		fmt.Sscanf(answer, "%3d", &status)
		w.WriteHeader(status)
		w.Write([]byte(answer[3:]))
	}))
	t.Cleanup(server.Close)
	client := clientOf(t, server.URL)
	s, err := Open(client, &Config{Address: server.URL, Mount: "transit", Key: "oubli", KV: "secret", Path: "oubli", Auth: AuthAppRole, Role: "r"}, &Options{SecretID: "hunter2"})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s, logins
}

func clientOf(t *testing.T, address string) *api.Client {
	conf := api.DefaultConfig()
	require.NoError(t, conf.Error)
	conf.Address, conf.MaxRetries, conf.Timeout = address, 0, 5*time.Second
	client, err := api.NewClient(conf)
	require.NoError(t, err)
	return client
}

// Tokens that can't be renewed, that never run out, or whose renewal is refused, are no
// reason to log in again and again.
func TestOneLoginIsEnough(t *testing.T) {
	for _, c := range []struct{ what, auth, renewal string }{
		{"a batch token", `"lease_duration":3600,"renewable":false`, `500{"errors":["never asked"]}`},
		{"one that never runs out", `"lease_duration":0,"renewable":false`, `500{"errors":["never asked"]}`},
		{"one that never runs out and can be renewed", `"lease_duration":0,"renewable":true`, `200{"auth":{"client_token":"t","lease_duration":0,"renewable":true}}`},
		{"a renewal that is refused", `"lease_duration":3600,"renewable":true`, `400{"errors":["lease is not renewable"]}`},
		{"a renewal that something in between refuses", `"lease_duration":3600,"renewable":true`, `403<html>no</html>`},
		{"renewed for the last time", `"lease_duration":3600,"renewable":true`, `200{"auth":{"client_token":"t","lease_duration":3600,"renewable":false}}`},
	} {
		s, logins := loggingIn(t, `200{"auth":{"client_token":"t",`+c.auth+`}}`, c.renewal)
		if strings.Contains(c.auth, "false") { // nothing fails that would have to pause
			s.session.pause = time.Millisecond
		}
		require.NoError(t, s.Keys().Check(t.Context()), c.what)
		time.Sleep(200 * time.Millisecond)
		require.NoError(t, s.Keys().Check(t.Context()), c.what)
		require.EqualValues(t, 1, logins.Load(), c.what)
	}
}

// Vault locks a role after a few logins that it refused, for all who use it: who was refused
// waits long in the background. An outage is none of that.
func TestRefusedLogin(t *testing.T) {
	for status, words := range map[string]string{"400": "refused the login", "403": "refused the login", "502": "answered 502", "429": "answered 429", "503": "answered 503"} {
		s, logins := loggingIn(t, status+`{"errors":["hunter2"]}`, "403")
		err := s.Keys().Check(t.Context())
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorContains(t, err, words)
		require.Equal(t, words == "refused the login", errors.Is(err, errRefused), status)
		require.NotContains(t, err.Error(), "hunter2")
		require.EqualValues(t, 1, logins.Load())
	}
}

// In the background, too: a token runs out, and the login is refused from now on, or the
// server is not well.
func TestRefusedLoginInTheBackground(t *testing.T) {
	for answer, most := range map[string]int32{`400{"errors":["invalid secret id"]}`: 2, `502`: 1000} {
		s, logins := loggingIn(t, `200{"auth":{"client_token":"t","lease_duration":1,"renewable":false}}`, "403", answer)
		s.session.pause = 10 * time.Millisecond
		require.NoError(t, s.Keys().Check(t.Context()))
		require.EqualValues(t, 1, logins.Load(), "it is not renewable, and lives")
		time.Sleep(1200 * time.Millisecond)
		require.LessOrEqual(t, logins.Load(), most)
		require.GreaterOrEqual(t, logins.Load(), min(most, 5))
	}
}

// Who takes connections and answers nothing is away: nothing waits for it for ever.
func TestServerThatNeverAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c := &Config{Address: "http://" + l.Addr().String(), Mount: "transit", Key: "oubli", KV: "secret", Path: "oubli"}
	client := clientOf(t, c.Address)
	client.SetToken(token)
	client.SetClientTimeout(100 * time.Millisecond)
	s, err := Open(client, c, nil)
	require.NoError(t, err)
	defer s.Close()
	for what, err := range map[string]error{
		"read":  s.keys.Check(context.Background()),
		"write": second(s.keys.Make(context.Background(), keystore.StoreID{}, keystore.RootID{})),
		"put":   second(s.shelf.Put(context.Background(), "head", nil, "1")),
	} {
		require.ErrorIs(t, err, keystore.ErrUnavailable, what)
		require.ErrorContains(t, err, "was not reached", what)
	}

	client = clientOf(t, c.Address)
	client.SetClientTimeout(0)
	s, err = Open(client, c, nil)
	require.NoError(t, err)
	require.Equal(t, time.Minute, client.ClientTimeout())
	require.NoError(t, s.Close())
}

func second[T any](_ T, err error) error { return err }
