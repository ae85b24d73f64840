//go:build cgo

package pkcs11

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzParseWrapped(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{wrapVersion, minNonce})
	f.Add(append([]byte{wrapVersion, minNonce}, make([]byte, minNonce+tagSize)...))
	f.Add(append([]byte{wrapVersion, maxNonce}, make([]byte, maxNonce+tagSize+maxSecret+1)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		nonce, sealed, ok := parse(b)
		if !ok {
			return
		}
		require.True(t, len(nonce) >= minNonce && len(sealed) >= tagSize && len(sealed) <= tagSize+maxSecret)
		require.True(t, bytes.Equal(b, append(append([]byte{wrapVersion, byte(len(nonce))}, nonce...), sealed...)))
	})
}
