//go:build cgo

package pkcs11

import (
	"context"
	"fmt"
	"hash/maphash"

	"github.com/miekg/pkcs11"

	"github.com/oubli/oubli/keystore"
)

// session is logged in to the token, for one caller at a time.
type session struct {
	cryptoki
	handle pkcs11.SessionHandle
	serial string // of the token, when the session was opened
}

// sessions is how many calls of one Keys are under way at most.
const sessions = 4

// do runs f with a session, a second time with a fresh one if the first was lost: f must
// bear that. If the context ends meanwhile, do returns and f goes on by itself: f shares
// nothing with its caller but what it returns.
func do[T any](ctx context.Context, k *Keys, op string, f func(*session) (T, error)) (T, error) {
	var none T
	select {
	case k.room <- struct{}{}:
	case <-ctx.Done():
		return none, k.ended(ctx, op)
	}
	if ctx.Err() != nil {
		<-k.room
		return none, k.ended(ctx, op)
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-k.room }()
		v, err := attempt(k, f)
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

func attempt[T any](k *Keys, f func(*session) (T, error)) (T, error) {
	for again := false; ; again = true {
		s, err := k.take()
		if err != nil {
			var none T
			return none, err
		}
		v, err := f(s)
		k.giveBack(s, err)
		if err == nil || again || !isLost(err) {
			return v, err
		}
	}
}

// take returns a session that is logged in: one that lies idle, or a new one.
func (k *Keys) take() (*session, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, fmt.Errorf("%w: %w", keystore.ErrUnavailable, keystore.ErrClosed)
	}
	for len(k.idle) > 0 {
		s := k.idle[len(k.idle)-1]
		k.idle = k.idle[:len(k.idle)-1]
		if s.loggedIn() {
			return s, nil
		}
		k.module.CloseSession(s.handle)
	}
	return k.connect()
}

// giveBack keeps a session for later. One that failed is closed, with all that lie idle if
// it was lost: what is left of it is not known.
func (k *Keys) giveBack(s *session, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil && !k.closed {
		k.idle = append(k.idle, s)
		return
	}
	k.module.CloseSession(s.handle)
	if isLost(err) {
		k.closeIdle()
	}
}

func (k *Keys) closeIdle() {
	for _, s := range k.idle {
		k.module.CloseSession(s.handle)
	}
	k.idle = nil
}

// Close closes the sessions; calls that are under way close theirs when they end. It does
// not log out, which would count for the whole process.
func (k *Keys) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	k.closeIdle()
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
	handle, err := k.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return nil, err
	}
	s := &session{k.module, handle, token.SerialNumber}
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

// loggedIn tells whether the session sees private objects of the token that it was opened on.
func (s *session) loggedIn() bool {
	info, err := s.GetSessionInfo(s.handle)
	if err != nil || info.State != pkcs11.CKS_RW_USER_FUNCTIONS {
		return false
	}
	token, err := s.GetTokenInfo(info.SlotID)
	return err == nil && token.SerialNumber == s.serial
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
