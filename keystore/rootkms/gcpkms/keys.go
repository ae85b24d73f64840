package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// Keys are the versions of one CryptoKey of Google Cloud KMS. It is safe for concurrent use.
type Keys struct {
	config Config
	kms    *kms.KeyManagementClient
	delay  time.Duration
	pause  func(context.Context, time.Duration) error // waits; tests make it short
}

var _ rootkms.Keys = (*Keys)(nil)

// New returns the keys that c describes. It asks the service once: for how long it waits
// before it destroys a version, which is fixed when a CryptoKey is made. client is the
// caller's to close. Errors wrap [keystore.ErrInvalid], [keystore.ErrNotFound] or
// [keystore.ErrUnavailable].
func New(ctx context.Context, c Config, client *kms.KeyManagementClient) (*Keys, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	k := &Keys{config: c, kms: client, pause: pause}
	key, err := k.key(ctx)
	if err != nil {
		return nil, err
	}
	k.delay = delay(key)
	return k, nil
}

// delay is how long versions of a key wait for their destruction. Source: the description
// of CryptoKey.destroy_scheduled_duration.
func delay(key *kmspb.CryptoKey) time.Duration {
	if d := key.GetDestroyScheduledDuration(); d != nil {
		return d.AsDuration()
	}
	return 30 * 24 * time.Hour
}

func (k *Keys) key(ctx context.Context) (*kmspb.CryptoKey, error) {
	key, err := k.kms.GetCryptoKey(ctx, &kmspb.GetCryptoKeyRequest{Name: k.config.Key})
	if err == nil && key.GetName() != k.config.Key {
		err = errAnother
	}
	if err != nil {
		return nil, k.failed("get", "cryptoKeys.get", k.config.Key, err)
	}
	return key, nil
}

// errAnother: the service answered about something that it was not asked about.
var errAnother = errors.New("another resource")

// Place implements [rootkms.Keys].
func (k *Keys) Place() keystore.Place {
	return keystore.Place{URL: "gcpkms:" + k.config.Key, Class: keystore.ClassScheduled, Delay: k.delay}
}

// Before implements [rootkms.Keys]: versions don't depend on each other.
func (k *Keys) Before(_, _ []string) []string { return nil }

// Check implements [rootkms.Keys].
func (k *Keys) Check(ctx context.Context) error {
	key, err := k.key(ctx)
	if err != nil {
		return err
	}
	var faults []string
	no := func(format string, a ...any) { faults = append(faults, fmt.Sprintf(format, a...)) }
	if p := key.GetPurpose(); p != kmspb.CryptoKey_ENCRYPT_DECRYPT {
		no("its purpose is %s; it must be encryption", p)
	}
	level := key.GetVersionTemplate().GetProtectionLevel()
	if !destroys(level) {
		no("its protection level is %s: the material is outside of Cloud KMS, which can't destroy it there; it must be software or hsm", level)
	}
	if a := key.GetVersionTemplate().GetAlgorithm(); a != kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION {
		no("its algorithm is %s; it must be google-symmetric-encryption", a)
	}
	if key.GetImportOnly() {
		no("it takes imported material only, of which somebody has a copy")
	}
	if key.GetRotationPeriod() != nil || key.GetNextRotationTime() != nil {
		no("it is rotated automatically, which makes versions that nobody destroys; take the schedule off with `gcloud kms keys update --remove-rotation-schedule`")
	}
	if d := delay(key); d != k.delay {
		no("its versions are destroyed after %s, not after %s as when this process started: it was replaced by another", d, k.delay)
	}
	if len(faults) > 0 {
		return fmt.Errorf("%w: CryptoKey %s can't wrap roots: %s; make one as `oubli root policy` says", keystore.ErrMismatch, k.config.Key, strings.Join(faults, "; "))
	}
	return nil
}

// destroys tells whether Cloud KMS itself holds the material of a version, alone.
func destroys(l kmspb.ProtectionLevel) bool {
	switch l {
	case kmspb.ProtectionLevel_SOFTWARE, kmspb.ProtectionLevel_HSM, kmspb.ProtectionLevel_HSM_SINGLE_TENANT:
		return true
	}
	return false
}

// ours refuses names that are not of versions of this CryptoKey, of which nothing is known
// here.
func (k *Keys) ours(name string) error {
	if m := versionForm.FindStringSubmatch(name); m == nil || m[1] != k.config.Key {
		return fmt.Errorf("%w: %.300q is not a version of CryptoKey %s", keystore.ErrMismatch, name, k.config.Key)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
