package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oubli/oubli/keystore"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status [SUBJECT...]",
		Short: "The keystore as a whole, or single subjects",
		Args:  between(0, -1, "SUBJECTs"),
		RunE: func(c *cobra.Command, args []string) error {
			subjects, err := a.subjects(args)
			if err != nil {
				return err
			}
			return a.withKeystore(c.Context(), reading, func(keys *openKeystore) error {
				if len(subjects) > 0 {
					return a.subjectStatus(c.Context(), keys.Store, subjects, asJSON)
				}
				return a.storeStatus(c.Context(), keys, asJSON)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON; one object a line for subjects")
	return c
}

func (a *app) storeStatus(ctx context.Context, keys *openKeystore, asJSON bool) error {
	r, err := report(ctx, keys)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(a.out).Encode(r)
	}
	p := &printer{w: a.out}
	p.store(r)
	return p.err
}

func (a *app) subjectStatus(ctx context.Context, keys *keystore.Store, subjects []keystore.Subject, asJSON bool) error {
	list, err := keys.Status(ctx, subjects...)
	if err != nil {
		return err
	}
	p := &printer{w: a.out}
	for i := range list {
		if !asJSON {
			p.subject(&list[i])
			continue
		}
		if err := json.NewEncoder(a.out).Encode(list[i]); err != nil {
			return err
		}
	}
	return p.err
}

// printer writes lines until one fails.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) store(r *storeReport) {
	p.line("keystore: %s", r.Keystore)
	p.line("epoch: %d", r.Epoch)
	if r.Advancing {
		p.line("an advance has begun and is not finished; opening the keystore for writing finishes it")
	}
	p.line("grace: %s", r.Grace)
	if r.Lease != "" {
		p.line("lease: %s", r.Lease)
	}
	p.roots(r)
	for _, state := range []keystore.State{keystore.StateActive, keystore.StateRestricted, keystore.StateErasing, keystore.StateErased} {
		p.line("%s: %d", state, r.Subjects[state.String()])
	}
	for i := range r.Erasing {
		p.subject(&r.Erasing[i])
	}
	p.line("erased, not yet final: %d", len(r.NotFinal))
	for i := range r.NotFinal {
		p.subject(&r.NotFinal[i])
	}
}

// roots writes where the roots are, and a line for each that lives.
func (p *printer) roots(r *storeReport) {
	p.line("roots: %s (host %s, destruction %s)", r.Root, r.Host, r.Class)
	for _, root := range r.Roots {
		line := "root " + root.ID + ": " + root.Role
		if root.Dies != nil {
			line += ", dies " + when(*root.Dies)
			if root.Dies.Before(time.Now()) {
				line += " (overdue: opening the keystore for writing destroys it)"
			}
		}
		p.line("%s", line)
	}
	if r.Late != "" {
		p.line("a standby is late, and older roots live until it is not: %s", r.Late)
	}
	if r.Moving != "" {
		p.line("a move of the root is not finished: %s may hold a copy, and nothing is final; run oubli root move", r.Moving)
	}
	for _, away := range r.Away {
		p.line("a mirror of the root is away: %s", away)
	}
}

// subject writes one subject on a line.
func (p *printer) subject(st *keystore.Status) {
	words := []string{st.State.String()}
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if len(st.Purposes) > 0 {
		add("for %s", strings.Join(st.Purposes, ", "))
	}
	if st.Hold != "" {
		add("held: %s", st.Hold)
	}
	if len(st.Gone) > 0 {
		add("withdrawn: %s", strings.Join(named(st.Gone), ", "))
	}
	if st.Journal != nil {
		if w := st.Journal.Waiting(); len(w) > 0 {
			add("waits for %s", strings.Join(w, ", "))
		}
	}
	if len(st.Keys) > 0 {
		add("%d keys", len(st.Keys))
	}
	if len(st.Dropped) > 0 || st.State == keystore.StateErased {
		switch {
		case st.Final:
			add("final")
		case st.FinalAt.After(time.Now()):
			add("final at %s", when(st.FinalAt))
		case !st.FinalAt.IsZero(): // a mirror is away, a standby late, or a move not finished
			add("not yet final, due since %s", when(st.FinalAt))
		default:
			add("not yet final")
		}
	}
	if j := st.Journal; j != nil {
		asked := "requested at " + when(j.Requested)
		if j.Actor != "" {
			asked += " by " + oneLine(j.Actor)
		}
		add("%s", asked)
		if !j.Destroyed.IsZero() {
			add("keys destroyed at %s", when(j.Destroyed))
		}
	}
	p.line("%s: %s", st.Subject, strings.Join(words, "; "))
}

// named writes purposes for people: the default one has no name.
func named(purposes []string) []string {
	list := slices.Clone(purposes)
	for i, p := range list {
		if p == "" {
			list[i] = "(default)"
		}
	}
	return list
}

// when writes a time for people and programs.
func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }
