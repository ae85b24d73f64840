package enginetest

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/roottransit"
)

// The generated policy lets the application live, which TestLife shows, and nothing else,
// which this shows.
func TestPolicyDenies(t *testing.T) {
	e := start(t, nil)
	c, _ := made(t, e)
	token, err := e.Token(c, time.Hour, 0)
	require.NoError(t, err)
	app, admin := e.Client(token).Logical(), e.Admin().Logical()
	_, err = admin.Write("transit/keys/other", nil)
	require.NoError(t, err)
	_, err = admin.Write("transit/keys/oubli/config", map[string]any{"deletion_allowed": true})
	require.NoError(t, err)

	type data = map[string]any
	for _, d := range []struct {
		what, method, path string
		data               data
	}{
		{"create a key", "write", "transit/keys/more", nil},
		{"create the key", "write", "transit/keys/oubli", nil},
		{"create a key by encrypting", "write", "transit/encrypt/more", data{"plaintext": "AAAA"}},
		{"encrypt under another key", "write", "transit/encrypt/other", data{"plaintext": "AAAA"}},
		{"rotate another key", "write", "transit/keys/other/rotate", nil},
		{"delete the key", "delete", "transit/keys/oubli", nil},
		{"allow deletion", "write", "transit/keys/oubli/config", data{"deletion_allowed": true}},
		{"allow deletion beside a limit", "write", "transit/keys/oubli/config", data{"min_decryption_version": 1, "deletion_allowed": true}},
		{"make it exportable", "write", "transit/keys/oubli/config", data{"exportable": true}},
		{"allow backups", "write", "transit/keys/oubli/config", data{"allow_plaintext_backup": true}},
		{"have it rotated", "write", "transit/keys/oubli/config", data{"auto_rotate_period": "24h"}},
		{"export", "read", "transit/export/encryption-key/oubli", nil},
		{"back up", "read", "transit/backup/oubli", nil},
		{"restore", "write", "transit/restore/oubli", data{"backup": "AAAA", "force": true}},
		{"a data key", "write", "transit/datakey/plaintext/oubli", nil},
		{"wrap anew", "write", "transit/rewrap/oubli", data{"ciphertext": "vault:v1:AAAA"}},
		{"list keys", "list", "transit/keys", nil},
		{"the engine's settings", "write", "transit/config/keys", data{"disable_upsert": false}},
		{"delete a document", "delete", "secret/data/oubli/head", nil},
		{"destroy versions", "write", "secret/destroy/oubli/head", data{"versions": []int{1}}},
		{"delete all of it", "delete", "secret/metadata/oubli/head", nil},
		{"somebody else's document", "read", "secret/data/other", nil},
		{"write somebody else's document", "write", "secret/data/other/head", data{"data": data{}}},
		{"its own policy", "write", "sys/policies/acl/" + c.PolicyName(), data{"policy": ""}},
		{"another token", "write", "auth/token/create", nil},
		{"mounts", "read", "sys/mounts", nil},
	} {
		var err error
		switch d.method {
		case "write":
			_, err = app.Write(d.path, d.data)
		case "read":
			_, err = app.Read(d.path)
		case "list":
			_, err = app.List(d.path)
		case "delete":
			_, err = app.Delete(d.path)
		}
		var r *api.ResponseError
		require.ErrorAs(t, err, &r, d.what)
		require.Equal(t, http.StatusForbidden, r.StatusCode, d.what)
	}
	list, err := admin.List("transit/keys")
	require.NoError(t, err)
	require.Equal(t, []any{"other", "oubli"}, list.Data["keys"])
}

// Of each rule of the policy, when it is missing, the error names path and capability.
func TestPolicyMissing(t *testing.T) {
	e := start(t, nil)
	c, s := made(t, e)
	require.NoError(t, s.Create(t.Context(), keystore.RootContents{Store: keystore.StoreID{1}, Living: []keystore.Root{root(0, 0, 0)}}))
	var victim keystore.Root
	do := map[string]func(s *roottransit.Store) error{
		"transit/keys/oubli":        func(s *roottransit.Store) error { return s.Keys().Check(t.Context()) },
		"transit/keys/oubli/rotate": func(s *roottransit.Store) error { return s.Add(t.Context(), root(0, 1, 0)) },
		"transit/encrypt/oubli":     func(s *roottransit.Store) error { return s.Add(t.Context(), root(0, 1, 0)) },
		"transit/keys/oubli/config": func(s *roottransit.Store) error { return s.Destroy(t.Context(), []keystore.RootID{victim.ID}) },
		"transit/keys/oubli/trim":   func(s *roottransit.Store) error { return s.Destroy(t.Context(), []keystore.RootID{victim.ID}) },
		"transit/decrypt/oubli":     func(s *roottransit.Store) error { _, err := s.Load(t.Context(), root(0, 0, 0).ID); return err },
		"secret/data/oubli/head":    func(s *roottransit.Store) error { _, err := s.Load(t.Context()); return err },
	}
	rule := regexp.MustCompile(`(?s)path "([^"]+)" \{.*?\n\}\n`)
	whole := c.Policy()
	rules := rule.FindAllStringSubmatchIndex(whole, -1)
	require.Len(t, rules, 9)
	tried := 0
	for _, at := range rules {
		path := strings.Replace(whole[at[2]:at[3]], "*", "head", 1)
		call := do[path]
		if call == nil {
			require.Contains(t, path, "auth/token/")
			continue
		}
		tried++
		require.NoError(t, e.Admin().Sys().PutPolicy(c.PolicyName(), whole))
		if strings.HasSuffix(path, "/config") || strings.HasSuffix(path, "/trim") {
			victim = root(0, byte(10+tried), 0)
			require.NoError(t, s.Add(t.Context(), victim))
		}
		require.NoError(t, e.Admin().Sys().PutPolicy(c.PolicyName(), whole[:at[0]]+whole[at[1]:]))
		err := call(open(t, e, c))
		require.ErrorIs(t, err, keystore.ErrUnavailable, path)
		require.ErrorContains(t, err, `its policy needs path "`+path+`"`)
		require.Regexp(t, `capabilities = \["(read|update)"\]`, err.Error())
		if strings.HasSuffix(path, "/trim") { // the first try was stopped on the way
			require.NoError(t, e.Admin().Sys().PutPolicy(c.PolicyName(), whole))
			require.NoError(t, s.Destroy(t.Context(), nil))
		}
	}
	require.Equal(t, len(do), tried)
}

// What the work rests on: a limit alone is taken back, trimming is not.
func TestLimitIsReversibleAndTrimIsNot(t *testing.T) {
	e := start(t, nil)
	_, s := made(t, e)
	admin := e.Admin().Logical()
	make := func() (string, []byte) {
		name, err := s.Keys().Make(t.Context(), keystore.StoreID{1}, keystore.RootID{1})
		require.NoError(t, err)
		wrapped, err := s.Keys().Wrap(t.Context(), name, []byte("root"), nil)
		require.NoError(t, err)
		return name, wrapped
	}
	opens := func(wrapped []byte) bool {
		_, err := admin.Write("transit/decrypt/oubli", map[string]any{"ciphertext": string(wrapped)})
		return err == nil
	}
	limit := func(v int) error {
		_, err := admin.Write("transit/keys/oubli/config", map[string]any{"min_decryption_version": v, "min_encryption_version": v})
		return err
	}
	name, wrapped := make()
	require.True(t, strings.HasPrefix(name, "2-"))
	make()
	require.NoError(t, limit(3))
	require.False(t, opens(wrapped))
	require.NoError(t, limit(2))
	require.True(t, opens(wrapped), "lowering the limit takes the destruction back")

	require.NoError(t, limit(3))
	_, err := admin.Write("transit/keys/oubli/trim", map[string]any{"min_available_version": 3})
	require.NoError(t, err)
	require.Error(t, limit(2))
	require.Error(t, limit(1))
	for _, v := range []int{0, 1, 2} {
		_, err := admin.Write("transit/keys/oubli/trim", map[string]any{"min_available_version": v})
		require.Error(t, err)
	}
	require.False(t, opens(wrapped))

	// The storage has the material of the living version, and no other.
	for _, d := range e.Record().Final() {
		if d.Key != "policy/oubli" && d.Key != "archive/oubli" {
			continue
		}
		var stored struct {
			Keys json.RawMessage `json:"keys"`
		}
		require.NoError(t, json.Unmarshal(d.Value, &stored))
		require.Equal(t, 1, strings.Count(string(d.Value), `"hmac_key":"`), d.Key)
	}
}
