package roottransit

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// The answers that the real engine does not give: of older ones, of others, and of what
// stands between.

const token = "hvs.not-a-word-of-this"

// answering opens a root store whose server answers each request, a method and a path,
// with a status and a body; what it has no answer for with 404.
func answering(t *testing.T, answers map[string]string) *Store {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v1/")]
		status := http.StatusOK
		switch {
		case !ok:
			status, answer = http.StatusNotFound, `{"errors":[]}`
		case answer == "":
			status = http.StatusNoContent
		case answer[0] == '5' || answer[0] == '4':
			status = map[string]int{"400": 400, "403": 403, "404": 404, "502": 502, "503": 503}[answer[:3]]
			answer = answer[3:]
		}
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	conf := api.DefaultConfig()
	require.NoError(t, conf.Error)
	conf.Address, conf.MaxRetries, conf.Timeout = server.URL, 0, 5*time.Second
	client, err := api.NewClient(conf)
	require.NoError(t, err)
	client.SetToken(token)
	s, err := Open(client, &Config{Address: server.URL, Mount: "transit", Key: "oubli", KV: "secret", Path: "oubli"}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// The client sends reads again by itself, and writes that do the same twice. A
// compare-and-swap it does not: the second would lose against the first.
func TestWhatIsSentAgain(t *testing.T) {
	s := answering(t, map[string]string{"PUT secret/data/oubli/head": "502", "GET secret/data/oubli/head": "502", "PUT transit/decrypt/oubli": "502"})
	s.session.client.SetMaxRetries(2)
	s.session.client.SetMinRetryWait(time.Millisecond)
	s.session.client.SetMaxRetryWait(time.Millisecond)
	var mu sync.Mutex
	sent := map[string]int{}
	inner := s.session.client.CheckRetry()
	s.session.client.SetCheckRetry(func(ctx context.Context, resp *http.Response, err error) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		if resp != nil { // nil: a renewal when the server has gone
			sent[resp.Request.Method+" "+resp.Request.URL.Path]++
		}
		return inner(ctx, resp, err)
	})
	_, err := s.shelf.Put(t.Context(), "head", nil, "7")
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	_, _, err = s.shelf.Get(t.Context(), "head")
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	_, err = s.keys.Unwrap(t.Context(), "3-1763800000", []byte("vault:v3:AAAA"), nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	mu.Lock()
	defer mu.Unlock()
	delete(sent, "PUT /v1/auth/token/renew-self")
	require.Equal(t, map[string]int{"PUT /v1/secret/data/oubli/head": 1, "GET /v1/secret/data/oubli/head": 3, "PUT /v1/transit/decrypt/oubli": 3}, sent)
}

func TestOldEngine(t *testing.T) {
	s := answering(t, map[string]string{"PUT transit/keys/oubli/rotate": ""})
	_, err := s.keys.Make(t.Context(), keystore.StoreID{}, keystore.RootID{})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "is no transit engine, or an old one")
}

// An engine that wraps under another version than it was told, as if it did not know the
// parameter, is not trusted.
func TestEngineWrapsOtherwise(t *testing.T) {
	s := answering(t, map[string]string{
		"GET transit/keys/oubli":    `{"data":{"type":"aes256-gcm96","latest_version":3,"min_decryption_version":1,"keys":{"1":1763800000,"2":1763800000,"3":1763800000}}}`,
		"PUT transit/encrypt/oubli": `{"data":{"ciphertext":"vault:v3:AAAA"}}`,
	})
	_, err := s.keys.Wrap(t.Context(), "2-1763800000", []byte("secret"), nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "did not wrap under version 2")
	_, err = s.keys.Wrap(t.Context(), "3-1763800000", []byte("secret"), nil)
	require.NoError(t, err)
}

func TestNotKVOfVersion2(t *testing.T) {
	s := answering(t, map[string]string{"PUT secret/data/oubli/head": "", "GET secret/data/oubli/other": `{"data":{"data":{"value":""},"options":{}}}`})
	_, err := s.shelf.Put(t.Context(), "head", nil, "")
	require.ErrorContains(t, err, "not KV of version 2")
	_, _, err = s.shelf.Get(t.Context(), "other")
	require.ErrorContains(t, err, "not KV of version 2")
}

func TestDocumentsThatDeleteThemselves(t *testing.T) {
	s := answering(t, map[string]string{"PUT secret/data/oubli/head": `{"data":{"version":1,"deletion_time":"2027-01-01T00:00:00Z"}}`})
	_, err := s.shelf.Put(t.Context(), "head", nil, "")
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "vault write secret/config delete_version_after=0s")
}

// What something in between says may hold what was sent, and is not repeated.
func TestErrorsRepeatNothing(t *testing.T) {
	for _, body := range []string{"<html>" + token, `{"errors":["bad token ` + token + `"]}`, "", `{"errors":["` + strings.Repeat("x", 1000) + `"]}`} {
		for _, status := range []string{"400", "502", "503", "403"} {
			s := answering(t, map[string]string{"GET transit/keys/oubli": status + body, "GET auth/token/lookup-self": `{"data":{}}`})
			err := s.keys.Check(context.Background())
			require.ErrorIs(t, err, keystore.ErrUnavailable)
			require.NotContains(t, err.Error(), token)
			require.Less(t, len(err.Error()), 500)
		}
	}
}

// Only the engine itself can say that a key or a document is not there. A mount that was
// moved, a gateway, an empty page: none of them makes a key gone, or a place free.
func TestNothingThere(t *testing.T) {
	const name = "3-1763800000"
	for _, answer := range []string{
		`404{"errors":["no handler for route \"transit/keys/oubli\". route entry not found."]}`,
		`404{"message":"no route matched with those values"}`, `404<html>not found</html>`, "404", `404{"warnings":["odd"]}`, `404{"errors":null}`, "", "{}",
	} {
		s := answering(t, map[string]string{"GET transit/keys/oubli": answer, "GET secret/data/oubli/head": answer})
		_, err := s.keys.State(t.Context(), []string{name})
		require.ErrorIs(t, err, keystore.ErrUnavailable, answer)
		_, err = s.keys.Unwrap(t.Context(), name, []byte("else"), nil)
		require.ErrorIs(t, err, keystore.ErrUnavailable, answer)
		require.NotErrorIs(t, err, keystore.ErrNotFound, answer)
		_, _, err = s.shelf.Get(t.Context(), "head")
		require.ErrorIs(t, err, keystore.ErrUnavailable, answer)
		_, err = s.Load(t.Context())
		require.NotErrorIs(t, err, keystore.ErrNotFound, answer)
	}
	s := answering(t, map[string]string{"GET transit/keys/oubli": `404{"errors":["no handler for route"]}`})
	require.ErrorContains(t, s.keys.Check(t.Context()), "has no engine for transit/keys/oubli: no handler for route: was it moved")
	_, rev, err := s.shelf.Get(t.Context(), "head") // {"errors":[]}
	require.NoError(t, err)
	require.Empty(t, rev)
}

// A version is gone if the engine says so, not if what it says is not understood.
func TestStateThatIsNotUnderstood(t *testing.T) {
	for _, state := range []string{
		`"type":"aes256-gcm96","latest_version":3,"min_decryption_version":1,"keys":{"1":{"creation_time":1763800000},"2":{"creation_time":1763800000},"3":{"creation_time":1763800000}}`,
		`"type":"aes256-gcm96","latest_version":3,"min_decryption_version":1,"keys":{"3":1763800000}`,
		`"type":"aes256-gcm96","latest_version":3,"min_decryption_version":1`,
		`"type":"aes256-gcm96","min_decryption_version":1,"keys":{"1":1763800000}`,
		`"type":"aes256-gcm96","latest_version":3,"keys":{"1":1763800000,"2":1763800000,"3":1763800000}`,
		`"type":"aes256-gcm96","latest_version":"three"`,
		`"type":"rsa-2048","latest_version":3,"min_decryption_version":1,"keys":{"1":{},"2":{},"3":{}}`,
		`"type":7`,
	} {
		s := answering(t, map[string]string{"GET transit/keys/oubli": `{"data":{` + state + `}}`})
		_, err := s.keys.State(t.Context(), []string{"2-1763800000"})
		require.ErrorIs(t, err, keystore.ErrUnavailable, state)
		require.Error(t, s.keys.Check(t.Context()), state)
	}
}

// OpenBao deletes keys softly as well, and restores them: that is no end, and no forgery.
func TestSoftlyDeleted(t *testing.T) {
	const name = "2-1763800000"
	s := answering(t, map[string]string{
		"GET transit/keys/oubli":    `{"data":{"type":"aes256-gcm96","soft_deleted":true,"latest_version":2,"min_available_version":2,"min_decryption_version":2,"keys":{"2":1763800000}}}`,
		"PUT transit/decrypt/oubli": `400{"errors":["key is soft-deleted"]}`,
	})
	states, err := s.keys.State(t.Context(), []string{name, "1-1763800000"})
	require.NoError(t, err)
	require.Equal(t, []rootkms.KeyState{{Fate: rootkms.Barred}, {Fate: rootkms.Gone}}, states)
	_, err = s.keys.Unwrap(t.Context(), name, []byte("vault:v2:AAAA"), nil)
	require.ErrorIs(t, err, keystore.ErrNotFound)
	require.ErrorContains(t, err, "bao write -f transit/keys/oubli/soft-delete-restore")
	err = s.keys.Check(t.Context())
	require.ErrorIs(t, err, keystore.ErrMismatch)
	require.ErrorContains(t, err, "soft-delete-restore")
}

// What something in between refuses was not judged by the engine.
func TestGatewayRefuses(t *testing.T) {
	s := answering(t, map[string]string{
		"GET transit/keys/oubli":    `{"data":{"type":"aes256-gcm96","latest_version":2,"min_decryption_version":1,"keys":{"1":1763800000,"2":1763800000}}}`,
		"PUT transit/decrypt/oubli": `400<html>bad request</html>`,
	})
	_, err := s.keys.Unwrap(t.Context(), "2-1763800000", []byte("vault:v2:AAAA"), nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.NotErrorIs(t, err, keystore.ErrTampered)
}
