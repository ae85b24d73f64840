package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
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
		Long: `Shows the keystore: epoch, roots, how many people are in which state, and what is not
finished. With subjects, a line for each, and below it what was done and who asked. With --db it also shows how far the tables of
the data map are adopted, and how many rows a subject has in each.`,
		Args: between(0, -1, "SUBJECTs"),
		RunE: func(c *cobra.Command, args []string) error {
			subjects, err := a.subjects(args)
			if err != nil {
				return err
			}
			ctx := c.Context()
			show := func(t *tables) error {
				return a.withKeystore(ctx, reading, func(keys *openKeystore) error {
					if len(subjects) > 0 {
						return a.subjectStatus(ctx, keys.Store, t, subjects, asJSON)
					}
					return a.storeStatus(ctx, keys, t, asJSON)
				})
			}
			if a.db == "" {
				return show(nil)
			}
			return a.withTablesToo(ctx, show)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON; one object a line for subjects")
	return c
}

// storeStatus shows the keystore, and tables if they are not nil.
func (a *app) storeStatus(ctx context.Context, keys *openKeystore, t *tables, asJSON bool) error {
	r, err := report(ctx, keys)
	if err != nil {
		return err
	}
	if t != nil {
		r.Tables = t.report()
	}
	if asJSON {
		return json.NewEncoder(a.out).Encode(r)
	}
	p := &printer{w: a.out}
	p.store(r)
	return p.err
}

// subjectStatus shows subjects, and how many rows each has in tables if they are not nil.
func (a *app) subjectStatus(ctx context.Context, keys *keystore.Store, t *tables, subjects []keystore.Subject, asJSON bool) error {
	list, err := keys.Status(ctx, subjects...)
	if err != nil {
		return err
	}
	rows := make([]map[string]int, len(list))
	if t != nil {
		mapped, err := t.mapped(keys)
		if err != nil {
			return err
		}
		for i, s := range subjects {
			if rows[i], err = mapped.Count(ctx, s); err != nil {
				return err
			}
		}
	}
	p := &printer{w: a.out}
	for i := range list {
		if !asJSON {
			p.subject(&list[i], rows[i])
			p.history(list[i].History)
			continue
		}
		one := struct {
			keystore.Status
			Rows map[string]int `json:"rows,omitempty"` // by table
		}{list[i], rows[i]}
		if err := json.NewEncoder(a.out).Encode(one); err != nil {
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
	for _, t := range r.Tables {
		p.line("table %s: %s", t.Table, t.words())
	}
	for _, state := range []keystore.State{keystore.StateActive, keystore.StateRestricted, keystore.StateErasing, keystore.StateErased} {
		p.line("%s: %d", state, r.Subjects[state.String()])
	}
	for i := range r.Erasing {
		p.subject(&r.Erasing[i], nil)
	}
	p.line("erased, not yet final: %d", len(r.NotFinal))
	for i := range r.NotFinal {
		p.subject(&r.NotFinal[i], nil)
	}
}

// roots writes where the roots are, and a line for each that lives.
func (p *printer) roots(r *storeReport) {
	p.rootsReport(&r.rootsReport)
	if r.Late != "" {
		p.line("a standby is late, and older roots live until it is not: %s", r.Late)
	}
}

// subject writes one subject on a line. rows are its rows by table, nil if nobody looked.
func (p *printer) subject(st *keystore.Status, rows map[string]int) {
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
		add("%s", count(len(st.Keys), "key", "keys"))
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
		if len(j.Acked) > 0 {
			add("told %s", strings.Join(j.Acked, ", "))
		}
		if !j.Destroyed.IsZero() {
			add("keys destroyed at %s", when(j.Destroyed))
		}
	}
	for _, table := range slices.Sorted(maps.Keys(rows)) {
		add("%s in %s", count(rows[table], "row", "rows"), table)
	}
	p.line("%s: %s", st.Subject, strings.Join(words, "; "))
}

// history writes what was done with a subject, a line each.
func (p *printer) history(list []keystore.Change) {
	for _, c := range list {
		by := ""
		if c.Actor != "" {
			by = " by " + oneLine(c.Actor)
		}
		p.line("  %s %s%s", when(c.At), c.Kind, by)
	}
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
