//go:build !gcpkms

package main

import (
	"context"
	"io"

	"github.com/oubli/oubli/keystore/rootkms"
)

func gcpKeys(context.Context, string) (rootkms.Keys, io.Closer, error) {
	return nil, nil, notBuiltIn("gcpkms")
}

func gcpPolicy(string) (string, error) { return "", notBuiltIn("gcpkms") }
