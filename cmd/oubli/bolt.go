package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
)

// boltFile is a location in a file, for one process at a time.
type boltFile struct{ path string }

func (f boltFile) open(_ context.Context, how access) (keystore.Backend, error) {
	b, err := boltstore.Open(f.path, &boltstore.Options{ReadOnly: bool(how)})
	if errors.Is(err, keystore.ErrLocked) {
		return nil, withHint(err, "if it is oubli serve that has it, do this on its page; or end it with Ctrl-C, and start it again afterwards: what was begun goes on")
	}
	if err != nil {
		return nil, err // not a nil *boltstore.Store
	}
	return b, nil
}

func (f boltFile) create(ctx context.Context) (keystore.Backend, func() error, error) {
	if len(existing([]string{f.path})) > 0 && !f.dropUnfinished(ctx) {
		return nil, nil, fmt.Errorf("%w: %s", keystore.ErrExists, f.path)
	}
	b, err := boltstore.Create(f.path, nil)
	if err != nil {
		return nil, nil, err
	}
	// Removed while it is locked: nobody else can have put a keystore there.
	return b, func() error { return errors.Join(os.Remove(f.path), b.Close()) }, nil
}

// dropUnfinished removes a keystore file without a single record: what an interrupted
// init left. One that works on it right now holds its lock. It tells whether it did.
func (f boltFile) dropUnfinished(ctx context.Context) bool {
	b, err := boltstore.Open(f.path, nil)
	if err != nil {
		return false
	}
	defer b.Close()
	empty, err := isEmpty(ctx, b)
	return err == nil && empty && os.Remove(f.path) == nil
}

func (f boltFile) upgrade(context.Context) (string, error) {
	return "a bolt keystore has no schema to upgrade: there is nothing to do", nil
}

func (f boltFile) leftovers() ([]string, error) {
	return beside(f.path, func(name, base string) bool {
		return strings.HasPrefix(name, "."+base+".new-") || strings.HasPrefix(name, "."+base+copying) || name == base+restoring
	})
}

func (f boltFile) shared() bool { return false }

func (f boltFile) same(other location) bool {
	o, ok := other.(boltFile)
	if !ok {
		return false
	}
	a, err1 := filepath.Abs(f.path)
	b, err2 := filepath.Abs(o.path)
	return err1 == nil && err2 == nil && a == b || same(f.path, o.path)
}
