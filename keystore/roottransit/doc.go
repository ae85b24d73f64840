// Package roottransit keeps root keys wrapped by key versions of Vault's transit engine.
package roottransit

import (
	_ "github.com/hashicorp/vault/api"
	_ "github.com/hashicorp/vault/api/auth/approle"
	_ "github.com/hashicorp/vault/api/auth/kubernetes"
	_ "github.com/oubli/oubli/keystore/rootkms"
)
