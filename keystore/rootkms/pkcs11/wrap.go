//go:build cgo

package pkcs11

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/oubli/oubli/keystore"
)

// A wrapped secret: the version, the size of the nonce, the nonce, what GCM made of the
// secret, its tag.
const (
	wrapVersion = 1
	minNonce    = 12
	maxNonce    = 64
	maxSecret   = 64
)

// wrap encrypts secret and sees that it opens again. Tokens differ in whose nonce they
// use: the one they are given; their own, written over the one given (CloudHSM), which
// some want to be zeros; or their own, behind the tag (Luna and ProtectServer in FIPS mode).
func (s *session) wrap(key pkcs11.ObjectHandle, secret, ad []byte) ([]byte, error) {
	nonce := make([]byte, minNonce)
	rand.Read(nonce)
	sealed, nonce, err := s.seal(s.handle, key, nonce, ad, secret)
	if answers(err, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_ARGUMENTS_BAD) {
		sealed, nonce, err = s.seal(s.handle, key, make([]byte, minNonce), ad, secret)
	}
	if err != nil {
		return nil, err
	}
	if size := len(secret) + tagSize; len(sealed) > size {
		sealed, nonce = sealed[:size], sealed[size:]
	}
	if len(nonce) < minNonce || len(nonce) > maxNonce || bytes.Equal(nonce, make([]byte, len(nonce))) {
		return nil, fmt.Errorf("%w: the token does not tell the nonce that it used", keystore.ErrMismatch)
	}
	opened, err := s.open(s.handle, key, nonce, ad, sealed)
	if err != nil || !bytes.Equal(opened, secret) {
		return nil, errors.Join(fmt.Errorf("%w: what the token encrypted does not decrypt", keystore.ErrUnavailable), err)
	}
	return append(append([]byte{wrapVersion, byte(len(nonce))}, nonce...), sealed...), nil
}

// unwrap is the inverse.
func (s *session) unwrap(key pkcs11.ObjectHandle, wrapped, ad []byte) ([]byte, error) {
	nonce, sealed, ok := parse(wrapped)
	if !ok {
		return nil, fmt.Errorf("%w: it is not what this token wrapped", keystore.ErrTampered)
	}
	secret, err := s.open(s.handle, key, nonce, ad, sealed)
	if err != nil && !isTampered(err) && s.works(key) {
		// Tokens say CKR_GENERAL_ERROR, CKR_DEVICE_ERROR and more of a wrong tag. If the key
		// works before and after it says so again, it is what was decrypted.
		if secret, err = s.open(s.handle, key, nonce, ad, sealed); err != nil && s.works(key) {
			err = pkcs11.Error(pkcs11.CKR_ENCRYPTED_DATA_INVALID)
		}
	}
	switch {
	case err == nil:
		return secret, nil
	case answers(err, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED):
		return nil, errNoKey
	case isTampered(err):
		return nil, fmt.Errorf("%w: it was wrapped under another key or for something else, or changed since", keystore.ErrTampered)
	}
	return nil, err
}

func isTampered(err error) bool {
	return answers(err, pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE, ckrAEADDecryptFailed)
}

// works tells whether the key encrypts and decrypts.
func (s *session) works(key pkcs11.ObjectHandle) bool {
	_, err := s.wrap(key, []byte("probe"), nil)
	return err == nil
}

func parse(wrapped []byte) (nonce, sealed []byte, ok bool) {
	if len(wrapped) < 2 || wrapped[0] != wrapVersion || wrapped[1] < minNonce || wrapped[1] > maxNonce {
		return nil, nil, false
	}
	n, rest := int(wrapped[1]), wrapped[2:]
	if len(rest) < n+tagSize || len(rest) > n+tagSize+maxSecret {
		return nil, nil, false
	}
	return rest[:n], rest[n:], true
}
