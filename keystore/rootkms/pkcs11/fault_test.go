//go:build cgo

package pkcs11

import (
	"crypto/rand"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/miekg/pkcs11"
)

// Tokens of other makers, and tokens in trouble: each is SoftHSM behind one change.

// hardware says that it is.
type hardware struct{ cryptoki }

func (f hardware) GetSlotInfo(slot uint) (pkcs11.SlotInfo, error) {
	info, err := f.cryptoki.GetSlotInfo(slot)
	info.Flags |= pkcs11.CKF_HW_SLOT
	return info, err
}

// flagged has other flags and another serial number, once armed.
type flagged struct {
	cryptoki
	on         *atomic.Bool
	set, clear uint
	serial     string
}

func (f flagged) GetTokenInfo(slot uint) (pkcs11.TokenInfo, error) {
	info, err := f.cryptoki.GetTokenInfo(slot)
	if f.on.Load() {
		info.Flags = info.Flags&^f.clear | f.set
		if f.serial != "" {
			info.SerialNumber = f.serial
		}
	}
	return info, err
}

// lacking does a mechanism for less, or not at all.
type lacking struct {
	cryptoki
	mechanism, flags uint
}

func (f lacking) GetMechanismInfo(slot uint, m []*pkcs11.Mechanism) (pkcs11.MechanismInfo, error) {
	info, err := f.cryptoki.GetMechanismInfo(slot, m)
	if m[0].Mechanism == f.mechanism {
		info.Flags &= f.flags
		if f.flags == 0 {
			err = pkcs11.Error(pkcs11.CKR_MECHANISM_INVALID)
		}
	}
	return info, err
}

// making makes keys with other attributes than it was asked for.
type making struct {
	cryptoki
	typ   uint
	value any
}

func (f making) GetAttributeValue(s pkcs11.SessionHandle, o pkcs11.ObjectHandle, a []*pkcs11.Attribute) ([]*pkcs11.Attribute, error) {
	if a[0].Type == f.typ {
		return []*pkcs11.Attribute{pkcs11.NewAttribute(f.typ, f.value)}, nil
	}
	return f.cryptoki.GetAttributeValue(s, o, a)
}

// old does not know an attribute.
type old struct {
	cryptoki
	typ uint
}

func (f old) GenerateKey(s pkcs11.SessionHandle, m []*pkcs11.Mechanism, a []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	if slices.ContainsFunc(a, func(a *pkcs11.Attribute) bool { return a.Type == f.typ }) {
		return 0, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)
	}
	return f.cryptoki.GenerateKey(s, m, a)
}

// careless does not authenticate associated data.
type careless struct{ cryptoki }

func (f careless) seal(s pkcs11.SessionHandle, key pkcs11.ObjectHandle, nonce, _, plain []byte) ([]byte, []byte, error) {
	return f.cryptoki.seal(s, key, nonce, nil, plain)
}

func (f careless) open(s pkcs11.SessionHandle, key pkcs11.ObjectHandle, nonce, _, sealed []byte) ([]byte, error) {
	return f.cryptoki.open(s, key, nonce, nil, sealed)
}

// hoarding keeps what it says it destroyed.
type hoarding struct {
	cryptoki
	answer error
}

func (f hoarding) DestroyObject(pkcs11.SessionHandle, pkcs11.ObjectHandle) error { return f.answer }

// ownNonce takes a nonce of its own.
type ownNonce struct {
	cryptoki
	tell      string // how it tells: "in place", "behind", or not
	wantZeros bool
}

func (f ownNonce) seal(s pkcs11.SessionHandle, key pkcs11.ObjectHandle, nonce, ad, plain []byte) ([]byte, []byte, error) {
	if f.wantZeros && !slices.Equal(nonce, make([]byte, len(nonce))) {
		return nil, nil, pkcs11.Error(pkcs11.CKR_MECHANISM_PARAM_INVALID)
	}
	own := make([]byte, 16)
	if f.tell == "in place" {
		own = own[:len(nonce)]
	}
	rand.Read(own)
	sealed, own, err := f.cryptoki.seal(s, key, own, ad, plain)
	switch f.tell {
	case "in place":
		return sealed, own, err
	case "behind":
		return append(sealed, own...), nonce, err
	}
	return sealed, nonce, err
}

// failing answers an error to a call, as often as told; it may do the call before.
type failing struct {
	cryptoki
	call   string
	answer error
	times  *atomic.Int32
	does   bool
}

func newFailing(call string, answer uint, times int32, does bool) failing {
	f := failing{call: call, answer: pkcs11.Error(answer), times: new(atomic.Int32), does: does}
	f.times.Store(times)
	return f
}

func (f failing) on(m cryptoki) cryptoki { f.cryptoki = m; return f }

func fail[T any](f failing, call string, do func() (T, error)) (T, error) {
	var none T
	if f.call == call && f.times.Add(-1) >= 0 {
		if f.does {
			do()
		}
		return none, f.answer
	}
	return do()
}

func (f failing) GenerateKey(s pkcs11.SessionHandle, m []*pkcs11.Mechanism, a []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	return fail(f, "generate", func() (pkcs11.ObjectHandle, error) { return f.cryptoki.GenerateKey(s, m, a) })
}

func (f failing) DestroyObject(s pkcs11.SessionHandle, o pkcs11.ObjectHandle) error {
	_, err := fail(f, "destroy", func() (struct{}, error) { return struct{}{}, f.cryptoki.DestroyObject(s, o) })
	return err
}

func (f failing) FindObjectsInit(s pkcs11.SessionHandle, a []*pkcs11.Attribute) error {
	_, err := fail(f, "find", func() (struct{}, error) { return struct{}{}, f.cryptoki.FindObjectsInit(s, a) })
	return err
}

func (f failing) OpenSession(slot, flags uint) (pkcs11.SessionHandle, error) {
	return fail(f, "session", func() (pkcs11.SessionHandle, error) { return f.cryptoki.OpenSession(slot, flags) })
}

func (f failing) open(s pkcs11.SessionHandle, key pkcs11.ObjectHandle, nonce, ad, sealed []byte) ([]byte, error) {
	return fail(f, "open", func() ([]byte, error) { return f.cryptoki.open(s, key, nonce, ad, sealed) })
}

// leaving fails to decrypt with the first of n calls, and with all after the others; 0: with none.
type leaving struct {
	cryptoki
	n *atomic.Int32
}

func (f leaving) open(s pkcs11.SessionHandle, key pkcs11.ObjectHandle, nonce, ad, sealed []byte) ([]byte, error) {
	switch n := f.n.Load(); {
	case n == 0:
		return f.cryptoki.open(s, key, nonce, ad, sealed)
	case n == 3 || n == 1:
		f.n.Store(max(n-1, 1))
		return nil, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR)
	default:
		f.n.Store(n - 1)
		return f.cryptoki.open(s, key, nonce, ad, sealed)
	}
}

// away is unplugged while it is true.
type away struct {
	cryptoki
	is *atomic.Bool
}

func (f away) GetSlotList(present bool) ([]uint, error) {
	if f.is.Load() {
		return nil, nil
	}
	return f.cryptoki.GetSlotList(present)
}

func (f away) GetSessionInfo(s pkcs11.SessionHandle) (pkcs11.SessionInfo, error) {
	if f.is.Load() {
		return pkcs11.SessionInfo{}, pkcs11.Error(pkcs11.CKR_DEVICE_REMOVED)
	}
	return f.cryptoki.GetSessionInfo(s)
}

// loggedOut has somebody else in the process log out just before a search.
type loggedOut struct {
	cryptoki
	real  *pkcs11.Ctx
	times *atomic.Int32
}

func (f loggedOut) FindObjectsInit(s pkcs11.SessionHandle, a []*pkcs11.Attribute) error {
	if f.times.Add(-1) >= 0 {
		if err := f.real.Logout(s); err != nil {
			return err
		}
	}
	return f.cryptoki.FindObjectsInit(s, a)
}

// logins counts them.
type logins struct {
	cryptoki
	n *atomic.Int32
}

func (f logins) Login(s pkcs11.SessionHandle, user uint, pin string) error {
	f.n.Add(1)
	return f.cryptoki.Login(s, user, pin)
}

// overtaken has another session log in just before its own.
type overtaken struct{ cryptoki }

func (f overtaken) Login(s pkcs11.SessionHandle, user uint, pin string) error {
	if err := f.cryptoki.Login(s, user, pin); err != nil {
		return err
	}
	return f.cryptoki.Login(s, user, pin)
}

// hanging does not answer until it is told to.
type hanging struct {
	cryptoki
	on      *atomic.Bool
	release chan struct{}
}

func (f hanging) GenerateKey(s pkcs11.SessionHandle, m []*pkcs11.Mechanism, a []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	if f.on.Load() {
		<-f.release
	}
	return f.cryptoki.GenerateKey(s, m, a)
}

// objects counts what is on the token.
func objects(t *testing.T, k *Keys) int {
	t.Helper()
	if err := k.ready(); err != nil {
		t.Fatal(err)
	}
	if err := k.session.FindObjectsInit(k.session.handle, nil); err != nil {
		t.Fatal(err)
	}
	all, _, err := k.session.FindObjects(k.session.handle, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.session.FindObjectsFinal(k.session.handle); err != nil {
		t.Fatal(err)
	}
	return len(all)
}
