//go:build cgo

package pkcs11

import (
	"sync/atomic"
	"testing"

	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

func TestSuite(t *testing.T) {
	c := newToken(t)
	unplugged := new(atomic.Bool)
	opened := func(faulty func(cryptoki) cryptoki) *Keys {
		return openKeys(t, c, func(m cryptoki) cryptoki {
			if faulty != nil {
				m = faulty(m)
			}
			return hardware{m}
		})
	}
	gone := opened(func(m cryptoki) cryptoki { return away{m, unplugged} })
	unplugged.Store(true)
	kmstest.Run(t, &kmstest.Suite{
		New:     func() (rootkms.Keys, error) { return opened(nil), nil },
		Again:   func(rootkms.Keys) (rootkms.Keys, error) { return opened(nil), nil },
		Unknown: someKey(opened(nil)),
		Miswired: func() (list []rootkms.Keys, err error) {
			for _, unfit := range unfits() {
				list = append(list, opened(unfit))
			}
			return list, nil
		},
		Away: func() ([]rootkms.Keys, error) { return []rootkms.Keys{gone}, nil },
	})
}
