package roottransit

import (
	"fmt"
	"strings"
)

// PolicyName is the name that Setup gives to the policy, and to an AppRole.
func (c *Config) PolicyName() string { return "oubli-" + c.Key }

// Policy is the policy of the application, as vault policy write takes it. It is enough for
// everything that oubli does, rehearsals too. It denies what would undo the promise or lose
// everybody: to create a key, by an encryption as well, to delete one, to export or back one
// up, and every setting of the key but its two limits.
func (c *Config) Policy() string {
	key, kv := c.Mount+"/keys/"+c.Key, c.KV+"/data/"+c.Path
	return fmt.Sprintf(`# oubli: the root store %s

# The state of the key: before every encryption, and to see what has become of a version.
path "%[2]s" {
  capabilities = ["read"]
}

# A version for each root.
path "%[2]s/rotate" {
  capabilities = ["update"]
}

# Destroying: the limits go up, then what is below is trimmed. Nothing else may be set.
path "%[2]s/config" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_decryption_version" = []
    "min_encryption_version" = []
  }
}
path "%[2]s/trim" {
  capabilities = ["update"]
  allowed_parameters = {
    "min_available_version" = []
  }
}

# Without "create": to encrypt under a key that was deleted would make a new one.
path "%[3]s/encrypt/%[4]s" {
  capabilities = ["update"]
}
path "%[3]s/decrypt/%[4]s" {
  capabilities = ["update"]
}

# The wrapped roots, the anchor and the tombstones.
path "%[5]s/*" {
  capabilities = ["create", "read", "update"]
}

# The token itself.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
`, c.URL(), key, c.Mount, c.Key, kv)
}

// Setup is what an administrator types, in a shell with the command vault or bao, before
// the root store is used. Mounts that are there already need not be enabled again. With an
// AppRole the last two print its role id and a secret id.
func (c *Config) Setup() string {
	var b strings.Builder
	if c.Namespace != "" {
		fmt.Fprintf(&b, "export VAULT_NAMESPACE=%s\n", c.Namespace)
	}
	fmt.Fprintf(&b, "vault secrets enable -path=%s transit\n", c.Mount)
	fmt.Fprintf(&b, "vault secrets enable -path=%s -version=2 kv\n", c.KV)
	fmt.Fprintf(&b, "vault write %s/keys/%s type=aes256-gcm96 exportable=false allow_plaintext_backup=false\n", c.Mount, c.Key)
	fmt.Fprintf(&b, "vault policy write %s - <<'EOF'\n%sEOF\n", c.PolicyName(), c.Policy())
	switch c.auth() {
	case AuthToken:
		fmt.Fprintf(&b, "vault token create -policy=%s -period=24h -orphan\n", c.PolicyName())
	case AuthAppRole:
		if c.AuthMount == "" {
			fmt.Fprintf(&b, "vault auth enable approle\n")
		}
		role := "auth/" + c.authMount() + "/role/" + c.PolicyName()
		fmt.Fprintf(&b, "vault write %s token_policies=%s token_ttl=1h token_max_ttl=24h\n", role, c.PolicyName())
		fmt.Fprintf(&b, "vault read -field=role_id %s/role-id\n", role)
		fmt.Fprintf(&b, "vault write -f -field=secret_id %s/secret-id\n", role)
	case AuthKubernetes:
		fmt.Fprintf(&b, "vault write auth/%s/role/%s bound_service_account_names=oubli bound_service_account_namespaces=default token_policies=%s token_ttl=1h\n", c.authMount(), c.Role, c.PolicyName())
	}
	return b.String()
}
