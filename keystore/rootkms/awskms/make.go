package awskms

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/oubli/oubli/keystore"
)

// The tags of every key that is made here. The policy goes by the first.
const (
	tag, tagValue = "oubli", "root"
	tagStore      = "oubli-store"
	tagRoot       = "oubli-root"
)

// Make implements [rootkms.Keys]. A key whose making failed halfway is scheduled for
// deletion; one that was made by a process which died then stands with its tags in the
// console, has wrapped nothing, and can be deleted there.
func (k *Keys) Make(ctx context.Context, store keystore.StoreID, root keystore.RootID) (string, error) {
	origin := types.OriginTypeExternal
	if k.config.Made {
		origin = types.OriginTypeAwsKms
	}
	out, err := k.kms.CreateKey(ctx, &kms.CreateKeyInput{
		Origin:      origin,
		KeySpec:     types.KeySpecSymmetricDefault,
		KeyUsage:    types.KeyUsageTypeEncryptDecrypt,
		MultiRegion: aws.Bool(false), // replicas would have to be destroyed one by one
		Description: aws.String("oubli: wraps the root key " + root.String()),
		Tags: []types.Tag{
			{TagKey: aws.String(tag), TagValue: aws.String(tagValue)},
			{TagKey: aws.String(tagStore), TagValue: aws.String(store.String())},
			{TagKey: aws.String(tagRoot), TagValue: aws.String(root.String())},
		},
	})
	if err != nil {
		return "", k.failed("CreateKey", "", err)
	}
	m := out.KeyMetadata
	if m == nil || m.Origin != origin || k.ours(aws.ToString(m.Arn)) != nil || aws.ToBool(m.MultiRegion) {
		return "", fmt.Errorf("%w: AWS KMS in %s made another key than it was asked for", keystore.ErrMismatch, k.config.Region)
	}
	name := *m.Arn
	if err := k.ready(ctx, name); err != nil {
		// Whatever has become of ctx: a key costs until it is deleted.
		tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		k.schedule(tidy, name, 7*day)
		return "", err
	}
	return name, nil
}

// ready gives a new key its material, where KMS has not, and waits until KMS knows that it
// can be used, and lets this identity use it: who finds that out only when a root is to be
// wrapped leaves a key behind at every try.
func (k *Keys) ready(ctx context.Context, name string) error {
	if !k.config.Made {
		if err := k.material(ctx, name); err != nil {
			return err
		}
	}
	err := k.settle(ctx, func() error {
		m, err := k.describe(ctx, name)
		if err == nil && m.KeyState != types.KeyStateEnabled {
			err = &types.KMSInvalidStateException{}
		}
		return err
	}, young)
	if err != nil {
		return k.failed("DescribeKey", name, err)
	}
	err = k.settle(ctx, func() error {
		_, err := k.kms.Encrypt(ctx, &kms.EncryptInput{KeyId: &name, Plaintext: make([]byte, 32), DryRun: aws.Bool(true)})
		return err
	}, young)
	if err != nil && !is[*types.DryRunOperationException](err) { // that says: it could be done
		return k.failed("Encrypt", name, err)
	}
	return nil
}

// material imports 32 random bytes into a key and forgets them.
//
// AWS KMS binds a key to the material that was first imported: when that is deleted, only
// the same bytes could bring the key back, and from here on nobody has them. Source: AWS
// KMS Developer Guide, "Importing key material for AWS KMS keys".
func (k *Keys) material(ctx context.Context, name string) error {
	var params *kms.GetParametersForImportOutput
	err := k.settle(ctx, func() (err error) {
		params, err = k.kms.GetParametersForImport(ctx, &kms.GetParametersForImportInput{
			KeyId:             &name,
			WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256,
			WrappingKeySpec:   types.WrappingKeySpecRsa4096,
		})
		return err
	}, func(err error) bool { return young(err) || throttled(err) }) // AWS allows one in four seconds
	if err != nil {
		return k.failed("GetParametersForImport", name, err)
	}
	pub, err := x509.ParsePKIXPublicKey(params.PublicKey)
	to, ok := pub.(*rsa.PublicKey)
	if err != nil || !ok || to.Size() < 512 {
		return fmt.Errorf("AWS KMS gave no RSA key of 4096 bits to import into %s with: %w", name, keystore.ErrUnavailable)
	}

	bytes := make([]byte, 32)
	defer clear(bytes)
	rand.Read(bytes)
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, to, bytes, nil)
	if err != nil {
		return fmt.Errorf("wrapping the material of key %s failed: %w", name, keystore.ErrUnavailable)
	}
	err = k.settle(ctx, func() error {
		_, err := k.kms.ImportKeyMaterial(ctx, &kms.ImportKeyMaterialInput{
			KeyId:                &name,
			EncryptedKeyMaterial: sealed,
			ImportToken:          params.ImportToken,
			ExpirationModel:      types.ExpirationModelTypeKeyMaterialDoesNotExpire,
		})
		return err
	}, func(err error) bool { return is[*types.NotFoundException](err) || denied(err) })
	if err != nil {
		return k.failed("ImportKeyMaterial", name, err)
	}
	return nil
}
