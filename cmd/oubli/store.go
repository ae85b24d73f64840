package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/oubli/oubli/keystore"
)

// location is where a keystore stands, or is to stand. It knows what one kind of
// keystore does in a way of its own.
type location interface {
	// open opens what stands there.
	open(ctx context.Context, how access) (keystore.Backend, error)

	// create makes an empty backend; what an interrupted create left is taken as it is.
	// undo closes it and takes it away again. If it fails, a keystore may stand there.
	create(ctx context.Context) (b keystore.Backend, undo func() error, err error)

	// upgrade brings what an older version made to this one, and says what became of it.
	upgrade(ctx context.Context) (string, error)

	// restore makes an old copy fit to serve; args are the arguments of the command.
	restore(ctx context.Context, a *app, args []string) error

	// leftovers finds files that a crash left beside it.
	leftovers() ([]string, error)

	// same tells whether other is certainly the same place.
	same(other location) bool

	// shared tells whether several processes can use the keystore at once.
	shared() bool
}

// location reads --keystore.
func (a *app) location() (location, error) {
	at, err := locationAt("keystore", a.keystoreURL, "--keystore or OUBLI_KEYSTORE", a.schema, a.standbys)
	if _, ok := at.(boltFile); ok {
		if given := a.given("keystore-schema", "keystore-standby"); given != "" {
			return nil, usagef("--%s is for a keystore in PostgreSQL", given)
		}
	}
	return at, err
}

// locationAt reads the URL of what is kept as a keystore is. where is where the user has
// written it. Nothing repeats it: it may hold a password.
func locationAt(what, url, where, schema string, standbys []string) (location, error) {
	scheme, rest, _ := strings.Cut(url, ":")
	switch {
	case scheme == "bolt" && rest != "":
		return boltFile{rest}, nil
	case scheme == "postgres" || scheme == "postgresql":
		return newDatabase(what, url, schema, standbys)
	}
	return nil, usagef("%s: write bolt:PATH or postgres://USER@HOST/DATABASE in %s", what, where)
}

type access bool

const (
	reading access = true
	writing access = false
)

// openKeystore is a keystore with what it stands on.
type openKeystore struct {
	*keystore.Store
	backend keystore.Backend
	root    *root
	next    *root // where the root may be moved to, or was; else nil
}

// open opens the keystore.
func (a *app) open(ctx context.Context, how access) (keys *openKeystore, err error) {
	at, err := a.location()
	if err != nil {
		return nil, err
	}
	keys = &openKeystore{}
	defer func() {
		if err != nil {
			keys, err = nil, errors.Join(err, keys.closeRoots())
		}
	}()
	if keys.root, keys.next, err = a.roots(ctx, how); err != nil {
		return keys, err
	}
	keys.Store, keys.backend, err = a.openAt(ctx, at, keys.root, keys.next, how)
	return keys, err
}

// roots opens the place of the root, and the other one that the user has named, if there
// is one. With an error, those that it returns are to be closed all the same.
func (a *app) roots(ctx context.Context, how access) (is, next *root, err error) {
	if is, err = a.rootStore(ctx, a.rootURL, how); err != nil || a.nextURL == "" || a.nextURL == a.rootURL {
		return is, nil, err
	}
	next, err = a.rootStore(ctx, a.nextURL, how)
	return is, next, err
}

// openAt opens the keystore that stands somewhere. next may be nil.
func (a *app) openAt(ctx context.Context, at location, is, next *root, how access) (*keystore.Store, keystore.Backend, error) {
	b, err := at.open(ctx, how)
	if err != nil {
		return nil, nil, err
	}
	o := keystore.Options{ReadOnly: bool(how), CacheSize: a.cacheSize, Logger: a.logger(slog.LevelWarn)}
	if next != nil {
		o.NextRoots = next
	}
	keys, err := keystore.Open(ctx, b, is, &o)
	if err == nil {
		return keys, b, nil
	}
	away := errors.Is(err, keystore.ErrUnavailable) // asking once more would only take its time
	err = errors.Join(err, b.Close())
	if next != nil || away {
		return nil, nil, err
	}
	if _, rootErr := is.Load(ctx); errors.Is(rootErr, keystore.ErrNotFound) {
		return nil, nil, withHint(err, "the keystore is there and its root is not: is --root right? A copy of a keystore whose root has moved since needs the place where that is now. If the root is lost, bring it back, for nobody can be read without it")
	}
	return nil, nil, err
}

// Close closes the keystore, and its root after it.
func (k *openKeystore) Close() error { return errors.Join(k.Store.Close(), k.closeRoots()) }

func (k *openKeystore) closeRoots() error { return errors.Join(k.root.Close(), k.next.Close()) }

// withStore opens the keystore, calls f and closes it.
func (a *app) withStore(ctx context.Context, how access, f func(*keystore.Store) error) error {
	return a.withKeystore(ctx, how, func(keys *openKeystore) error { return f(keys.Store) })
}

// withKeystore is withStore for those who ask the backend as well.
func (a *app) withKeystore(ctx context.Context, how access, f func(*openKeystore) error) (err error) {
	keys, err := a.open(ctx, how)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	return f(keys)
}

// logger says what is logged from a level on.
func (u *ui) logger(from slog.Level) *slog.Logger { return slog.New(wordHandler{u, from}) }

// wordHandler says what is logged.
type wordHandler struct {
	u    *ui
	from slog.Level
}

func (h wordHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.from }

func (h wordHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(at slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", at.Key, at.Value)
		return true
	})
	if r.Level < slog.LevelWarn {
		h.u.say("%s", oneLine(b.String()))
	} else {
		h.u.warn("%s", oneLine(b.String()))
	}
	return nil
}

func (h wordHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h wordHandler) WithGroup(string) slog.Handler      { return h }
