//go:build cgo

package pkcs11

import (
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/oubli/oubli/keystore"
)

// ckrAEADDecryptFailed is of version 3.0, which the module's header does not have.
const ckrAEADDecryptFailed = 0x42

// hints say what to do about an answer of a token.
var hints = map[pkcs11.Error]string{
	pkcs11.CKR_PIN_INCORRECT: "the PIN is wrong and is not tried again, since tokens lock: correct what pin-source names",
	pkcs11.CKR_PIN_INVALID:   "the PIN is wrong and is not tried again, since tokens lock: correct what pin-source names",
	pkcs11.CKR_PIN_LEN_RANGE: "the PIN is wrong and is not tried again, since tokens lock: correct what pin-source names",
	pkcs11.CKR_PIN_EXPIRED:   "set a new PIN with the tool of the token's maker",
	pkcs11.CKR_PIN_LOCKED:    "the security officer must set a new PIN",

	pkcs11.CKR_USER_PIN_NOT_INITIALIZED:       "the security officer must set the user's PIN",
	pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN: "this process is logged in as another user of the token",

	pkcs11.CKR_SESSION_COUNT:         "the token has no session left: close other programs, or allow more",
	pkcs11.CKR_DEVICE_MEMORY:         "the token is full: nothing was lost, make room",
	pkcs11.CKR_TOKEN_NOT_PRESENT:     "the token is away",
	pkcs11.CKR_DEVICE_REMOVED:        "the token is away",
	pkcs11.CKR_DEVICE_ERROR:          "the token has a fault; its maker's log may tell",
	pkcs11.CKR_TOKEN_WRITE_PROTECTED: "the token is write-protected; oubli makes and destroys keys on it",
	pkcs11.CKR_ACTION_PROHIBITED:     "the token forbids it for this key",
}

// explain wraps an answer of the token; what wraps a sentinel already stays.
func (k *Keys) explain(op string, err error) error {
	var answer pkcs11.Error
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &answer):
		return fmt.Errorf("%s: %s: %w", k.url, op, err)
	}
	hint := hints[answer]
	if hint != "" {
		hint = " (" + hint + ")"
	}
	return fmt.Errorf("%s: %s: %w: %w%s", k.url, op, keystore.ErrUnavailable, err, hint)
}

// errHidden: a search found nothing, by a session that might not see everything.
var errHidden = fmt.Errorf("%w: the session is not logged in to the token any more, or the token does not answer", keystore.ErrUnavailable)

// mayPass tells whether the same call, by a fresh session, may do what this one could not.
func mayPass(err error) bool {
	return errors.Is(err, errHidden) || errors.Is(err, errUntold) || answers(err,
		pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_USER_NOT_LOGGED_IN,
		pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_SLOT_ID_INVALID,
		pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED,
		pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_DEVICE_ERROR,
		pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED,
		// of an object that another process destroyed since it was found
		pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID)
}

// errUntold: the token has the object, and did not tell an attribute that it has.
var errUntold = fmt.Errorf("%w: the token does not tell it", keystore.ErrUnavailable)

// answers tells whether err is an answer of the token: one of codes, if there are any.
func answers(err error, codes ...pkcs11.Error) bool {
	var answer pkcs11.Error
	return errors.As(err, &answer) && (len(codes) == 0 || slices.Contains(codes, answer))
}
