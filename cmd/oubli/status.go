package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

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
			return a.withStore(c.Context(), reading, func(keys *keystore.Store) error {
				if len(subjects) > 0 {
					return a.subjectStatus(c.Context(), keys, subjects, asJSON)
				}
				return a.storeStatus(c.Context(), keys, asJSON)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON; one object a line for subjects")
	return c
}

// storeReport is the keystore as a whole.
type storeReport struct {
	keystore.StoreInfo
	keystore.Health
	Subjects map[string]int    `json:"subjects"`  // by state
	Erasing  []keystore.Status `json:"erasing"`   // unfinished erasures
	NotFinal []keystore.Status `json:"not_final"` // erased, not yet final
}

func (a *app) storeStatus(ctx context.Context, keys *keystore.Store, asJSON bool) error {
	r := storeReport{Subjects: map[string]int{}, Erasing: []keystore.Status{}, NotFinal: []keystore.Status{}}
	var err1, err2 error
	r.StoreInfo, err1 = keys.Info(ctx)
	r.Health, err2 = keys.Health(ctx)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	for st, err := range keys.All(ctx) {
		if err != nil {
			return err
		}
		r.Subjects[st.State.String()]++
	}
	for st, err := range keys.Pending(ctx) {
		if err != nil {
			return err
		}
		r.Erasing = append(r.Erasing, st)
	}
	var dead []keystore.Subject
	for _, t := range r.Health.NotFinal {
		dead = append(dead, t.Subject)
	}
	var err error
	if r.NotFinal, err = keys.Status(ctx, unique(dead)...); err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(a.out).Encode(r)
	}
	p := &printer{w: a.out}
	p.store(&r)
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
	p.line("keystore: %s", r.Name)
	p.line("epoch: %d", r.Epoch)
	if r.Advancing {
		p.line("an advance has begun and is not finished; opening the keystore for writing finishes it")
	}
	p.line("grace: %v", r.Grace)
	p.line("root place: %s (%s)", r.StoreInfo.Root.URL, r.StoreInfo.Root.Class)
	p.roots(r.Health)
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
		add("withdrawn: %s", strings.Join(st.Gone, ", "))
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
		case !st.FinalAt.IsZero():
			add("final at %s", when(st.FinalAt))
		default:
			add("not yet final")
		}
	}
	p.line("%s: %s", st.Subject, strings.Join(words, "; "))
}
