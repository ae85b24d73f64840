package gcpkms

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// Make implements [rootkms.Keys]. Cloud KMS has labels for CryptoKeys, not for versions: the
// ids are not told to it.
func (k *Keys) Make(ctx context.Context, _ keystore.StoreID, _ keystore.RootID) (string, error) {
	v, err := k.kms.CreateCryptoKeyVersion(ctx, &kmspb.CreateCryptoKeyVersionRequest{Parent: k.config.Key, CryptoKeyVersion: &kmspb.CryptoKeyVersion{}})
	if err != nil {
		return "", k.failed("create a version of", "cryptoKeyVersions.create", k.config.Key, err)
	}
	name := v.GetName()
	if err := k.ours(name); err != nil {
		return "", err
	}
	// The material of an HSM takes seconds.
	for d := firstPause; v.GetState() == kmspb.CryptoKeyVersion_PENDING_GENERATION && d <= lastPause; d *= 2 {
		if err := k.pause(ctx, d); err != nil {
			return "", k.failed("wait for", "", name, err)
		}
		if v, err = k.version(ctx, name); err != nil {
			return "", k.failed("get", "cryptoKeyVersions.get", name, err)
		}
	}
	if v.GetState() != kmspb.CryptoKeyVersion_ENABLED {
		return "", fmt.Errorf("GCP KMS made version %s, which is %s and not enabled: %w", name, v.GetState(), keystore.ErrUnavailable)
	}
	if v.GetImportJob() != "" || !destroys(v.GetProtectionLevel()) {
		return "", fmt.Errorf("%w: Cloud KMS made version %s with material that is elsewhere as well", keystore.ErrMismatch, name)
	}
	return name, nil
}

func (k *Keys) version(ctx context.Context, name string) (*kmspb.CryptoKeyVersion, error) {
	v, err := k.kms.GetCryptoKeyVersion(ctx, &kmspb.GetCryptoKeyVersionRequest{Name: name})
	if err == nil && v.GetName() != name {
		err = errAnother
	}
	return v, err
}

// errChecksum: bytes were changed between Cloud KMS and here. Source: Cloud KMS, "Verifying
// end-to-end data integrity".
var errChecksum = errors.New("checksum")

func checksum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

func matches(b []byte, sum *wrapperspb.Int64Value) bool {
	return sum != nil && sum.GetValue() == checksum(b).GetValue()
}

// bound puts the version's name into the associated data: Cloud KMS decrypts with whichever
// version a ciphertext names, and does not tell which that was.
func bound(name string, ad []byte) []byte {
	b := append([]byte("oubli gcpkms 1"), 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(name)))
	return append(append(b, name...), ad...)
}

// Wrap implements [rootkms.Keys].
func (k *Keys) Wrap(ctx context.Context, name string, secret, ad []byte) ([]byte, error) {
	if err := k.ours(name); err != nil {
		return nil, err
	}
	ad = bound(name, ad)
	out, err := k.kms.Encrypt(ctx, &kmspb.EncryptRequest{
		Name:                              name,
		Plaintext:                         secret,
		PlaintextCrc32C:                   checksum(secret),
		AdditionalAuthenticatedData:       ad,
		AdditionalAuthenticatedDataCrc32C: checksum(ad),
	})
	switch {
	case err != nil:
		return nil, k.unusable(ctx, "encrypt with", "cryptoKeyVersions.useToEncrypt", name, err)
	case out.GetName() != name:
		return nil, k.failed("encrypt with", "", name, errAnother)
	case !out.GetVerifiedPlaintextCrc32C(), !out.GetVerifiedAdditionalAuthenticatedDataCrc32C(), !matches(out.GetCiphertext(), out.GetCiphertextCrc32C()):
		return nil, k.failed("encrypt with", "", name, errChecksum)
	}
	return out.GetCiphertext(), nil
}

// Unwrap implements [rootkms.Keys].
func (k *Keys) Unwrap(ctx context.Context, name string, wrapped, ad []byte) ([]byte, error) {
	if err := k.ours(name); err != nil {
		return nil, err
	}
	ad = bound(name, ad)
	out, err := k.kms.Decrypt(ctx, &kmspb.DecryptRequest{
		Name:                              k.config.Key,
		Ciphertext:                        wrapped,
		CiphertextCrc32C:                  checksum(wrapped),
		AdditionalAuthenticatedData:       ad,
		AdditionalAuthenticatedDataCrc32C: checksum(ad),
	})
	switch {
	case err != nil:
		return nil, k.unusable(ctx, "decrypt with", "cryptoKeyVersions.useToDecrypt", name, err)
	case !matches(out.GetPlaintext(), out.GetPlaintextCrc32C()):
		clear(out.GetPlaintext())
		return nil, k.failed("decrypt with", "", name, errChecksum)
	}
	return out.GetPlaintext(), nil
}

// unusable tells why a version could not be used. Cloud KMS says "not possible" both of a
// version that is destroyed and of an outage elsewhere, and "invalid" of a ciphertext before
// it looks at the version, so the version is asked for.
func (k *Keys) unusable(ctx context.Context, what, permission, name string, err error) error {
	c := code(err)
	if c != codes.FailedPrecondition && c != codes.NotFound && c != codes.InvalidArgument {
		return k.failed(what, permission, name, err)
	}
	s, stateErr := k.state(ctx, name)
	switch {
	case stateErr != nil:
		return stateErr
	case s.Fate == rootkms.Living && c == codes.InvalidArgument:
		return fmt.Errorf("GCP KMS, %s %s: what is wrapped, its key and its associated data do not belong together: %w", what, name, keystore.ErrTampered)
	case s.Fate == rootkms.Living:
		return k.failed(what, permission, name, err)
	case s.Fate == rootkms.Barred:
		return fmt.Errorf("GCP KMS, %s %s: the version is disabled; who administers it can enable it again: %w", what, name, keystore.ErrNotFound)
	case s.Fate == rootkms.Dying:
		return fmt.Errorf("GCP KMS, %s %s: the version waits for its destruction: %w", what, name, keystore.ErrNotFound)
	default:
		return fmt.Errorf("GCP KMS, %s %s: the version was destroyed, or never was: %w", what, name, keystore.ErrNotFound)
	}
}
