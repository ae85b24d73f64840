package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/keystore"
)

func (a *app) rootStatusCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Which roots live, and when they die and why",
		Long: `Shows the place of the root, how real destruction is there and how long it takes, and for
each root that may still live what it is, since when, and when it is gone and why.

It fetches the key of each, also where the keystore does not open because one is lost, and
exits 1 if one can't be had that is needed.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return a.rootStatus(c.Context(), asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

// rootsReport is what there is to tell about roots; "oubli status --json" has the same.
type rootsReport struct {
	Root    string       `json:"root"`
	Host    string       `json:"host"`    // that it is bound to; "" if to none
	Class   string       `json:"class"`   // how real the destruction of a root is
	Delay   string       `json:"delay"`   // how long it takes
	Mirrors []string     `json:"mirrors"` // of a root in files: each holds it whole
	Shelf   string       `json:"shelf"`   // of a root in a service: where the wrapped roots stand, if not in the service
	Roots   []rootReport `json:"roots"`
	Moving  string       `json:"moving"` // a move of the root that is not finished: this place may hold a copy
	Away    []string     `json:"away"`   // mirrors of the root that cannot be read
}

type rootReport struct {
	ID         string     `json:"id"`
	Role       string     `json:"role"` // current, successor, superseded, dying
	Dies       *time.Time `json:"dies"` // when it is gone at the earliest
	Epoch      uint64     `json:"epoch,omitzero"`
	Superseded time.Time  `json:"superseded,omitzero"`
	Overdue    bool       `json:"overdue"`
	Why        string     `json:"why,omitempty"`  // it dies then
	Lost       string     `json:"lost,omitempty"` // why its key can't be had
}

// reportRoots reports on the roots of a keystore; recorded is the place that it names.
func reportRoots(at *root, recorded keystore.Place, grace time.Duration, roots []keystore.RootStatus, unnamed []keystore.RootID) rootsReport {
	here := at.Place()
	r := rootsReport{Root: recorded.URL, Host: recorded.Host, Class: recorded.Class, Delay: here.Delay.String(),
		Mirrors: append([]string{}, at.mirrors()...), Roots: []rootReport{}, Away: []string{}}
	if at.shelf != nil {
		r.Shelf = at.shelf.Name()
	}
	for _, root := range roots {
		one := rootReport{ID: root.ID.String(), Role: root.Role, Epoch: root.Epoch, Superseded: root.Superseded,
			Overdue: root.Overdue, Lost: root.Lost, Why: why(&root, here, grace)}
		if !root.Dies.IsZero() {
			one.Dies = &root.Dies
		}
		r.Roots = append(r.Roots, one)
	}
	for _, id := range unnamed {
		r.Roots = append(r.Roots, rootReport{ID: id.String(), Role: "named by no record: the next erasure supersedes it"})
	}
	return r
}

// why says why a root is gone when it is, or why it is not.
func why(r *keystore.RootStatus, at keystore.Place, grace time.Duration) string {
	switch {
	case r.Role == "dying" && r.Overdue:
		return "overdue: opening the keystore for writing asks whether it is gone"
	case r.Role == "dying" && at.Class == keystore.ClassScheduled:
		return "its destruction has begun, and who runs the service can stop it until then"
	case r.Role == "dying":
		return "it is destroyed, and until then copies of the service's storage may hold it"
	case r.Role != "superseded":
		return ""
	case r.Overdue:
		return "overdue: opening the keystore for writing destroys it"
	case r.Dies.IsZero():
		return "destroyed here, but the place that it was moved from may hold it"
	case at.Delay > 0:
		return fmt.Sprintf("its grace is over at %s, and destroying it takes %v from then", when(r.Superseded.Add(grace)), at.Delay)
	}
	return "its grace is over then"
}

// rootsReport writes where the roots are, and a line for each that lives.
func (p *printer) rootsReport(r *rootsReport) {
	var words []string
	if r.Host != "" {
		words = append(words, "host "+r.Host)
	}
	words = append(words, "destruction "+r.Class)
	if r.Delay != "0s" {
		words = append(words, "gone after "+r.Delay)
	}
	p.line("roots: %s (%s)", r.Root, strings.Join(words, ", "))
	for _, root := range r.Roots {
		line := "root " + root.ID + ": " + root.Role
		if root.Epoch > 0 {
			line += ", epoch " + fmt.Sprint(root.Epoch)
		}
		if !root.Superseded.IsZero() {
			line += ", superseded at " + when(root.Superseded)
		}
		if root.Dies != nil {
			line += ", dies " + when(*root.Dies)
		}
		if root.Why != "" {
			line += " (" + root.Why + ")"
		}
		if root.Lost != "" {
			line += "; LOST: " + oneLine(root.Lost)
		}
		p.line("%s", line)
	}
	if r.Moving != "" {
		p.line("a move of the root is not finished: %s may hold a copy, and nothing is final; run oubli root move", r.Moving)
	}
	for _, away := range r.Away {
		p.line("a mirror of the root is away: %s", away)
	}
}

// at is the one of the two open root stores that is at a place.
func (k *openKeystore) at(place keystore.Place) *root {
	if k.next != nil && k.next.Place().URL == place.URL {
		return k.next
	}
	return k.root
}

// inspection is what "oubli root status --json" writes.
type inspection struct {
	Keystore  string `json:"keystore"`
	ID        string `json:"id"`
	Epoch     uint64 `json:"epoch"`
	Advancing bool   `json:"advancing"`
	Grace     string `json:"grace"`
	rootsReport
	Asked   string `json:"asked"`   // the place of the root store that was asked
	Trusted bool   `json:"trusted"` // the keystore's record of its roots authenticates
}

func (a *app) rootStatus(ctx context.Context, asJSON bool) (err error) {
	at, err := a.location()
	if err != nil {
		return err
	}
	is, next, err := a.roots(ctx, reading)
	keys := &openKeystore{root: is, next: next}
	defer func() { err = errors.Join(err, keys.closeRoots()) }()
	if err != nil {
		return err
	}
	b, err := at.open(ctx, reading)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	o := keystore.Options{ReadOnly: true}
	if next != nil {
		o.NextRoots = next
	}
	found, err := keystore.InspectRoots(ctx, b, is, &o)
	if errors.Is(err, keystore.ErrNotFound) {
		return withHint(err, "is --root right? oubli status says where the keystore has its root")
	}
	if err != nil {
		return err
	}
	r := inspection{Keystore: b.Name(), ID: found.Store.String(), Epoch: found.Epoch, Advancing: found.Advancing, Grace: found.Grace.String(),
		rootsReport: reportRoots(keys.at(found.Place), found.Recorded, found.Grace, found.Roots, found.Unnamed),
		Asked:       found.Place.URL, Trusted: found.Trusted}
	r.Moving, r.Away = found.Moving, append(r.Away, found.Away...)
	if err := a.writeInspection(&r, asJSON); err != nil {
		return err
	}
	return r.trouble()
}

func (a *app) writeInspection(r *inspection, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(a.out).Encode(r)
	}
	p := &printer{w: a.out}
	p.line("keystore: %s, epoch %d, grace %s", r.Keystore, r.Epoch, r.Grace)
	if r.Advancing {
		p.line("an advance has begun and is not finished; opening the keystore for writing finishes it")
	}
	p.rootsReport(&r.rootsReport)
	for _, m := range r.Mirrors {
		p.line("mirror: %s", m)
	}
	if r.Shelf != "" {
		p.line("shelf: %s", r.Shelf)
	}
	return p.err
}

// trouble is the error of roots with which the keystore can't go on.
func (r *inspection) trouble() error {
	lost := 0
	for _, root := range r.Roots {
		if root.Lost != "" {
			lost++
		}
	}
	switch {
	case r.Asked != r.Root:
		return withHint(fmt.Errorf("%w: the keystore names %s as the place of its root, and %s was asked", keystore.ErrMismatch, r.Root, r.Asked),
			"name that with --root; where root files were moved by hand, on purpose, run oubli root move")
	case lost > 0:
		return withHint(fmt.Errorf("%s can't be had", count(lost, "root", "roots")),
			"without the current root nobody can be read; without a superseded one, backups of the keystore from its epoch can't be restored")
	case !r.Trusted:
		return fmt.Errorf("%w: the record of roots in %s does not authenticate under its current root", keystore.ErrTampered, r.Keystore)
	}
	return nil
}
