package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootfile"
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

	// shared tells whether several processes can use the keystore at once.
	shared() bool
}

// location reads --keystore. This and rootStore are the only places that look at what a
// URL begins with. Nothing repeats the URL: it may hold a password.
func (a *app) location() (location, error) {
	scheme, rest, _ := strings.Cut(a.keystoreURL, ":")
	switch {
	case scheme == "bolt" && rest != "":
		if given := a.given("keystore-schema", "keystore-standby"); given != "" {
			return nil, usagef("--%s is for a keystore in PostgreSQL", given)
		}
		return boltFile{rest}, nil
	case scheme == "postgres" || scheme == "postgresql":
		return newDatabase(a.keystoreURL, a.schema, a.standbys)
	}
	return nil, usagef("keystore: write bolt:PATH or postgres://USER@HOST/DATABASE in --keystore or OUBLI_KEYSTORE")
}

func (a *app) rootStore(url string) (*rootfile.Store, []string, error) {
	paths, err := rootfile.Parse(url)
	if err != nil {
		return nil, nil, usageError{err}
	}
	r, err := rootfile.New(paths, &rootfile.Options{Host: a.host})
	if err != nil {
		return nil, nil, usageError{err}
	}
	return r, paths, nil
}

type access bool

const (
	reading access = true
	writing access = false
)

// openKeystore is a keystore with the backend that it stands on.
type openKeystore struct {
	*keystore.Store
	backend keystore.Backend
}

// open opens the keystore.
func (a *app) open(ctx context.Context, how access) (*openKeystore, error) {
	at, err := a.location()
	if err != nil {
		return nil, err
	}
	roots, _, err := a.rootStore(a.rootURL)
	if err != nil {
		return nil, err
	}
	return a.openAt(ctx, at, roots, how)
}

func (a *app) openAt(ctx context.Context, at location, roots keystore.RootStore, how access) (*openKeystore, error) {
	b, err := at.open(ctx, how)
	if err != nil {
		return nil, err
	}
	keys, err := keystore.Open(ctx, b, roots, &keystore.Options{ReadOnly: bool(how), CacheSize: a.cacheSize, Logger: slog.New(wordHandler{a.ui})})
	if err == nil {
		return &openKeystore{keys, b}, nil
	}
	err = errors.Join(err, b.Close())
	if _, rootErr := roots.Load(ctx); errors.Is(rootErr, keystore.ErrNotFound) {
		return nil, withHint(err, "the keystore is there and its root is not: is --root right? If the root is lost, bring it back, for nobody can be read without it")
	}
	return nil, err
}

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

// wordHandler says what the keystore logs.
type wordHandler struct{ u *ui }

func (h wordHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (h wordHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(at slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", at.Key, at.Value)
		return true
	})
	h.u.warn("%s", oneLine(b.String()))
	return nil
}

func (h wordHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h wordHandler) WithGroup(string) slog.Handler      { return h }
