//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/oubli/oubli/keystore"
)

// session is logged in to the token.
type session struct {
	cryptoki
	handle pkcs11.SessionHandle
	serial string // of the token, when the session was opened

	replaces []string // serial numbers of tokens whose keys were moved to this one
}

// tries is how often a call is made that a fresh session may do: modules lose sessions, and
// some, SoftHSM among them, now and then fail where another process writes to the token.
const tries = 4

// patience bounds a call, with the waiting for its turn.
const patience = 2 * time.Minute

var errPatience = errors.New("the token does not answer")

// do runs f with the session when its turn comes, and again with a fresh one after a failure
// that may pass: f must bear that. If the context ends meanwhile, or the token answers
// nothing for too long, do returns and f goes on by itself: f shares nothing with its caller
// but what it returns.
func do[T any](ctx context.Context, k *Keys, op string, f func(*session) (T, error)) (T, error) {
	var none T
	ctx, cancel := context.WithTimeoutCause(ctx, k.patience, errPatience)
	defer cancel()
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return none, k.ended(ctx, op)
	}
	if ctx.Err() != nil {
		<-k.turn
		return none, k.ended(ctx, op)
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-k.turn }()
		v, err := attempt(ctx, k, f)
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, k.explain(op, r.err)
	case <-ctx.Done():
		return none, k.ended(ctx, op)
	}
}

func (k *Keys) ended(ctx context.Context, op string) error {
	return fmt.Errorf("%s: %s: %w: %w", k.url, op, keystore.ErrUnavailable, context.Cause(ctx))
}

func attempt[T any](ctx context.Context, k *Keys, f func(*session) (T, error)) (T, error) {
	for try := 1; ; try++ {
		var v T
		err := k.ready()
		if err == nil {
			v, err = f(k.session)
		}
		if mayPass(err) || answers(err) {
			k.hangUp() // what is left of the session is not known
		}
		if err == nil || !mayPass(err) || try == tries || ctx.Err() != nil {
			return v, err
		}
		time.Sleep(time.Duration(try*try) * 5 * time.Millisecond)
	}
}

// ready sees to it that there is a session that is logged in.
func (k *Keys) ready() error {
	if k.closed {
		return fmt.Errorf("%w: %w", keystore.ErrUnavailable, keystore.ErrClosed)
	}
	if k.session != nil && k.session.loggedIn() {
		return nil
	}
	k.hangUp()
	s, err := k.connect()
	if err == nil {
		k.session = s
	}
	return err
}

func (k *Keys) hangUp() {
	if k.session != nil {
		k.module.CloseSession(k.session.handle)
	}
	k.session = nil
}

// Close closes the session, after the call that is under way. It does not log out, which
// would count for the whole process.
func (k *Keys) Close() error {
	k.turn <- struct{}{}
	defer func() { <-k.turn }()
	k.closed = true
	k.hangUp()
	return nil
}

// connect finds the token, opens a session and logs in.
func (k *Keys) connect() (*session, error) {
	if err := initialize(k.module); err != nil {
		return nil, err
	}
	slot, token, err := find(k.module, k.config)
	if err != nil {
		return nil, err
	}
	if err := fit(token); err != nil {
		return nil, err
	}
	if k.serial == "" {
		k.serial = serialOf(token)
	}
	if k.serial != serialOf(token) {
		return nil, fmt.Errorf("%w: another token of that label is there, of serial number %q and not %q as before "+
			"(if that is on purpose, start this program again)", keystore.ErrUnavailable, serialOf(token), k.serial)
	}
	handle, err := k.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return nil, err
	}
	s := &session{k.module, handle, k.serial, k.config.Replaces}
	if !s.loggedIn() {
		err = k.login(s, token)
	}
	if err == nil && !s.loggedIn() {
		err = errHidden
	}
	if err != nil {
		k.module.CloseSession(handle)
		return nil, err
	}
	return s, nil
}

// loggedIn tells whether the session may see private objects.
func (s *session) loggedIn() bool {
	info, err := s.GetSessionInfo(s.handle)
	return err == nil && info.State == pkcs11.CKS_RW_USER_FUNCTIONS
}

// sees tells whether the session sees what there is of private objects: it is logged in, and
// to the token that it was opened on, which answers. It is asked where something is not
// there, and not before each call: SoftHSM bears it badly if another process logs in while
// this one looks at the token.
func (s *session) sees() bool {
	info, err := s.GetSessionInfo(s.handle)
	if err != nil || info.State != pkcs11.CKS_RW_USER_FUNCTIONS {
		return false
	}
	token, err := s.GetTokenInfo(info.SlotID)
	return err == nil && serialOf(token) == s.serial
}

// login tries a PIN once: after a few wrong ones a token locks.
func (k *Keys) login(s *session, token pkcs11.TokenInfo) error {
	switch {
	case token.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return pkcs11.Error(pkcs11.CKR_PIN_LOCKED)
	case token.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return fmt.Errorf("%w: a PIN was wrong so often that the next wrong one locks the token: oubli does not try "+
			"(log in once with the tool of the token's maker)", keystore.ErrUnavailable)
	}
	pin, err := k.config.PIN()
	if err != nil {
		return fmt.Errorf("the PIN can't be read: %w: %w", keystore.ErrUnavailable, err)
	}
	sum := maphash.String(k.seed, pin)
	if k.refused && sum == k.refusedSum {
		return fmt.Errorf("%w: the token refused this PIN before; it is not tried again, since tokens lock "+
			"(correct what pin-source names)", keystore.ErrUnavailable)
	}
	err = s.Login(s.handle, pkcs11.CKU_USER, pin)
	switch {
	case answers(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN): // by another session of the process
		return nil
	case answers(err, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE):
		k.refused, k.refusedSum = true, sum
	}
	return err
}
