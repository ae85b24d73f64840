package roottransit_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/hashicorp/vault/api"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/rootfile"
	"github.com/oubli/oubli/keystore/roottransit"
)

// vault opens a root in Vault or OpenBao; url is what "oubli init" was given as --root. The
// client takes VAULT_TOKEN, VAULT_CACERT and the like from the environment, as Vault's own
// tools do.
func vault(url string) (*roottransit.Store, error) {
	c, err := roottransit.Parse(url)
	if err != nil {
		return nil, err
	}
	client, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		return nil, err
	}
	return roottransit.Open(client, c, &roottransit.Options{SecretID: os.Getenv("OUBLI_VAULT_SECRET_ID")})
}

// An application whose keystore is in PostgreSQL and whose root is in Vault.
func ExampleOpen() {
	ctx := context.Background()
	root, err := vault(os.Getenv("OUBLI_ROOT"))
	check(err)
	defer root.Close() // after the keystore

	db := memstore.New()                           // stands for pgstore.OpenPool(ctx, pool, nil)
	keys, err := keystore.Open(ctx, db, root, nil) // asks Vault for one decryption
	check(err)
	defer keys.Close()

	h, err := keys.Health(ctx)
	check(err)
	fmt.Println("the root is in", h.Root.URL)
}

// An application whose root is going to move from a file to Vault. It goes on through the
// move, which is made by "oubli root move --to", and whichever of the two comes first.
func ExampleOpen_move() {
	ctx := context.Background()
	old, err := rootfile.New([]string{"/etc/oubli/oubli.root"}, nil)
	check(err)
	next, err := vault("transit:https://vault.example.com:8200/transit/oubli?kv=secret/oubli")
	check(err)
	defer next.Close()

	db := memstore.New() // stands for pgstore.OpenPool(ctx, pool, nil)
	keys, err := keystore.Open(ctx, db, old, &keystore.Options{NextRoots: next})
	check(err)
	defer keys.Close()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
