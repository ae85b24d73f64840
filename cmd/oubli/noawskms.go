//go:build !awskms

package main

import (
	"context"
	"io"

	"github.com/oubli/oubli/keystore/rootkms"
)

func awsKeys(context.Context, string) (rootkms.Keys, io.Closer, error) {
	return nil, nil, notBuiltIn("awskms")
}

func awsPolicy(string) (string, error) { return "", notBuiltIn("awskms") }
