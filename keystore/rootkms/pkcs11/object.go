//go:build cgo

package pkcs11

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// idPrefix begins the CKA_ID of each key, so that a name never means another
// application's object.
const idPrefix = "oubli:"

const idSize = 16

var errNoKey = fmt.Errorf("%w: the token has no such key, or forbids its use", keystore.ErrNotFound)

// A key's name is the serial number of the token that made it, escaped as in a URL, a dot,
// and the random part of its id. The serial number is there for keys that are not found: who
// looks at another token of that label, a fresh one for instance, must not read it as their end.
func nameOf(serial string, random []byte) string {
	return escape(serial) + "." + hex.EncodeToString(random)
}

// parseName takes a name apart; id, the CKA_ID, is nil if nameOf never gave it.
func parseName(name string) (serial string, id []byte) {
	at := strings.LastIndexByte(name, '.')
	serial, err := url.PathUnescape(name[:max(at, 0)])
	b, err2 := hex.DecodeString(name[at+1:])
	if err != nil || err2 != nil || len(b) != idSize || nameOf(serial, b) != name {
		return "", nil
	}
	return serial, append([]byte(idPrefix), b...)
}

// id returns the CKA_ID of the key of that name, or nil if there can be none.
func id(name string) []byte {
	_, id := parseName(name)
	return id
}

// make makes a key of a random name, and refuses what the token made if it is not what
// was asked for.
func (s *session) make(label string) (string, pkcs11.ObjectHandle, error) {
	var random [idSize]byte
	rand.Read(random[:])
	name := nameOf(s.serial, random[:])
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)}
	for _, a := range attributesOf(id(name)) {
		if a.ask {
			template = append(template, pkcs11.NewAttribute(a.typ, a.value))
		}
	}
	generate := func(template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
		return s.GenerateKey(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, template)
	}
	object, err := generate(append(template, pkcs11.NewAttribute(pkcs11.CKA_COPYABLE, false)))
	if answers(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_TEMPLATE_INCONSISTENT) {
		object, err = generate(template) // CKA_COPYABLE is younger than many a token
	}
	if err != nil {
		return "", 0, err
	}
	if err := s.inspect(object, id(name)); err != nil {
		return "", 0, errors.Join(err, s.DestroyObject(s.handle, object))
	}
	return name, object, nil
}

// attribute is what a key must have.
type attribute struct {
	name     string
	typ      uint
	value    any
	ask      bool // it stands in the template; others the token decides
	optional bool // the token need not know it
	harm     string
}

func attributesOf(id []byte) []attribute {
	const taken = "keys could be taken out of the token"
	const more = "keys could be used for more than AES-GCM"
	return []attribute{
		{"CKA_CLASS", pkcs11.CKA_CLASS, uint(pkcs11.CKO_SECRET_KEY), true, false, "it is no secret key"},
		{"CKA_KEY_TYPE", pkcs11.CKA_KEY_TYPE, uint(pkcs11.CKK_AES), true, false, "it is no AES key"},
		{"CKA_VALUE_LEN", pkcs11.CKA_VALUE_LEN, uint(32), true, false, "it has not 256 bits"},
		{"CKA_ID", pkcs11.CKA_ID, id, true, false, "it would not be found again"},
		{"CKA_TOKEN", pkcs11.CKA_TOKEN, true, true, false, "it would be lost with the session"},
		{"CKA_PRIVATE", pkcs11.CKA_PRIVATE, true, true, false, "it could be used without the PIN"},
		{"CKA_SENSITIVE", pkcs11.CKA_SENSITIVE, true, true, false, taken},
		{"CKA_ALWAYS_SENSITIVE", pkcs11.CKA_ALWAYS_SENSITIVE, true, false, false, taken},
		{"CKA_EXTRACTABLE", pkcs11.CKA_EXTRACTABLE, false, true, false, taken},
		{"CKA_NEVER_EXTRACTABLE", pkcs11.CKA_NEVER_EXTRACTABLE, true, false, false, taken},
		{"CKA_LOCAL", pkcs11.CKA_LOCAL, true, false, false, "it was not made on the token"},
		{"CKA_MODIFIABLE", pkcs11.CKA_MODIFIABLE, false, true, false, "it could be renamed, and escape its destruction"},
		{"CKA_DESTROYABLE", pkcs11.CKA_DESTROYABLE, true, false, true, "it could not be destroyed"},
		{"CKA_ENCRYPT", pkcs11.CKA_ENCRYPT, true, true, false, "it does not encrypt"},
		{"CKA_DECRYPT", pkcs11.CKA_DECRYPT, true, true, false, "it does not decrypt"},
		{"CKA_SIGN", pkcs11.CKA_SIGN, false, true, true, more},
		{"CKA_VERIFY", pkcs11.CKA_VERIFY, false, true, true, more},
		{"CKA_WRAP", pkcs11.CKA_WRAP, false, true, true, more},
		{"CKA_UNWRAP", pkcs11.CKA_UNWRAP, false, true, true, more},
		{"CKA_DERIVE", pkcs11.CKA_DERIVE, false, true, true, more},
	}
}

// inspect reads back what the token made.
func (s *session) inspect(object pkcs11.ObjectHandle, id []byte) error {
	for _, a := range attributesOf(id) {
		got, err := s.GetAttributeValue(s.handle, object, []*pkcs11.Attribute{pkcs11.NewAttribute(a.typ, nil)})
		want := pkcs11.NewAttribute(a.typ, a.value).Value
		switch {
		case a.optional && answers(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID):
		case err != nil:
			return fmt.Errorf("read %s of the key that was made: %w", a.name, err)
		case len(got) != 1 || got[0].Value == nil:
			return fmt.Errorf("read %s of the key that was made: %w", a.name, errUntold)
		case !bytes.Equal(got[0].Value, want):
			return fmt.Errorf("%w: the token made a key whose %s is not as it was asked for: %s (the key was given up; "+
				"is there a setting of the token for this?)", keystore.ErrMismatch, a.name, a.harm)
		}
	}
	got, err := s.GetAttributeValue(s.handle, object, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
	if err == nil && len(got) == 1 && len(got[0].Value) > 0 {
		return fmt.Errorf("%w: the token tells the value of a key that it calls sensitive", keystore.ErrMismatch)
	}
	if !answers(err, pkcs11.CKR_ATTRIBUTE_SENSITIVE) && mayPass(err) {
		return err
	}
	return nil
}

// search returns the objects of a key, which is one, or more if somebody copied it. That
// there are none is certain.
func (s *session) search(name string) (objects []pkcs11.ObjectHandle, err error) {
	maker, id := parseName(name)
	if id == nil {
		return nil, nil
	}
	err = s.FindObjectsInit(s.handle, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, uint(pkcs11.CKO_SECRET_KEY)),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id),
	})
	if err != nil {
		return nil, err
	}
	for {
		some, _, err := s.FindObjects(s.handle, 16)
		objects = append(objects, some...)
		if err != nil || len(some) == 0 {
			if err = errors.Join(err, s.FindObjectsFinal(s.handle)); err != nil {
				return nil, err
			}
			break
		}
	}
	if len(objects) == 0 && !s.sees() {
		return nil, errHidden
	}
	if len(objects) == 0 && maker != s.serial && !slices.Contains(s.replaces, maker) {
		return nil, fmt.Errorf("%w: the token of serial number %q, which made the key, may have it; this one has the serial number %q (if it "+
			"took over the other's keys, and the other was destroyed, say so with replaces=%s)", keystore.ErrUnavailable, maker, s.serial, escape(maker))
	}
	return objects, nil
}

// fate tells what has become of a key.
func (s *session) fate(name string) (rootkms.Fate, error) {
	objects, err := s.search(name)
	if err != nil || len(objects) == 0 {
		return rootkms.Gone, err
	}
	for _, object := range objects {
		got, err := s.GetAttributeValue(s.handle, object, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, nil)})
		switch {
		case err != nil:
			return rootkms.Gone, err
		case len(got) != 1 || got[0].Value == nil:
			return rootkms.Gone, errUntold
		case bytes.Equal(got[0].Value, []byte{1}):
			return rootkms.Living, nil
		}
	}
	return rootkms.Barred, nil
}

// destroy destroys all objects of a key, and makes sure.
func (s *session) destroy(name string) error {
	objects, err := s.search(name)
	if err != nil || len(objects) == 0 {
		return err
	}
	for _, object := range objects {
		err := s.DestroyObject(s.handle, object)
		if err != nil && !answers(err, pkcs11.CKR_OBJECT_HANDLE_INVALID) { // another process was faster
			return err
		}
	}
	objects, err = s.search(name)
	if err == nil && len(objects) > 0 {
		err = errKept
	}
	return err
}

var errKept = fmt.Errorf("%w: the token says that it destroyed the key, and still has it", keystore.ErrUnavailable)

// rehearse shows on a key of its own that the token keeps, binds and destroys keys as it
// must. What a crash leaves of it is a key that wrapped nothing.
func (s *session) rehearse() (err error) {
	name, object, err := s.make("oubli check")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.destroy(name)) }()
	secret, ad := []byte("a secret of the check, no secret"), []byte("the check")
	wrapped, err := s.wrap(object, secret, ad)
	if err != nil {
		return err
	}
	if _, err := s.unwrap(object, wrapped, []byte("another")); err == nil {
		return fmt.Errorf("%w: the token's AES-GCM does not authenticate associated data", keystore.ErrMismatch)
	} else if !errors.Is(err, keystore.ErrTampered) {
		return err
	}
	err = s.destroy(name)
	if errors.Is(err, errKept) || answers(err, pkcs11.CKR_ACTION_PROHIBITED, pkcs11.CKR_FUNCTION_NOT_SUPPORTED) {
		return fmt.Errorf("%w: the token does not destroy keys: %v", keystore.ErrMismatch, err)
	} else if err != nil {
		return err
	}
	if _, err := s.unwrap(object, wrapped, ad); err == nil {
		return fmt.Errorf("%w: the token uses a key that it destroyed", keystore.ErrMismatch)
	}
	return nil
}
