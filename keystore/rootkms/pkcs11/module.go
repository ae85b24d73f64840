//go:build cgo

package pkcs11

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/oubli/oubli/keystore"
)

// cryptoki is what is used of a module. Tests put faults between.
type cryptoki interface {
	Initialize() error
	GetSlotList(tokenPresent bool) ([]uint, error)
	GetSlotInfo(slot uint) (pkcs11.SlotInfo, error)
	GetTokenInfo(slot uint) (pkcs11.TokenInfo, error)
	GetMechanismInfo(slot uint, m []*pkcs11.Mechanism) (pkcs11.MechanismInfo, error)
	OpenSession(slot uint, flags uint) (pkcs11.SessionHandle, error)
	CloseSession(pkcs11.SessionHandle) error
	GetSessionInfo(pkcs11.SessionHandle) (pkcs11.SessionInfo, error)
	Login(s pkcs11.SessionHandle, userType uint, pin string) error
	GenerateKey(pkcs11.SessionHandle, []*pkcs11.Mechanism, []*pkcs11.Attribute) (pkcs11.ObjectHandle, error)
	GetAttributeValue(pkcs11.SessionHandle, pkcs11.ObjectHandle, []*pkcs11.Attribute) ([]*pkcs11.Attribute, error)
	FindObjectsInit(pkcs11.SessionHandle, []*pkcs11.Attribute) error
	FindObjects(s pkcs11.SessionHandle, most int) ([]pkcs11.ObjectHandle, bool, error)
	FindObjectsFinal(pkcs11.SessionHandle) error
	DestroyObject(pkcs11.SessionHandle, pkcs11.ObjectHandle) error

	// seal encrypts by AES-GCM with a tag of 128 bits. It returns the nonce that stands in
	// the parameters afterwards: some tokens put theirs there.
	seal(s pkcs11.SessionHandle, key pkcs11.ObjectHandle, nonce, ad, plain []byte) (sealed, after []byte, err error)
	open(s pkcs11.SessionHandle, key pkcs11.ObjectHandle, nonce, ad, sealed []byte) ([]byte, error)
}

const tagSize = 16

type module struct{ *pkcs11.Ctx }

// load loads a module and initializes it. It is never unloaded or finalized: others in
// the process may be using it.
func load(path string) (cryptoki, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("pkcs11 module: %w: %w (is module-path right, and the module of the token's maker installed?)",
			keystore.ErrUnavailable, err)
	}
	ctx := pkcs11.New(path)
	if ctx == nil {
		return nil, fmt.Errorf("pkcs11 module %s: %w: it can't be loaded (it must be a PKCS#11 library for this "+
			"operating system and processor, with all the libraries that it needs: ldd tells)", path, keystore.ErrUnavailable)
	}
	return module{ctx}, initialize(module{ctx})
}

// initializing is held by C_Initialize, which changes a state of the whole process; not
// every module bears two at once.
var initializing sync.Mutex

// initialize makes the module ready, unless it is.
func initialize(m cryptoki) error {
	initializing.Lock()
	defer initializing.Unlock()
	err := m.Initialize()
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pkcs11 module: it can't be initialized: %w: %w (is it configured?)", keystore.ErrUnavailable, err)
	}
	return nil
}

func (m module) seal(s pkcs11.SessionHandle, key pkcs11.ObjectHandle, nonce, ad, plain []byte) (sealed, after []byte, err error) {
	p := pkcs11.NewGCMParams(nonce, ad, 8*tagSize)
	defer p.Free()
	if err := m.EncryptInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, p)}, key); err != nil {
		return nil, nil, err
	}
	if sealed, err = m.Encrypt(s, plain); err != nil {
		return nil, nil, err
	}
	return sealed, p.IV(), nil
}

func (m module) open(s pkcs11.SessionHandle, key pkcs11.ObjectHandle, nonce, ad, sealed []byte) ([]byte, error) {
	p := pkcs11.NewGCMParams(nonce, ad, 8*tagSize)
	defer p.Free()
	if err := m.DecryptInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, p)}, key); err != nil {
		return nil, err
	}
	return m.Decrypt(s, sealed)
}
