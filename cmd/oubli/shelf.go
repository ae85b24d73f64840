package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// shelfSchema is the PostgreSQL schema of a shelf, where its URL names none.
const shelfSchema = "oubli_root"

// serviceParameters are those that belong to a service, and mean nothing behind its shelf.
var serviceParameters = []string{"copies", "imported", "window", "module-path", "pin-source", "replaces"}

// openShelf opens the backend of a shelf, or makes it; undo, unless nil, closes it and takes
// it away again.
type openShelf func(location) (b keystore.Backend, undo func() error, err error)

// openKeys opens the keys of a key management service: url is what stands before the shelf.
type openKeys func(ctx context.Context, url string) (rootkms.Keys, io.Closer, error)

// kmsRoot is a root store whose roots are wrapped by a service and stand on a shelf.
func (a *app) kmsRoot(ctx context.Context, url string, open openKeys, openShelf openShelf) (*root, error) {
	p, err := parseKMS(url)
	if err != nil {
		return nil, err
	}
	at, err := shelfLocation(p.shelf)
	if err != nil {
		return nil, err
	}
	beside, err := a.location()
	if err != nil {
		return nil, err
	}
	if beside.same(at) {
		return nil, keptTwice("the same file")
	}
	keys, closer, err := open(ctx, p.keys)
	if err != nil {
		return nil, asUsage(err)
	}
	b, undo, err := openShelf(at)
	if err != nil {
		return nil, errors.Join(shelfError(at, err), closer.Close())
	}
	r := &root{keys: closer, shelf: b, undo: undo,
		RootStore: rootkms.New(keys, rootkms.BackendShelf(b), &rootkms.Options{Copies: p.copies})}
	return r, nil
}

func shelfError(at location, err error) error {
	if !errors.Is(err, keystore.ErrNotFound) {
		return fmt.Errorf("the root's shelf: %w", err)
	}
	if f, ok := at.(boltFile); ok {
		err = fmt.Errorf("%w: %s", keystore.ErrNotFound, f.path)
	}
	return withHint(fmt.Errorf("the root's shelf: %w", err),
		"if it was lost, bring it back: nobody can be read without it; oubli init and oubli root move --to make a new one")
}

// kmsURL is the URL of a root store that is wrapped by a service, taken apart.
type kmsURL struct {
	keys   string        // the service's part
	copies time.Duration // see rootkms.Options
	shelf  string        // it may hold a password
}

// parseKMS cuts the shelf off, which is all that follows the first ?shelf= or &shelf=, and
// takes copies out of what is left.
func parseKMS(url string) (p kmsURL, err error) {
	scheme, _, _ := strings.Cut(url, ":")
	at := -1
	for _, sep := range []string{"?shelf=", "&shelf="} {
		if i := strings.Index(url, sep); i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	if at < 0 {
		return p, withHint(usagef("root store %s: it needs a shelf, where the wrapped roots stand", scheme),
			"end the URL with ?shelf=postgres://USER@HOST/DATABASE, or &shelf=… after other parameters; for a single process ?shelf=bolt:PATH will do")
	}
	p.shelf = url[at+len("?shelf="):]
	base, query, _ := strings.Cut(url[:at], "?")
	var others []string
	for param := range strings.SplitSeq(query, "&") {
		switch value, ok := strings.CutPrefix(param, "copies="); {
		case ok:
			if p.copies, err = time.ParseDuration(value); err != nil || p.copies < 0 {
				return p, usagef("root store %s: copies=%s: a duration is needed, as 720h", scheme, value)
			}
		case param != "":
			others = append(others, param)
		}
	}
	p.keys = base
	if len(others) > 0 {
		p.keys += "?" + strings.Join(others, "&")
	}
	return p, nil
}

// shelfLocation reads the URL of a shelf. In PostgreSQL it may name its schema, as the place
// of a root store does.
func shelfLocation(url string) (location, error) {
	for param := range strings.FieldsFuncSeq(url, func(r rune) bool { return r == '?' || r == '&' }) {
		name, _, _ := strings.Cut(param, "=")
		if slices.Contains(serviceParameters, name) { // unheeded, it would let an erasure count as final too early
			return nil, usagef("shelf: %s= has to stand before shelf=, for what follows that is the shelf's", name)
		}
	}
	base, query, _ := strings.Cut(url, "?")
	schema := shelfSchema
	var others []string
	for param := range strings.SplitSeq(query, "&") {
		if value, ok := strings.CutPrefix(param, "schema="); ok && value != "" {
			schema = value
		} else if param != "" {
			others = append(others, param)
		}
	}
	if len(others) > 0 {
		base += "?" + strings.Join(others, "&")
	}
	if path, ok := strings.CutPrefix(url, "bolt:"); ok && path != "" { // it may hold anything
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		base = "bolt:" + abs // the keystore remembers it as a part of the root's place
	}
	return locationAt("shelf", base, "the URL after shelf=", schema, nil)
}

func keptTwice(what string) error {
	return withHint(fmt.Errorf("%w: %s is a keystore's, so it can't be the shelf of a root", keystore.ErrMismatch, what),
		"a shelf has a database, or a file, of its own: it must not come back from a backup together with the keystore")
}

// warnOfOneDatabase warns where keystore and shelf stand in one database: whoever takes that
// back to an earlier time takes both.
func (a *app) warnOfOneDatabase(root *root, b keystore.Backend) {
	if root.shelf == nil {
		return
	}
	x, _, inDatabase := strings.Cut(root.shelf.Name(), "?schema=")
	y, _, _ := strings.Cut(b.Name(), "?schema=")
	if inDatabase && x == y {
		a.warn("the root's shelf is in the keystore's database: whoever puts that back from a backup takes both back, and who was erased since is not erased again; give the shelf a database of its own, on another server")
	}
}

// kmsPolicy is what policy says of the service's part of a URL, which may lack its shelf.
func kmsPolicy(url string, policy func(keys string) (string, error)) (string, error) {
	if !strings.Contains(url, "shelf=") {
		url += "&shelf="
		if !strings.Contains(url, "?") {
			url = strings.Replace(url, "&", "?", 1)
		}
	}
	p, err := parseKMS(url)
	if err != nil {
		return "", err
	}
	text, err := policy(p.keys)
	return text, asUsage(err)
}
