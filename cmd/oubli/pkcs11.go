//go:build pkcs11

package main

import (
	"context"
	"io"

	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/pkcs11"
)

// pkcs11Keys opens the keys of a PKCS#11 token.
func pkcs11Keys(ctx context.Context, url string) (rootkms.Keys, io.Closer, error) {
	c, err := pkcs11.Parse(url)
	if err != nil {
		return nil, nil, err
	}
	keys, err := pkcs11.Open(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	return keys, keys, nil
}
