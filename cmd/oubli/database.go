package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
)

// database is a location in a PostgreSQL database, for many processes.
type database struct {
	dsn string // it may hold a password
	o   pgstore.Options
}

func newDatabase(what, dsn, schema string, standbys []string) (location, error) {
	if err := checkURL(what, dsn); err != nil {
		return nil, err
	}
	return database{dsn, pgstore.Options{Schema: schema, Standbys: standbys}}, nil
}

// checkURL refuses the URL of a database that may have a part of a password behind its host,
// where it would be printed: one that was not percent-encoded.
func checkURL(what, dsn string) error {
	_, rest, _ := strings.Cut(dsn, "://")
	if at := strings.IndexAny(rest, "/?#"); at >= 0 && strings.Contains(rest[at:], "@") {
		return usagef("%s: the URL has an @ behind the host; percent-encode special characters of the password: %%2F for /, %%3F for ?, %%23 for #, %%40 for @", what)
	}
	return nil
}

func (d database) open(ctx context.Context, how access) (keystore.Backend, error) {
	o := d.o
	o.ReadOnly = bool(how)
	b, err := pgstore.Open(ctx, d.dsn, &o)
	if err != nil {
		return nil, asUsage(err)
	}
	return b, nil
}

func (d database) create(ctx context.Context) (keystore.Backend, func() error, error) {
	b, err := pgstore.Create(ctx, d.dsn, &d.o)
	if err != nil {
		return nil, nil, asUsage(err)
	}
	// The empty tables stay: the next init takes them.
	return b, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		empty, err := isEmpty(ctx, b)
		if err == nil && !empty {
			err = errors.New("the commit was not answered, and was applied")
		}
		return errors.Join(err, b.Close())
	}, nil
}

func (d database) upgrade(ctx context.Context) (string, error) {
	if err := pgstore.Upgrade(ctx, d.dsn, &d.o); err != nil {
		return "", asUsage(err)
	}
	b, err := d.open(ctx, reading) // a newer schema was left alone: this says so
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("schema %s is of this version", d.o.Schema), b.Close()
}

// restore makes the database fit to serve in place, after its operator has put it back.
func (d database) restore(ctx context.Context, a *app, args []string) (err error) {
	if len(args) > 0 {
		return withHint(usagef("oubli restore takes no argument for a keystore in PostgreSQL"),
			"put the database back by its own means, as pg_restore or a point-in-time recovery; then oubli restore makes it fit to serve")
	}
	roots, err := a.rootStore(ctx, a.rootURL, writing)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, roots.Close()) }()
	before, err := roots.Load(ctx)
	if err != nil {
		return err
	}
	a.warn("no other process may use this keystore until it is restored: stop them first")
	report, err := a.revive(ctx, d, roots)
	if err != nil {
		after, loadErr := roots.Load(context.WithoutCancel(ctx))
		switch {
		case report.Epoch > 0 && errors.Is(err, keystore.ErrMismatch):
			return withHint(err, "it is restored, but names another place of the root; if the root was moved here on purpose, run oubli root move")
		case loadErr == nil && untouched(before, after):
			return err
		}
		return withHint(err, "it is half restored, and may be the only keystore that the roots still open: keep it, and run oubli restore again")
	}
	a.revived("schema "+d.o.Schema, report)
	return nil
}

func (d database) leftovers() ([]string, error) { return nil, nil }

// same does not look at the URLs: a database has many names. What stands in it tells.
func (d database) same(location) bool { return false }

func (d database) shared() bool { return true }

// asUsage tells settings that can never be right from failures.
func asUsage(err error) error {
	if errors.Is(err, keystore.ErrInvalid) {
		return usageError{err}
	}
	return err
}
