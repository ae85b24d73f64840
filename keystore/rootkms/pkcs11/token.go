//go:build cgo

package pkcs11

import (
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/oubli/oubli/keystore"
)

// serialOf is a token's serial number without what it is padded with.
func serialOf(token pkcs11.TokenInfo) string { return strings.TrimRight(token.SerialNumber, " \x00") }

// find returns the one token that config means.
func find(m cryptoki, c Config) (slot uint, token pkcs11.TokenInfo, err error) {
	slots, err := m.GetSlotList(true)
	if err != nil {
		return 0, token, err
	}
	var others, serials []string
	for _, id := range slots {
		info, err := m.GetTokenInfo(id)
		if err != nil {
			others = append(others, fmt.Sprintf("one in slot %d that does not answer: %v", id, err))
			continue
		}
		label := strings.TrimRight(info.Label, " \x00")
		serial := serialOf(info)
		if label != c.Token || c.Serial != "" && serial != c.Serial {
			others = append(others, fmt.Sprintf("%q of serial number %q", label, serial))
			continue
		}
		slot, token = id, info
		serials = append(serials, serial)
	}
	switch len(serials) {
	case 1:
		return slot, token, nil
	case 0:
		there := "there is none at all"
		if len(others) > 0 {
			there = "there is " + strings.Join(others, ", ")
		}
		return 0, token, fmt.Errorf("%w: the module has no such token: %s (is it plugged in, switched on, reachable, "+
			"and its label right?)", keystore.ErrUnavailable, there)
	}
	return 0, token, fmt.Errorf("%w: the module has %d tokens of that label, with the serial numbers %s (say which: ;serial=…)",
		keystore.ErrMismatch, len(serials), strings.Join(serials, ", "))
}

// fit refuses a token that can't serve.
func fit(token pkcs11.TokenInfo) error {
	has := func(flag uint) bool { return token.Flags&flag != 0 }
	refuse := func(what string) error { return fmt.Errorf("%w: %s", keystore.ErrMismatch, what) }
	switch {
	case has(pkcs11.CKF_ERROR_STATE):
		return fmt.Errorf("%w: the token failed its self-test", keystore.ErrUnavailable)
	case !has(pkcs11.CKF_TOKEN_INITIALIZED):
		return refuse("the token is not initialized")
	case has(pkcs11.CKF_WRITE_PROTECTED):
		return refuse("the token is write-protected; oubli makes and destroys keys on it")
	case !has(pkcs11.CKF_LOGIN_REQUIRED):
		return refuse("the token asks nobody for a PIN: whoever reaches it could use its keys")
	case !has(pkcs11.CKF_USER_PIN_INITIALIZED):
		return refuse("the token's user has no PIN: the security officer must set it")
	case has(pkcs11.CKF_USER_PIN_TO_BE_CHANGED):
		return refuse("the user's PIN must be changed first: set one with the tool of the token's maker")
	}
	return nil
}

// canGCM refuses a token that lacks what the keys need.
func canGCM(m cryptoki, slot uint) error {
	for _, need := range []struct {
		name      string
		mechanism uint
		flags     uint
	}{
		{"CKM_AES_KEY_GEN", pkcs11.CKM_AES_KEY_GEN, pkcs11.CKF_GENERATE},
		{"CKM_AES_GCM", pkcs11.CKM_AES_GCM, pkcs11.CKF_ENCRYPT | pkcs11.CKF_DECRYPT},
	} {
		info, err := m.GetMechanismInfo(slot, []*pkcs11.Mechanism{pkcs11.NewMechanism(need.mechanism, nil)})
		switch {
		case answers(err, pkcs11.CKR_MECHANISM_INVALID) || err == nil && info.Flags&need.flags != need.flags:
			return fmt.Errorf("%w: the token does not do %s; oubli needs it (a setting of the token, or a newer firmware, "+
				"may bring it)", keystore.ErrMismatch, need.name)
		case err != nil:
			return err
		}
	}
	return nil
}
