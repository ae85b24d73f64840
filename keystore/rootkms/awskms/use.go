package awskms

import (
	"context"
	"fmt"

	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/oubli/oubli/keystore"
)

// aead is Tink's for a key of KMS. The associated data becomes KMS's encryption context, in
// hexadecimal, under the name associatedData; CloudTrail logs it, so it must hold nothing
// personal. Making one asks nothing of AWS.
func (k *Keys) aead(ctx context.Context, name string) (tink.AEADWithContext, error) {
	if err := k.ours(name); err != nil {
		return nil, err
	}
	a, err := awskms.NewAEADWithContext(ctx, name, awskms.WithKMS(k.kms))
	if err != nil {
		return nil, fmt.Errorf("using key %s: %w", name, keystore.ErrUnavailable)
	}
	return a, nil
}

// Wrap implements [rootkms.Keys]. The ids in ad are visible to who reads CloudTrail.
func (k *Keys) Wrap(ctx context.Context, name string, secret, ad []byte) ([]byte, error) {
	a, err := k.aead(ctx, name)
	if err != nil {
		return nil, err
	}
	var wrapped []byte
	err = k.settle(ctx, func() (err error) {
		wrapped, err = a.EncryptWithContext(ctx, secret, ad)
		return err
	}, young)
	if err != nil {
		return nil, k.failed("Encrypt", name, err)
	}
	return wrapped, nil
}

// Unwrap implements [rootkms.Keys].
func (k *Keys) Unwrap(ctx context.Context, name string, wrapped, ad []byte) ([]byte, error) {
	a, err := k.aead(ctx, name)
	if err != nil {
		return nil, err
	}
	secret, err := a.DecryptWithContext(ctx, wrapped, ad)
	if err != nil {
		return nil, k.failed("Decrypt", name, err)
	}
	return secret, nil
}
