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
	"github.com/oubli/oubli/keystore/boltstore"
)

// standardGrace is how long keystore backups stay good, where init is not told.
const standardGrace = 168 * time.Hour

func (a *app) initCommand() *cobra.Command {
	var o keystore.CreateOptions
	var discard bool
	c := &cobra.Command{
		Use:   "init",
		Short: "Make a keystore and a root",
		Long: `Makes a keystore and a root. Back the keystore up. Give the root a mirror on another
disk instead, with --root file:/a/oubli.root,file:/b/oubli.root: whoever loses the root
has lost everybody, and an old copy of it undoes the erasures since, wherever an old copy
of the keystore is found as well.

The grace is how long backups of the keystore stay good: an erasure is final when it
has passed, for only then is the root gone that opens them. With --grace 0 an erasure
is final at once, and kills every earlier backup of the keystore.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return a.init(c.Context(), &o, discard) },
	}
	c.Flags().DurationVar(&o.Grace, "grace", standardGrace, "how long backups of the keystore stay good")
	c.Flags().IntVar(&o.Shards, "shards", 8192, "a power of two; more make a lone erasure cheaper")
	c.Flags().BoolVar(&discard, "discard-root", false, "destroy a root that has no keystore, and with it all that it opens")
	return c
}

func (a *app) init(ctx context.Context, o *keystore.CreateOptions, discard bool) (err error) {
	if o.Grace < 0 {
		return usagef("--grace %v: it cannot be negative", o.Grace)
	}
	if o.Shards < 1 || o.Shards > 1<<16 || o.Shards&(o.Shards-1) != 0 {
		return usagef("--shards %d: a power of two from 1 to 65536 is needed", o.Shards)
	}
	path, err := boltPath(a.keystoreURL)
	if err != nil {
		return err
	}
	roots, rootPaths, err := a.rootStore(a.rootURL)
	if err != nil {
		return err
	}
	oldRoots := existing(withAnchors(rootPaths))
	if old := existing([]string{path}); len(old) > 0 && !dropUnfinished(ctx, path) {
		return withHint(fmt.Errorf("%w: %s", keystore.ErrExists, strings.Join(append(old, oldRoots...), ", ")),
			"nothing was changed; --keystore and --root name other files")
	}
	if len(oldRoots) > 0 {
		if !discard {
			return withHint(fmt.Errorf("a root %w, but no keystore at %s: %s", keystore.ErrExists, path, strings.Join(oldRoots, ", ")),
				"if the keystore was lost, put a copy back with oubli restore; --discard-root destroys the root, and with it all that it opens")
		}
		if err := roots.Remove(ctx); err != nil {
			return err
		}
	}
	if err := create(ctx, path, roots, rootPaths, o); err != nil {
		return err
	}
	a.say("made the keystore %s and the root %s", path, strings.Join(rootPaths, ", "))
	if o.Grace == 0 {
		a.say("grace 0: an erasure is final at once, and kills every backup of the keystore made before it")
	} else {
		a.say("grace %v: an erasure is final %v after it; a keystore backup older than that opens nothing", o.Grace, o.Grace)
	}
	a.say("losing the root loses everybody: keep a mirror of it on another disk, and keep it out of the keystore's backups")
	return nil
}

// createdRoots remembers whether it was this call that made the root.
type createdRoots struct {
	keystore.RootStore
	done bool
}

func (c *createdRoots) Create(ctx context.Context, contents keystore.RootContents) error {
	err := c.RootStore.Create(ctx, contents)
	c.done = err == nil
	return err
}

// create makes the keystore file first: whoever makes it may make the root.
func create(ctx context.Context, path string, roots keystore.RootStore, rootPaths []string, o *keystore.CreateOptions) error {
	b, err := boltstore.Create(path, nil)
	if err != nil {
		return err
	}
	ours := &createdRoots{RootStore: roots}
	if err := keystore.Create(ctx, b, ours, o); err != nil {
		err = errors.Join(err, b.Close(), os.Remove(path))
		if !ours.done {
			return err // if a root is there, somebody else made it
		}
		removeErr := roots.Remove(context.WithoutCancel(ctx))
		if left := existing(withAnchors(rootPaths)); len(left) > 0 {
			err = errors.Join(err, removeErr, fmt.Errorf("left over, and serving nobody: %s", strings.Join(left, ", ")))
		}
		return err
	}
	return b.Close()
}

// dropUnfinished removes a keystore file without a single record: what an interrupted
// init left. One that works on it right now holds its lock. It tells whether it did.
func dropUnfinished(ctx context.Context, path string) bool {
	b, err := boltstore.Open(path, nil)
	if err != nil {
		return false
	}
	defer b.Close()
	records, err := b.Scan(ctx, []byte{0}, []byte{0xff, 0xff, 0xff}, 1)
	return err == nil && len(records) == 0 && os.Remove(path) == nil
}

// withAnchors adds the anchor beside each root file.
func withAnchors(roots []string) []string {
	var all []string
	for _, p := range roots {
		all = append(all, p, p+".anchor")
	}
	return all
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
