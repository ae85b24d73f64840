package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
)

// restoring ends the name of a copy that is being made fit to serve. It is never
// removed once work on it has begun: the roots may have advanced past everything else.
const restoring = ".restoring"

// copying stands in the name of a copy that is not whole yet.
const copying = ".copy-"

// restore makes a copy of the file in args fit to serve, and puts it in place.
func (f boltFile) restore(ctx context.Context, a *app, args []string) (err error) {
	if len(args) != 1 {
		return withHint(usagef("oubli restore takes one KEYSTORE-COPY, got %d arguments", len(args)), "oubli restore --help")
	}
	from, path := strings.TrimPrefix(args[0], "bolt:"), f.path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a link stays one
	}
	roots, err := a.rootStore(ctx, a.rootURL, writing)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, roots.Close()) }()
	unlock, err := lockOld(path)
	if err != nil {
		return err
	}
	defer unlock()
	temp := path + restoring
	if err := stage(ctx, from, temp); err != nil {
		return err
	}
	before, err := roots.Load(ctx)
	if err != nil {
		return errors.Join(err, dropUnlessGiven(from, temp))
	}
	repaired, err := boltstore.Repair(temp)
	if err != nil {
		return errors.Join(err, dropUnlessGiven(from, temp))
	}
	if repaired {
		a.warn("one of the two meta pages of %s is damaged; the other is used, which may lack what was written last", from)
	}
	report, err := a.revive(ctx, boltFile{temp}, roots)
	if err != nil {
		after, loadErr := roots.Load(context.WithoutCancel(ctx))
		if loadErr == nil && untouched(before, after) {
			return errors.Join(err, dropUnlessGiven(from, temp))
		}
		if report.Epoch > 0 && errors.Is(err, keystore.ErrMismatch) {
			return withHint(err, "%s is restored, but names another place of the root; if the root was moved here on purpose, run oubli root move --keystore bolt:%s and then oubli restore %s", temp, temp, temp)
		}
		return withHint(err, "%s is half restored, and may be the only keystore that the roots still open: keep it, and go on with oubli restore %s", temp, temp)
	}
	old, err := replace(temp, path)
	if err != nil {
		return withHint(err, "oubli restore %s goes on", temp)
	}
	a.revived(path, report)
	if old != "" {
		a.say("what stood there before is now %s; delete it when nobody needs it", old)
	}
	return nil
}

// stage makes the file to work on: a copy of from, or from itself where it is what an
// interrupted restore left.
func stage(ctx context.Context, from, temp string) error {
	if same(from, temp) {
		return nil
	}
	if len(existing([]string{temp})) > 0 {
		return withHint(fmt.Errorf("%s is there: a restore was interrupted", temp),
			"oubli restore %s goes on with it; delete it only if its copy is still good", temp)
	}
	stale, err := beside(strings.TrimSuffix(temp, restoring), func(name, base string) bool {
		return strings.HasPrefix(name, "."+base+copying)
	})
	if err != nil {
		return err
	}
	for _, path := range stale { // a copy that a crash left half done
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return copyFile(ctx, from, temp)
}

func same(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// dropUnlessGiven removes the working copy, on which nothing has been done.
func dropUnlessGiven(from, temp string) error {
	if same(from, temp) {
		return nil
	}
	return os.Remove(temp)
}

// replace gives temp its name, atomically, and keeps what had it.
func replace(temp, path string) (old string, err error) {
	if len(existing([]string{path})) > 0 {
		old = path + ".replaced-" + time.Now().UTC().Format("20060102T150405.000000000Z")
		if err := os.Link(path, old); err != nil {
			return "", err
		}
	}
	if err := os.Rename(temp, path); err != nil {
		return "", err
	}
	return old, syncDir(filepath.Dir(path))
}

// lockOld keeps others away from the keystore that is to be replaced. It may be
// damaged, so its lock is taken without looking inside.
func lockOld(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("keystore %s: %w (stop what runs on it first)", path, keystore.ErrLocked)
	}
	return func() { f.Close() }, nil
}

// copyFile makes a durable copy that has its name only when it is whole.
func copyFile(ctx context.Context, from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), "."+strings.TrimSuffix(filepath.Base(to), restoring)+copying+"*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	_, err = io.Copy(out, interruptible{ctx, in})
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	if err := os.Link(out.Name(), to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}
