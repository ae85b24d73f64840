package awskms_test

import (
	"testing"
	"time"

	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/awskms"
	"github.com/oubli/oubli/keystore/rootkms/awskms/awskmstest"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// client is Keys with their fake.
type client struct {
	*awskms.Keys
	fake   *awskmstest.Service
	config awskms.Config
}

func TestSuite(t *testing.T) {
	for name, c := range map[string]awskms.Config{"imported": imported, "made": made} {
		t.Run(name, func(t *testing.T) { suite(t, c) })
	}
}

func suite(t *testing.T, c awskms.Config) {
	open := func(s *awskmstest.Service) (rootkms.Keys, error) {
		k, err := awskms.New(c, s.Config())
		if err != nil {
			return nil, err
		}
		k.Hurry()
		return &client{k, s, c}, nil
	}
	wrong := func(set func(*awskmstest.Service)) func() ([]rootkms.Keys, error) {
		return func() ([]rootkms.Keys, error) {
			s := awskmstest.Start(t)
			set(s)
			k, err := open(s)
			return []rootkms.Keys{k}, err
		}
	}
	kmstest.Run(t, &kmstest.Suite{
		New:   func() (rootkms.Keys, error) { return open(awskmstest.Start(t)) },
		Again: func(k rootkms.Keys) (rootkms.Keys, error) { return open(k.(*client).fake) },
		Pass:  func(k rootkms.Keys, d time.Duration) { k.(*client).fake.Advance(d) },
		Disable: func(k rootkms.Keys, name string) error {
			k.(*client).fake.Disable(name)
			return nil
		},
		Unknown:  "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		Miswired: wrong(func(s *awskmstest.Service) { s.Deny(true, "DescribeKey") }),
		Away:     wrong(func(s *awskmstest.Service) { s.Down(true) }),
	})
}
