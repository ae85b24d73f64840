package main

import (
	"fmt"
	"os"

	"github.com/hashicorp/vault/api"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/roottransit"
)

// transitRoot opens a root in Vault or OpenBao, with the settings that Vault's own client
// takes from the environment: VAULT_TOKEN, VAULT_CACERT, VAULT_NAMESPACE and the like.
func transitRoot(url string) (*root, error) {
	c, err := roottransit.Parse(url)
	if err != nil {
		return nil, asUsage(err)
	}
	settings := api.DefaultConfig()
	if settings.Error != nil { // it may repeat what a variable holds
		return nil, fmt.Errorf("%w: the settings for Vault in the environment can't be used; check VAULT_CACERT, VAULT_CLIENT_CERT and the other VAULT_ variables", keystore.ErrUnavailable)
	}
	client, err := api.NewClient(settings)
	if err != nil {
		return nil, fmt.Errorf("%w: the settings for Vault in the environment can't be used; check the VAULT_ variables", keystore.ErrUnavailable)
	}
	if (c.Auth == "" || c.Auth == roottransit.AuthToken) && client.Token() == "" {
		return nil, withHint(fmt.Errorf("%w: there is no token for %s in VAULT_TOKEN", keystore.ErrUnavailable, c.Address),
			"vault login keeps its token elsewhere: export VAULT_TOKEN=$(vault print token); or log in with &auth=approle or &auth=kubernetes in the URL")
	}
	r, err := roottransit.Open(client, c, &roottransit.Options{SecretID: os.Getenv("OUBLI_VAULT_SECRET_ID")})
	if err != nil {
		return nil, asUsage(err)
	}
	return &root{RootStore: r, keys: r}, nil
}

func transitPolicy(url string) (string, error) {
	c, err := roottransit.Parse(url)
	if err != nil {
		return "", asUsage(err)
	}
	return c.Setup(), nil
}
