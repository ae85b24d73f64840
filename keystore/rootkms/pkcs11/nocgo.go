//go:build !cgo

package pkcs11

import (
	"context"
	"fmt"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// Keys are the keys of a token. There are none in a program that was built without cgo.
type Keys struct{ rootkms.Keys }

// Open fails: PKCS#11 needs cgo.
func Open(_ context.Context, c Config) (*Keys, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%s: %w: this program was built without cgo, and PKCS#11 modules are C libraries "+
		"(build it with CGO_ENABLED=1 and a C compiler)", c.url(), keystore.ErrUnavailable)
}

// Close does nothing.
func (*Keys) Close() error { return nil }
