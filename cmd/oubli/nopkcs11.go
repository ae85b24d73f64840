//go:build !pkcs11

package main

import (
	"context"
	"io"

	"github.com/oubli/oubli/keystore/rootkms"
)

func pkcs11Keys(context.Context, string) (rootkms.Keys, io.Closer, error) {
	return nil, nil, notBuiltIn("pkcs11")
}
