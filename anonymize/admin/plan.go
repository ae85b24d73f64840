package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

// previews is how many people's rows are counted at once.
const previews = 8

// plan is what an action would do to whom, as it is now.
type plan struct {
	action   string
	subjects []keystore.Subject
	sts      []keystore.Status
	refused  []string // by subject: why not, as a text's key; empty: it will be done
	plans    []*anonymize.Plan
	info     keystore.StoreInfo
	keep     []string // chosen
	keepable []string // purposes that can be chosen
}

// plan finds out. It changes nothing. Who moves on while it looks is looked at again: a page
// must not show half of before and half of after.
func (q *request) plan(action string, subjects []keystore.Subject, keep []string) (p *plan, err error) {
	for range 3 {
		if p, err = q.look(action, subjects, keep); err != nil || p.consistent() {
			break
		}
	}
	return p, err
}

// consistent tells whether everybody's preview is of the state that was read for them.
func (p *plan) consistent() bool {
	for i, pl := range p.plans {
		if pl != nil && (pl.State != p.sts[i].State.String() || pl.Hold != p.sts[i].Hold) {
			return false
		}
	}
	return true
}

func (q *request) look(action string, subjects []keystore.Subject, keep []string) (*plan, error) {
	p := &plan{action: action, subjects: subjects, refused: make([]string, len(subjects)), plans: make([]*anonymize.Plan, len(subjects))}
	var err error
	if p.sts, err = q.keys.Status(q.ctx, subjects...); err != nil {
		return nil, err
	}
	for i, st := range p.sts {
		p.refused[i] = q.refusal(action, st)
	}
	if p.info, err = q.keys.Info(q.ctx); err != nil {
		return nil, err
	}
	if action != actErase {
		return p, nil
	}
	p.keepable = q.keepable(p)
	for _, k := range keep {
		if !slices.Contains(p.keepable, k) {
			return nil, bad("")
		}
	}
	p.keep = keep
	return p, q.preview(p)
}

// preview asks the eraser about everybody whom it concerns, some at once.
func (q *request) preview(p *plan) error {
	var wg sync.WaitGroup
	slots := make(chan struct{}, previews)
	errs := make([]error, len(p.subjects))
	for i, s := range p.subjects {
		if p.refused[i] != "" {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			p.plans[i], errs[i] = q.eraser.PreviewWith(q.ctx, &anonymize.Request{Keep: p.keep}, s)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if errors.Is(err, keystore.ErrInvalid) { // what can be kept has changed
			return bad("")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keepable returns the purposes that can be kept for everybody concerned: those of the
// tables of their kinds, or of their keys where a kind has no tables.
func (q *request) keepable(p *plan) []string {
	byKind := map[string][]string{}
	for i, st := range p.sts {
		if p.refused[i] != "" {
			continue
		}
		kind := st.Subject.Kind()
		if tables := q.eraser.Tables(kind); len(tables) > 0 {
			if byKind[kind] == nil {
				byKind[kind] = []string{}
				for _, t := range tables {
					for _, f := range t.Fields {
						byKind[kind] = append(byKind[kind], f.Purpose)
					}
				}
			}
			continue
		}
		for _, k := range st.Keys {
			byKind[kind] = append(byKind[kind], k.Purpose)
		}
		byKind[kind] = append(byKind[kind], "")
	}
	var common []string
	first := true
	for _, purposes := range byKind {
		if first {
			common, first = slices.Clone(purposes), false
			continue
		}
		common = slices.DeleteFunc(common, func(c string) bool { return !slices.Contains(purposes, c) })
	}
	slices.Sort(common)
	return slices.DeleteFunc(slices.Compact(common), func(c string) bool { return c == "" })
}

// possible counts those to whom it will be done.
func (p *plan) possible() int {
	n := 0
	for _, why := range p.refused {
		if why == "" {
			n++
		}
	}
	return n
}

// asks is what must be typed to erase: the id of the one who was chosen, or how many of
// several it will be done to. What can be undone asks for nothing.
func (p *plan) asks() string {
	n := p.possible()
	switch {
	case p.action != actErase || n == 0:
		return ""
	case len(p.subjects) == 1:
		return p.subjects[0].ID()
	}
	return strconv.Itoa(n)
}

// typed tells whether that was typed. Who copies the whole subject means the same.
func (p *plan) typed(text string) bool {
	asks := p.asks()
	text = strings.TrimSpace(text)
	return asks == "" || text == asks || len(p.subjects) == 1 && text == p.subjects[0].String()
}

// finalAt is when an erasure that is asked for now is final at the earliest.
func (p *plan) finalAt(now time.Time) time.Time {
	return now.Add(p.info.Grace + p.info.Root.Delay)
}

// receivers are those that will be called, in their order, and those that this process
// lacks, for which it will wait.
func (p *plan) receivers() (calls, missing []string) {
	for _, pl := range p.plans {
		if pl == nil {
			continue
		}
		for _, r := range pl.Receivers {
			if !slices.Contains(calls, r) {
				calls = append(calls, r)
			}
		}
		for _, r := range pl.Missing {
			if !slices.Contains(missing, r) {
				missing = append(missing, r)
			}
		}
	}
	return calls, missing
}

// digest fingerprints what matters about what is shown, so that a confirmation of what is
// not so any more is noticed. How many rows there are does not matter: the application goes
// on working.
//
// It is bound to the viewer and the batch; it needs no secret, for no page of another
// origin can post here, and whoever can may confirm what they know.
func (p *plan) digest(id keystore.BatchID, actor string) string {
	type table struct {
		Name         string
		Fields, Kept []string
	}
	type fact struct {
		Subject  keystore.Subject
		State    keystore.State
		Refused  string
		Hold     string
		Kept     bool
		Purposes []string
		Gone     []string
		Last     keystore.Change // that changed something
		Tables   []table
		Calls    []string
		Missing  []string
	}
	all := struct {
		Batch, Actor, Action string
		People               []fact
		Keep, Keepable       []string
		Class                string
		Grace                time.Duration
	}{id.String(), actor, p.action, nil, p.keep, p.keepable, p.info.Root.Class, p.info.Grace + p.info.Root.Delay}
	for i, st := range p.sts {
		f := fact{Subject: st.Subject, State: st.State, Refused: p.refused[i], Hold: st.Hold, Kept: st.Kept, Purposes: st.Purposes, Gone: st.Gone}
		for _, c := range st.History {
			if c.Kind != keystore.ChangeExported && c.Kind != keystore.ChangeRetried {
				f.Last = c
			}
		}
		if pl := p.plans[i]; pl != nil {
			f.Calls, f.Missing = pl.Receivers, pl.Missing
			for _, t := range pl.Tables {
				f.Tables = append(f.Tables, table{t.Table, t.Fields, t.Kept})
			}
		}
		all.People = append(all.People, f)
	}
	raw, err := json.Marshal(all)
	if err != nil { // texts, numbers and times: it can't
		panic(err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
