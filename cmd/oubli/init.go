package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/keystore"
)

// standardGrace is how long keystore backups stay good, where init is not told.
const standardGrace = 168 * time.Hour

// initOptions are the flags of init.
type initOptions struct {
	keystore.CreateOptions
	leased  bool // the lease was named
	discard bool
}

func (a *app) initCommand() *cobra.Command {
	var o initOptions
	c := &cobra.Command{
		Use:   "init",
		Short: "Make a keystore and a root",
		Long: `Makes a keystore and a root; in PostgreSQL the schema as well. Back the keystore up.
Give the root a mirror on another disk instead, with
--root file:/a/oubli.root,file:/b/oubli.root: whoever loses the root has lost everybody,
and an old copy of it undoes the erasures since, wherever an old copy of the keystore is
found as well.

The grace is how long backups of the keystore stay good: an erasure is final when it
has passed, for only then is the root gone that opens them. With --grace 0 an erasure
is final at once, and kills every earlier backup of the keystore.

In PostgreSQL several processes share the keystore. The lease is how long each may serve
from its memory before it asks the database again, and so how long erasing somebody
waits. A process that cannot ask serves nobody.

An init that was interrupted can be run again.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			o.leased = c.Flags().Changed("lease")
			return a.init(c.Context(), &o)
		},
	}
	c.Flags().DurationVar(&o.Grace, "grace", standardGrace, "how long backups of the keystore stay good")
	c.Flags().IntVar(&o.Shards, "shards", 8192, "a power of two; more make a lone erasure cheaper")
	c.Flags().DurationVar(&o.Lease, "lease", keystore.DefaultLease, "for PostgreSQL: how long a process may serve from its memory, 50ms to 1m")
	c.Flags().BoolVar(&o.discard, "discard-root", false, "destroy a root that has no keystore, and with it all that it opens")
	return c
}

// check refuses what no keystore could be made with.
func (o *initOptions) check(at location) error {
	switch {
	case o.Grace < 0:
		return usagef("--grace %v: it cannot be negative", o.Grace)
	case o.Shards < 1 || o.Shards > 1<<16 || o.Shards&(o.Shards-1) != 0:
		return usagef("--shards %d: a power of two from 1 to 65536 is needed", o.Shards)
	case o.leased && !at.shared():
		return usagef("--lease is for a keystore in PostgreSQL: no other process shares this one")
	case o.Lease < 50*time.Millisecond || o.Lease > time.Minute || o.Lease%time.Millisecond != 0:
		return usagef("--lease %v: whole milliseconds from 50ms to 1m are needed", o.Lease)
	}
	return nil
}

func (a *app) init(ctx context.Context, o *initOptions) (err error) {
	at, err := a.location()
	if err != nil {
		return err
	}
	if err := o.check(at); err != nil {
		return err
	}
	if !at.shared() {
		o.Lease = 0
	}
	root, err := a.newRootStore(ctx, a.rootURL)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.giveUp(ctx))
		} else {
			err = root.Close()
		}
	}()
	oldRoots, err := root.found(ctx)
	if err != nil {
		return err
	}
	// The keystore first: whoever makes it may make the root.
	b, undo, err := at.create(ctx)
	if errors.Is(err, keystore.ErrExists) {
		if len(oldRoots) > 0 {
			err = fmt.Errorf("%w; so do %s", err, strings.Join(oldRoots, ", "))
		}
		return withHint(err, "nothing was changed; --keystore and --root name other places")
	}
	if err != nil {
		return err
	}
	if len(oldRoots) > 0 {
		if !o.discard {
			err = fmt.Errorf("a root %w, but no keystore at %s: %s", keystore.ErrExists, b.Name(), strings.Join(oldRoots, ", "))
			return withHint(errors.Join(err, undo()), "if the keystore was lost, put a copy back and run oubli restore; --discard-root destroys the root, and with it all that it opens (where there never was a keystore, an oubli root rehearse or an init that was killed has left it)")
		}
		if err := root.Remove(ctx); err != nil {
			return errors.Join(err, undo())
		}
	}
	ours := &createdRoots{RootStore: root, beside: b, shelf: root.shelf}
	if err := keystore.Create(ctx, b, ours, &o.CreateOptions); err != nil {
		return failedInit(ctx, err, ours, root, undo)
	}
	a.warnOfOneDatabase(root, b)
	name := b.Name()
	if err := b.Close(); err != nil {
		return err
	}
	a.made(name, root, o, at.shared())
	return nil
}

// made says what an init made, and what that means.
func (a *app) made(name string, root *root, o *initOptions, shared bool) {
	a.say("made the keystore %s and the root %s", name, root.name())
	if place := root.Place(); o.Grace+place.Delay == 0 {
		a.say("grace 0: an erasure is final at once, and kills every backup of the keystore made before it")
	} else {
		a.say("grace %v: an erasure is final %v after it; a keystore backup older than %v opens nothing", o.Grace, o.Grace+place.Delay, o.Grace)
	}
	if shared {
		where := ""
		if root.file != nil {
			where = "; the processes are on this host, as the root is"
		}
		a.say("lease %v: erasing somebody waits that long, until no process serves from its memory%s", o.Lease, where)
	}
	if root.file != nil {
		a.say("losing the root loses everybody: keep a mirror of it on another disk, and keep it out of the keystore's backups")
		return
	}
	a.say("losing the root loses everybody, and a copy of the service's storage brings destroyed roots back: docs/roots.md tells what to back up, and for how long")
	a.say("run oubli root rehearse, which shows whether what is destroyed there is gone")
}

// createdRoots remembers whether it was this call that made the root.
type createdRoots struct {
	keystore.RootStore
	beside keystore.Backend // where the keystore is to stand
	shelf  keystore.Backend // of the root; nil if it has none
	done   bool
}

func (c *createdRoots) Create(ctx context.Context, contents keystore.RootContents) error {
	if err := c.RootStore.Create(ctx, contents); err != nil {
		return err
	}
	c.done = true
	if c.shelf == nil {
		return nil
	}
	empty, err := isEmpty(ctx, c.beside)
	if err != nil || empty {
		return err
	}
	// Two names of one database. Nothing else stands there yet.
	err = errors.Join(keptTwice(c.beside.Name()), c.Remove(context.WithoutCancel(ctx)))
	c.done = false
	return err
}

// failedInit takes away what an init made that failed with err.
func failedInit(ctx context.Context, err error, ours *createdRoots, root *root, undo func() error) error {
	if !ours.done {
		return errors.Join(err, undo()) // if a root is there, somebody else made it
	}
	undoErr := undo()
	if undoErr != nil && !errors.Is(err, keystore.ErrExists) { // then the keystore is another's
		return withHint(errors.Join(err, undoErr), "the keystore may have been made all the same, so its root was left: oubli status tells; if there is none, run oubli init --discard-root")
	}
	ctx = context.WithoutCancel(ctx)
	removeErr := root.Remove(ctx)
	left, leftErr := root.found(ctx)
	if len(left) > 0 {
		leftErr = errors.Join(removeErr, leftErr, fmt.Errorf("left over, and serving nobody: %s", strings.Join(left, ", ")))
	}
	return errors.Join(err, leftErr)
}

// isEmpty tells whether a backend holds no record.
func isEmpty(ctx context.Context, b keystore.Backend) (bool, error) {
	records, err := b.Scan(ctx, []byte{0}, []byte{0xff, 0xff, 0xff}, 1)
	return len(records) == 0, err
}

// existing returns those of the paths under which something stands.
func existing(paths []string) []string {
	var found []string
	for _, p := range paths {
		if _, err := os.Lstat(p); err == nil {
			found = append(found, p)
		}
	}
	return found
}
