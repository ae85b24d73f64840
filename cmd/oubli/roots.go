package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// root is a root store, with what this program knows of its kind.
type root struct {
	keystore.RootStore
	file  *rootfile.Store // of a root in files; else nil
	paths []string        // its mirrors as they were named

	keys  io.Closer        // of a service; else nil
	shelf keystore.Backend // where its wrapped roots stand, if that is ours to open; else nil
	undo  func() error     // closes a shelf that was made, and takes it away; else nil
}

// rootStore opens the root store at url. This and locationAt are the only places that
// look at what a URL begins with.
func (a *app) rootStore(ctx context.Context, url string, how access) (*root, error) {
	return a.rootWith(ctx, url, func(at location) (b keystore.Backend, undo func() error, err error) {
		b, err = at.open(ctx, how)
		return b, nil, err
	})
}

// newRootStore is rootStore where roots are to be written for the first time: it makes the
// shelf that is not there.
func (a *app) newRootStore(ctx context.Context, url string) (*root, error) {
	return a.rootWith(ctx, url, func(at location) (keystore.Backend, func() error, error) {
		if b, err := at.open(ctx, writing); !errors.Is(err, keystore.ErrNotFound) {
			return b, nil, err
		}
		return at.create(ctx)
	})
}

func (a *app) rootWith(ctx context.Context, url string, open openShelf) (*root, error) {
	scheme, _, _ := strings.Cut(url, ":")
	switch scheme {
	case "file":
		return a.fileRoot(url)
	case "transit":
		return transitRoot(url)
	case "awskms":
		return a.kmsRoot(ctx, url, awsKeys, open)
	case "gcpkms":
		return a.kmsRoot(ctx, url, gcpKeys, open)
	case "pkcs11":
		return a.kmsRoot(ctx, url, pkcs11Keys, open)
	}
	return nil, unknownRoot(url)
}

// rootPolicy is what an administrator sets up for a root at url.
func rootPolicy(url string) (string, error) {
	scheme, _, _ := strings.Cut(url, ":")
	switch scheme {
	case "transit":
		return transitPolicy(url)
	case "awskms":
		return kmsPolicy(url, awsPolicy)
	case "gcpkms":
		return kmsPolicy(url, gcpPolicy)
	case "file":
		return "", usagef("a root in files has no policy: they belong to the user whom the application runs as, with mode 0600")
	case "pkcs11":
		return "", usagef("a PKCS#11 token has no policy to print: the application logs in as its user, and makes, uses and destroys keys of its own")
	}
	return "", unknownRoot(url)
}

func unknownRoot(url string) error {
	return withHint(usagef("root store %q: write file:PATH, transit:https://HOST:8200/MOUNT/KEY?kv=MOUNT/PATH, or one of awskms:, gcpkms: and pkcs11:", url),
		"oubli root --help shows how to write each, docs/roots.md how to choose")
}

func (a *app) fileRoot(url string) (*root, error) {
	paths, err := rootfile.Parse(url)
	if err != nil {
		return nil, usageError{err}
	}
	r, err := rootfile.New(paths, &rootfile.Options{Host: a.host})
	if err != nil {
		return nil, usageError{err}
	}
	return &root{RootStore: r, file: r, paths: paths}, nil
}

// found tells what stands where a root is to be made: files, or the place of a service.
// Where that can't be told, nothing may be made.
func (r *root) found(ctx context.Context) ([]string, error) {
	if r.file != nil {
		return existing(withAnchors(r.paths)), nil
	}
	_, err := r.Load(ctx)
	switch {
	case errors.Is(err, keystore.ErrNotFound):
		return nil, nil
	case errors.Is(err, keystore.ErrMismatch): // it was begun, or it is no place for a root, and can't be removed
		return []string{err.Error()}, nil
	}
	return []string{r.Place().URL}, err
}

// name is the root store for people.
func (r *root) name() string {
	if r.file != nil {
		return strings.Join(r.paths, ", ")
	}
	return r.Place().URL
}

// mirrors are the files that each hold the whole root.
func (r *root) mirrors() []string {
	if r.file == nil {
		return nil
	}
	paths, _ := rootfile.Parse(r.Place().URL)
	return paths
}

// leftovers finds files that a crash left beside a root in files.
func (r *root) leftovers(ctx context.Context) ([]string, error) {
	if r.file == nil {
		return nil, nil
	}
	found, err := r.file.Leftovers(ctx)
	if err != nil {
		return nil, err
	}
	for _, path := range r.paths {
		more, err := beside(path, func(name, base string) bool { return strings.HasPrefix(name, base+".anchor.new-") })
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// Close releases what it holds. r may be nil.
func (r *root) Close() error {
	if r == nil {
		return nil
	}
	var errs []error
	if r.shelf != nil {
		errs = append(errs, r.shelf.Close())
	}
	if r.keys != nil {
		errs = append(errs, r.keys.Close())
	}
	return errors.Join(errs...)
}

// giveUp closes it, and takes away a shelf that was made and holds nothing.
func (r *root) giveUp(ctx context.Context) error {
	if r.undo != nil {
		if empty, err := isEmpty(context.WithoutCancel(ctx), r.shelf); err == nil && empty {
			err = r.undo()
			r.shelf = nil
			return errors.Join(err, r.Close())
		}
	}
	return r.Close()
}

// withAnchors adds the anchor beside each root file.
func withAnchors(roots []string) []string {
	var all []string
	for _, p := range roots {
		all = append(all, p, p+".anchor")
	}
	return all
}
