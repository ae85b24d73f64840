package keystore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Root, page and shard keys are Tink AEADs (AES-256-GCM, no prefix: nonce, ciphertext,
// tag). Data keys, on the hot path, are the standard library's GCM; the bytes are the same.

var gcmParameters = func() *aesgcm.Parameters {
	p, err := aesgcm.NewParameters(aesgcm.ParametersOpts{
		KeySizeInBytes: 32, IVSizeInBytes: 12, TagSizeInBytes: 16, Variant: aesgcm.VariantNoPrefix,
	})
	if err != nil {
		panic(err) // constant arguments
	}
	return p
}()

func newAEAD(key *Secret) (tink.AEAD, error) {
	k, err := aesgcm.NewKey(secretdata.NewBytesFromData(key[:], insecuresecretdataaccess.Token{}), 0, gcmParameters)
	if err != nil {
		return nil, fmt.Errorf("make a wrapping key: %w", err)
	}
	return aesgcm.NewAEAD(k)
}

func newDataAEAD(key *Secret) cipher.AEAD {
	b, err := aes.NewCipher(key[:])
	if err == nil {
		var a cipher.AEAD
		if a, err = cipher.NewGCM(b); err == nil {
			return a
		}
	}
	panic(err) // the length of the key is right
}

func newSecret() (s Secret) {
	rand.Read(s[:]) // never fails: crypto/rand ends the program rather than return weak bytes
	return s
}

func newID() (id [16]byte) {
	rand.Read(id[:])
	return id
}

func newRev() Rev {
	var b [8]byte
	for {
		rand.Read(b[:])
		if r := binary.BigEndian.Uint64(b[:]); r != 0 {
			return Rev(r)
		}
	}
}

func newKeyID(taken func(uint32) bool) uint32 {
	var b [4]byte
	for {
		rand.Read(b[:])
		if id := binary.BigEndian.Uint32(b[:]); id != 0 && !taken(id) {
			return id
		}
	}
}
