package roottransit

import (
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Config{
		"transit:https://Vault.example.com:8200/transit/oubli?kv=secret/oubli": {
			Address: "https://vault.example.com:8200", Mount: "transit", Key: "oubli", KV: "secret", Path: "oubli"},
		"transit:http://127.0.0.1:8200/team/transit/oubli/?kv=team/secret:a/b&copies=720h": {
			Address: "http://127.0.0.1:8200", Mount: "team/transit", Key: "oubli", KV: "team/secret", Path: "a/b", Copies: 720 * time.Hour},
		"transit:https://v/transit/k?kv=kv/a/b&auth=approle&auth_mount=team/approle&role=1-2&secret_id_file=/etc/oubli.secret&namespace=ns1/ns2": {
			Address: "https://v", Mount: "transit", Key: "k", KV: "kv", Path: "a/b", Auth: AuthAppRole, AuthMount: "team/approle", Role: "1-2", SecretIDFile: "/etc/oubli.secret", Namespace: "ns1/ns2"},
		"transit:https://V:443/transit/k?kv=kv/a": {Address: "https://v", Mount: "transit", Key: "k", KV: "kv", Path: "a"},
		"transit:http://v:80/transit/k?kv=kv/a":   {Address: "http://v", Mount: "transit", Key: "k", KV: "kv", Path: "a"},
		"transit:https://v:/transit/k?kv=kv/a":    {Address: "https://v", Mount: "transit", Key: "k", KV: "kv", Path: "a"},
		"transit:http://[FE80::1%25eth0]:443/transit/k?kv=kv/a": {
			Address: "http://[fe80::1%25eth0]:443", Mount: "transit", Key: "k", KV: "kv", Path: "a"},
		"transit:https://v/transit/k?kv=kv/a&auth=kubernetes&role=oubli&jwt_file=/run/token": {
			Address: "https://v", Mount: "transit", Key: "k", KV: "kv", Path: "a", Auth: AuthKubernetes, Role: "oubli", JWTFile: "/run/token"},
	} {
		c, err := Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, *c)
		again, err := Parse(c.URL())
		require.NoError(t, err, c.URL())
		require.Equal(t, c.URL(), again.URL())
		require.NoError(t, again.check())
		require.Equal(t, [5]string{c.Address, c.Mount, c.Key, c.KV + ":" + c.Path, c.Namespace},
			[5]string{again.Address, again.Mount, again.Key, again.KV + ":" + again.Path, again.Namespace})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"", "transit:", "vault:https://v/transit/k?kv=kv/a", "transit:v/transit/k?kv=kv/a", "transit:ftp://v/transit/k?kv=kv/a",
		"transit:https://me:hunter2@v/transit/k?kv=kv/a", "transit:https://me:hunter2 @v/transit/k?kv=kv/a",
		"transit:https://v/k?kv=kv/a", "transit:https://v/transit/k", "transit:https://v/transit/k?kv=kv", "transit:https://v/transit/k?kv=kv/a#x",
		"transit:https://v/transit/k?kv=kv/a&kv=kv/b", "transit:https://v/transit/k?kv=kv/../a", "transit:https://v/transit/k?kv=kv//a",
		"transit:https://v/transit/*?kv=kv/a", "transit:https://v/transit/+/k?kv=kv/a", "transit:https://v/transit/k\"?kv=kv/a", "transit:https://v/transit/k?kv=kv/a*",
		"transit:https://v/transit/k?kv=kv/a&token=hunter2", "transit:https://v/transit/k?kv=kv/a&secret_id=hunter2", "transit:https://v/transit/k?kv=kv/a&copies=month",
		"transit:https://v/transit/k?kv=kv/a&copies=-1h", "transit:https://v/transit/k?kv=kv/a&auth=ldap", "transit:https://v/transit/k?kv=kv/a&auth=kubernetes",
		"transit:https://v/transit/k?kv=kv/a&role=r", "transit:https://v/transit/k?kv=kv/a&secret_id_file=/f", "transit:https://v/transit/k?kv=kv/a&jwt_file=/f",
		"transit:https://:8200/transit/k?kv=kv/a", "transit:https://v/transit/k?kv=kv/a&namespace=a//b", "transit:https://v/transit/k?kv=kv/a&auth=kubernetes&role=$(hunter2)",
		"transit:https://v/transit/k?kv=kv/a&auth=approle&role=r&auth_mount=a;hunter2", "transit:https://v/transit/k?kv=kv/a&namespace=a%0Ahunter2",
		"transit:https://v/transit/k?kv=kv/a&auth=kubernetes&role=r&secret_id_file=/f", "transit:https://v/transit/k?kv=kv/a;x=hunter2",
	} {
		_, err := Parse(text)
		require.ErrorIs(t, err, keystore.ErrInvalid, text)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

// A Config that nobody parsed is held to the same.
func TestOpenRefuses(t *testing.T) {
	for _, address := range []string{"", "v:8200", "https://me:hunter2@v", "https://v/", "https://V", "https://v:443", "https://v#hunter2", "https://v?x=hunter2", "unix:///hunter2"} {
		client, err := api.NewClient(nil)
		require.NoError(t, err)
		_, err = Open(client, &Config{Address: address, Mount: "transit", Key: "k", KV: "kv", Path: "a"}, nil)
		require.ErrorIs(t, err, keystore.ErrInvalid, address)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

// One place has one URL, whichever way the namespace was given.
func TestNamespaceOfTheClient(t *testing.T) {
	for _, namespace := range []string{"a/b", "a/b/", "/a/b"} {
		client, err := api.NewClient(nil)
		require.NoError(t, err)
		client.SetNamespace(namespace)
		s, err := Open(client, &Config{Address: "https://v", Mount: "transit", Key: "k", KV: "kv", Path: "a"}, nil)
		require.NoError(t, err)
		require.Equal(t, "transit:https://v/transit/k?kv=kv/a&namespace=a%2Fb", s.Place().URL)
		require.NoError(t, s.Close())
	}
	require.Contains(t, (&Config{Namespace: "a/b"}).Setup(), "export VAULT_NAMESPACE=a/b\n")
}

func FuzzParse(f *testing.F) {
	f.Add("transit:https://vault.example.com:8200/transit/oubli?kv=secret/oubli&namespace=a%2Fb")
	f.Add("transit:https://v/team/transit/k?kv=team/kv:a/b&auth=approle&role=r&copies=1h")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(text)
		if err != nil {
			require.ErrorIs(t, err, keystore.ErrInvalid)
			return
		}
		again, err := Parse(c.URL())
		require.NoError(t, err, c.URL())
		require.Equal(t, c.URL(), again.URL())
	})
}

func TestVersionNames(t *testing.T) {
	v, ok := parseVersion("7-1763800000")
	require.True(t, ok)
	require.Equal(t, version{7, 1763800000}, v)
	for _, name := range []string{"", "7", "7-", "-7", "0-1763800000", "-1-5", "07-1763800000", "7-01", "7-1-1", "+7-1", "7 -1", "99999999999999999999-1", "head"} {
		_, ok := parseVersion(name)
		require.False(t, ok, name)
	}
}

// The role id comes from the commands that Setup prints, so they can be had without it.
func TestAnAppRoleIsSetUpBeforeItHasItsID(t *testing.T) {
	c, err := Parse("transit:https://v/transit/k?kv=kv/a&auth=approle")
	require.NoError(t, err)
	require.Contains(t, c.Setup(), "vault read -field=role_id auth/approle/role/oubli-k/role-id\n")
	require.Contains(t, c.Setup(), "vault write -f -field=secret_id auth/approle/role/oubli-k/secret-id\n")
	client, err := api.NewClient(nil)
	require.NoError(t, err)
	_, err = Open(client, c, &Options{SecretID: "hunter2"})
	require.ErrorIs(t, err, keystore.ErrInvalid)
	require.ErrorContains(t, err, "needs role")
	require.NotContains(t, err.Error(), "hunter2")
}
