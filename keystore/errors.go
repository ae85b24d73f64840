package keystore

import (
	"errors"
	"fmt"
	"strings"
)

// Sentinel errors, matched with [errors.Is]. Each has one meaning.
//
// An outage, a wrong path or a lost file is [ErrUnavailable] or one of the
// errors about the keystore as a whole; it never reads as an erasure.
var (
	// ErrErased: the subject's keys were destroyed on purpose.
	ErrErased = errors.New("subject is erased")
	// ErrWithdrawn: the subject lives on, the keys of this purpose were destroyed on purpose.
	ErrWithdrawn = errors.New("purpose is withdrawn")
	// ErrErasing: an erasure was requested; only pre-anonymize receivers still read.
	ErrErasing = errors.New("subject is being erased")
	// ErrRestricted: reading and writing need a listed purpose, see [WithPurpose].
	ErrRestricted = errors.New("subject is restricted")
	// ErrHeld: a hold forbids destroying the subject's keys until it is released.
	ErrHeld = errors.New("subject is under a hold")
	// ErrWaiting: receivers that must acknowledge the erasure have not.
	ErrWaiting = errors.New("erasure waits for receivers")
	// ErrUnknownSubject: no key was ever made for the subject. Reading its data is an alarm.
	ErrUnknownSubject = errors.New("unknown subject")
	// ErrUnknownKey: the subject is known, this key id never was among its keys.
	ErrUnknownKey = errors.New("unknown key")
	// ErrTampered: something does not authenticate or does not parse.
	ErrTampered = errors.New("tampered or corrupt")
	// ErrState: the subject's state does not allow this change.
	ErrState = errors.New("not possible in this state")
	// ErrInvalid: the caller passed something that can never be right.
	ErrInvalid = errors.New("invalid")

	// ErrUnavailable: the keystore or root store could not be reached or read.
	ErrUnavailable = errors.New("keystore unavailable")
	// ErrLocked: another process holds the keystore; it is unavailable too.
	ErrLocked = fmt.Errorf("locked by another process: %w", ErrUnavailable)
	// ErrConflict: a named revision no longer holds. Backends return it from Commit;
	// the Store retries and returns it only when it never won.
	ErrConflict = errors.New("revision conflict")
	// ErrExists: there already is a keystore or a root where one should be made.
	ErrExists = errors.New("already exists")
	// ErrNotFound: there is no keystore or no root where one should be.
	ErrNotFound = errors.New("not found")
	// ErrMismatch: keystore and root store do not belong together, or not here:
	// another store's root, an older or newer root, another host or place.
	ErrMismatch = errors.New("keystore and root do not match")
	// ErrBehind: the keystore is older than its anchor: it came back from a backup
	// and must go through a restore, which replays the erasures made since.
	ErrBehind = errors.New("keystore is behind its anchor")
	// ErrReadOnly: the store was opened for reading.
	ErrReadOnly = errors.New("opened read-only")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store is closed")
)

// Error says what failed, on whom, and why. It holds neither keys nor personal values.
type Error struct {
	Op      string  // what was being done, as "open field"
	Subject Subject // whose key, if it was about one
	KeyID   uint32  // which data key, 0 if none
	Err     error   // the cause; wraps a sentinel
	Hint    string  // what to do next, may be empty
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if !e.Subject.IsZero() {
		fmt.Fprintf(&b, " %s", e.Subject)
	}
	if e.KeyID != 0 {
		fmt.Fprintf(&b, " key %08x", e.KeyID)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	if e.Hint != "" {
		fmt.Fprintf(&b, " (%s)", e.Hint)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }
