package gcpkms_test

import (
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/gcpkms"
	"github.com/oubli/oubli/keystore/rootkms/gcpkms/gcpkmstest"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// client is Keys with their fake.
type client struct {
	*gcpkms.Keys
	fake *gcpkmstest.Service
}

func TestSuite(t *testing.T) {
	open := func(s *gcpkmstest.Service) (rootkms.Keys, error) {
		k, err := gcpkms.New(t.Context(), config, s.Client(t))
		if err != nil {
			return nil, err
		}
		k.Hurry()
		return &client{k, s}, nil
	}
	// A service that is set up wrongly, or goes away, once it was opened.
	wrong := func(sets ...func(*gcpkmstest.Service)) func() ([]rootkms.Keys, error) {
		return func() (list []rootkms.Keys, err error) {
			for _, set := range sets {
				s := gcpkmstest.Start(t)
				k, err := open(s)
				if err != nil {
					return nil, err
				}
				set(s)
				list = append(list, k)
			}
			return list, nil
		}
	}
	setup := func(do func(*kmspb.CryptoKey)) func(*gcpkmstest.Service) {
		return func(s *gcpkmstest.Service) { s.Setup(do) }
	}
	kmstest.Run(t, &kmstest.Suite{
		New:   func() (rootkms.Keys, error) { return open(gcpkmstest.Start(t)) },
		Again: func(k rootkms.Keys) (rootkms.Keys, error) { return open(k.(*client).fake) },
		Pass:  func(k rootkms.Keys, d time.Duration) { k.(*client).fake.Advance(d) },
		Disable: func(k rootkms.Keys, name string) error {
			k.(*client).fake.Change(name, func(v *kmspb.CryptoKeyVersion) { v.State = kmspb.CryptoKeyVersion_DISABLED })
			return nil
		},
		Unknown: gcpkmstest.Key + "/cryptoKeyVersions/999999",
		Miswired: wrong(
			setup(func(k *kmspb.CryptoKey) { k.Purpose = kmspb.CryptoKey_MAC }),
			setup(func(k *kmspb.CryptoKey) { k.ImportOnly = true }),
			setup(func(k *kmspb.CryptoKey) { k.VersionTemplate.ProtectionLevel = kmspb.ProtectionLevel_EXTERNAL }),
			setup(func(k *kmspb.CryptoKey) { k.VersionTemplate.ProtectionLevel = kmspb.ProtectionLevel_EXTERNAL_VPC }),
			setup(func(k *kmspb.CryptoKey) { k.VersionTemplate.Algorithm = kmspb.CryptoKeyVersion_AES_256_GCM }),
			setup(func(k *kmspb.CryptoKey) {
				k.RotationSchedule = &kmspb.CryptoKey_RotationPeriod{RotationPeriod: durationpb.New(90 * day)}
			}),
			setup(func(k *kmspb.CryptoKey) { k.DestroyScheduledDuration = nil }),
		),
		Away: wrong(func(s *gcpkmstest.Service) { s.Down(true) }),
	})
}
