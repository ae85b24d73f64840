package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	berrors "go.etcd.io/bbolt/errors"

	"github.com/oubli/oubli/keystore"
)

const (
	hintRestore = "put a backup in its place with oubli restore"
	hintLocked  = "an application probably runs on it, and bolt is for one process at a time: stop it, or ask through it"
	hintFull    = "nothing was lost: make room and try again"
	hintReopen  = "close the keystore and open it again"
)

// explain turns the error of an operation on the file at path into one that wraps a
// sentinel of keystore and tells what to do next.
func explain(path, op string, err error) error {
	sentinel, hint := keystore.ErrUnavailable, ""
	switch {
	case err == nil:
		return nil
	case errors.Is(err, keystore.ErrTampered):
		sentinel, hint = nil, hintRestore
	case errors.Is(err, keystore.ErrLocked):
		sentinel, hint = nil, hintLocked
	case isSentinel(err):
		sentinel = nil
	case isFull(err):
		hint = hintFull
	case errors.Is(err, fs.ErrNotExist):
		sentinel, hint = keystore.ErrNotFound, "is the path right? a new keystore is made with oubli init"
	case errors.Is(err, fs.ErrExist):
		sentinel, hint = keystore.ErrExists, "a keystore is never overwritten"
	case errors.Is(err, fs.ErrPermission):
		hint = "this user may not read and write the file and its folder"
	}
	msg := fmt.Sprintf("bolt keystore %s: %s", path, op)
	if hint != "" {
		hint = " (" + hint + ")"
	}
	if sentinel == nil {
		return fmt.Errorf("%s: %w%s", msg, err, hint)
	}
	return fmt.Errorf("%s: %w: %w%s", msg, sentinel, err, hint)
}

func isSentinel(err error) bool {
	for _, s := range []error{
		keystore.ErrUnavailable, keystore.ErrNotFound, keystore.ErrExists, keystore.ErrConflict,
		keystore.ErrInvalid, keystore.ErrReadOnly, keystore.ErrClosed,
	} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

// isFull tells whether a commit failed for want of room before anything in the file
// was replaced, so that the store can be used on. Other failures of a commit, above
// all of an fsync, leave open what is on the disk.
func isFull(err error) bool {
	if errors.Is(err, berrors.ErrMaxSizeReached) {
		return true
	}
	// bbolt gives the reason of this one as text only
	if strings.HasPrefix(err.Error(), "file resize error") {
		return true
	}
	var pathErr *fs.PathError
	if !errors.As(err, &pathErr) || pathErr.Op != "write" {
		return false
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EFBIG) || errors.Is(err, syscall.EDQUOT)
}

func canceled(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", keystore.ErrUnavailable, context.Cause(ctx))
}
