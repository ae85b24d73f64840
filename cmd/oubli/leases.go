package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/oubli/oubli/keystore"
)

// outwaiting runs f, which waits until no process serves from its memory what f changes
// about subjects. A terminal shows how long that may take; an interrupt is told what stands.
func (a *app) outwaiting(ctx context.Context, keys *keystore.Store, what string, subjects []keystore.Subject, f func() error) error {
	info, err := keys.Info(ctx)
	if err != nil {
		return err
	}
	done := func() {}
	if info.Lease > 0 {
		done = a.wait(fmt.Sprintf("%s; other processes forget within %v", what, info.Lease))
	}
	err = f()
	done()
	if err != nil && ctx.Err() != nil {
		return a.interrupted(ctx, keys, subjects, info.Lease)
	}
	return err
}

// interrupted says how far subjects have come.
func (a *app) interrupted(ctx context.Context, keys *keystore.Store, subjects []keystore.Subject, lease time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	list, err := keys.Status(ctx, subjects...)
	if err != nil {
		return withHint(fmt.Errorf("interrupted; what was changed by then stands, and cannot be read now: %w", err), "oubli status tells how far it came")
	}
	count := map[keystore.State]int{}
	for i := range list {
		count[list[i].State]++
	}
	var parts []string
	for _, state := range []keystore.State{keystore.StateErased, keystore.StateErasing, keystore.StateRestricted, keystore.StateActive, keystore.StateUnknown} {
		if n := count[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	err = fmt.Errorf("interrupted, and what was changed stands: of %d subjects, now %s", len(subjects), strings.Join(parts, ", "))
	if lease > 0 {
		err = fmt.Errorf("%w; another process may serve what it remembers of them for up to %v from now", err, lease)
	}
	return withHint(err, "the same command again does the rest")
}
