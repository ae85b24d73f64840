package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// boltPath reads bolt:PATH. This and rootStore are the only places that look at what
// a URL begins with.
func boltPath(url string) (string, error) {
	path, ok := strings.CutPrefix(url, "bolt:")
	if !ok || path == "" {
		return "", usagef("keystore %q: write bolt:PATH", url)
	}
	return path, nil
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

// store opens the keystore.
func (a *app) store(ctx context.Context, how access) (*keystore.Store, error) {
	path, err := boltPath(a.keystoreURL)
	if err != nil {
		return nil, err
	}
	roots, _, err := a.rootStore(a.rootURL)
	if err != nil {
		return nil, err
	}
	return a.openStore(ctx, path, roots, how)
}

func (a *app) openStore(ctx context.Context, path string, roots keystore.RootStore, how access) (*keystore.Store, error) {
	b, err := boltstore.Open(path, &boltstore.Options{ReadOnly: bool(how)})
	if err != nil {
		return nil, err
	}
	keys, err := keystore.Open(ctx, b, roots, &keystore.Options{ReadOnly: bool(how), Logger: slog.New(wordHandler{a.ui})})
	if err == nil {
		return keys, nil
	}
	err = errors.Join(err, b.Close())
	if _, rootErr := roots.Load(ctx); errors.Is(rootErr, keystore.ErrNotFound) {
		return nil, withHint(err, "the keystore is there and its root is not: is --root right? If the root is lost, bring it back, for nobody can be read without it")
	}
	return nil, err
}

// withStore opens the keystore, calls f and closes it.
func (a *app) withStore(ctx context.Context, how access, f func(*keystore.Store) error) (err error) {
	keys, err := a.store(ctx, how)
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
	h.u.warn("%s", b.String())
	return nil
}

func (h wordHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h wordHandler) WithGroup(string) slog.Handler      { return h }
