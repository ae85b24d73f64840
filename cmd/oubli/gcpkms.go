//go:build gcpkms

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	kms "cloud.google.com/go/kms/apiv1"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/gcpkms"
)

// gcpKeys opens a CryptoKey of Google Cloud KMS, with the application default credentials.
func gcpKeys(ctx context.Context, url string) (rootkms.Keys, io.Closer, error) {
	c, err := gcpkms.Parse(url)
	if err != nil {
		return nil, nil, err
	}
	client, err := kms.NewKeyManagementClient(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s: there are no credentials for Google Cloud; run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS", keystore.ErrUnavailable, url)
	}
	keys, err := gcpkms.New(ctx, c, client)
	if err != nil {
		return nil, nil, errors.Join(err, client.Close())
	}
	return keys, client, nil
}

func gcpPolicy(url string) (string, error) {
	c, err := gcpkms.Parse(url)
	return c.Policy(), err
}
