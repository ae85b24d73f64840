//go:build awskms

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/awskms"
)

// awsKeys opens keys of AWS KMS, with the credentials that AWS's own tools would use.
func awsKeys(ctx context.Context, url string) (rootkms.Keys, io.Closer, error) {
	c, err := awskms.Parse(url)
	if err != nil {
		return nil, nil, err
	}
	ac, err := config.LoadDefaultConfig(ctx, config.WithRegion(c.Region))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the settings and credentials for AWS can't be read; check AWS_PROFILE and ~/.aws", keystore.ErrUnavailable)
	}
	keys, err := awskms.New(c, ac)
	return keys, closeFunc(func() {}), err
}

func awsPolicy(url string) (string, error) {
	c, err := awskms.Parse(url)
	return c.Policy(), err
}
