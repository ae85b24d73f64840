package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/keystore"
)

func (a *app) rehearseCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "rehearse",
		Short: "Show that this place really destroys a root",
		Long: `Puts a scratch root in the place that --root names, destroys it as an erasure does, and
then tries to get it back, also by what an administrator of that place could undo. Each
step is shown. It can be done beside a living keystore, before there is one, and with the
place to which a root is to be moved; it makes the shelf if there is none.

Exits 1 unless it is proven: if a step failed, and also where the service destroys only
later, so that it can't be told before.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return a.rehearse(c.Context(), asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

// rehearsalReport is what "oubli root rehearse --json" writes.
type rehearsalReport struct {
	Root   string          `json:"root"`
	Class  string          `json:"class"`
	Delay  string          `json:"delay"`
	Steps  []rehearsalStep `json:"steps"`
	Until  *time.Time      `json:"until"` // it can't be told before
	Proven bool            `json:"proven"`
}

type rehearsalStep struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Note string `json:"note,omitempty"`
}

func (a *app) rehearse(ctx context.Context, asJSON bool) (err error) {
	root, err := a.newRootStore(ctx, a.rootURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.giveUp(ctx)) }()
	at, ok := root.RootStore.(keystore.Rehearser)
	if !ok {
		return fmt.Errorf("%s has nothing that could be rehearsed", root.name())
	}
	remove, err := stageRehearsal(ctx, at)
	if err != nil {
		return err
	}
	done := a.wait("destroying a scratch root")
	found, err := at.Rehearse(ctx)
	done()
	if err := errors.Join(err, remove()); err != nil {
		return err
	}
	place := root.Place()
	r := rehearsalReport{Root: place.URL, Class: place.Class, Delay: place.Delay.String(), Proven: found.Proven(), Steps: []rehearsalStep{}}
	failed := 0
	for _, s := range found.Steps {
		r.Steps = append(r.Steps, rehearsalStep(s))
		if !s.OK {
			failed++
		}
	}
	if !found.Until.IsZero() {
		r.Until = &found.Until
	}
	if err := a.writeRehearsal(&r, asJSON); err != nil {
		return err
	}
	switch {
	case failed > 0:
		return withHint(fmt.Errorf("not proven: %s of %d did not go as it must; what is destroyed in %s may come back", count(failed, "step", "steps"), len(r.Steps), r.Root),
			"oubli root policy prints how to set the place up")
	case r.Until != nil:
		return withHint(fmt.Errorf("can't be told before %s: every step went as it must, but until then the scratch root is not gone", when(*r.Until)),
			"an erasure there is final %s after its grace, and oubli says so; who can't wait takes another place", r.Delay)
	case !r.Proven:
		return fmt.Errorf("not proven: %s took no step", r.Root)
	}
	if place.Class == keystore.ClassBestEffort {
		a.say("proven, as far as can be told from here: the disk below may keep old blocks")
		return nil
	}
	a.say("proven: what is destroyed in %s is gone", r.Root)
	return nil
}

// stageRehearsal makes a root to rehearse beside, where none is yet. remove takes it away.
func stageRehearsal(ctx context.Context, at keystore.RootStore) (remove func() error, err error) {
	switch _, err := at.Load(ctx); {
	case errors.Is(err, keystore.ErrMismatch):
		return nil, withHint(err, "what a rehearsal or an init has left that was killed, oubli init --discard-root takes away; what a move has left, the same move")
	case !errors.Is(err, keystore.ErrNotFound):
		return func() error { return nil }, err
	}
	if delay := at.Place().Delay; delay > 0 {
		return nil, withHint(fmt.Errorf("there is no root at %s yet, and one that is made for the rehearsal is not gone for %v", at.Place().URL, delay),
			"run this after oubli init, before anything is sealed; or with a shelf and keys of its own, which you then give up")
	}
	c := keystore.RootContents{Living: []keystore.Root{{Epoch: 1, Created: time.Now().UTC().Truncate(time.Second)}}}
	rand.Read(c.Store[:])
	rand.Read(c.Living[0].ID[:])
	rand.Read(c.Living[0].Key[:])
	if err := at.Create(ctx, c); err != nil {
		return nil, err
	}
	return func() error {
		ctx := context.WithoutCancel(ctx)
		if now, err := at.Load(ctx); err == nil && now.Store != c.Store {
			return nil // somebody gave the scratch root up meanwhile, and made one that is used
		}
		return at.Remove(ctx)
	}, nil
}

func (a *app) writeRehearsal(r *rehearsalReport, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(a.out).Encode(r)
	}
	p := &printer{w: a.out}
	for _, s := range r.Steps {
		line := "ok      " + s.What
		if !s.OK {
			line = "FAILED  " + s.What
		}
		if s.Note != "" {
			line += ": " + oneLine(s.Note)
		}
		p.line("%s", line)
	}
	return p.err
}
