package admin

import (
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/oubli/oubli/keystore"
)

// order is what a form asks for: an action on subjects.
type order struct {
	action   string
	subjects []keystore.Subject
	keep     []string // erase: purposes
	purposes []string // restrict: who may still read
	hold     string   // restrict
}

const (
	maxHold     = 500 // bytes of a hold's reason
	maxPurposes = 20
	maxAddress  = 4000 // bytes of an address that every proxy takes
)

// order reads it and asks for the permissions on each of its subjects.
func (q *request) order() (*order, error) {
	o := &order{action: q.form.Get("action"), hold: strings.TrimSpace(q.form.Get("hold")), purposes: list(q.form.Get("purpose"))}
	permission, ok := needs(o.action)
	if !ok {
		return nil, bad("")
	}
	var err error
	if o.subjects, err = q.subjects(); err != nil {
		return nil, err
	}
	if o.action != actRestrict {
		o.hold, o.purposes = "", nil
	}
	if len(o.hold) > maxHold || len(o.purposes) > maxPurposes || !printable(o.hold+strings.Join(o.purposes, "")) {
		return nil, bad("")
	}
	if o.action == actErase {
		for _, k := range q.form["keep"] {
			if k != "" && !slices.Contains(o.keep, k) {
				o.keep = append(o.keep, k)
			}
		}
		slices.Sort(o.keep)
	}
	return o, q.must(o.subjects, View, permission)
}

// confirm answers with what an action would do to whom. It changes nothing.
func (q *request) confirm() error {
	o, err := q.order()
	if err != nil {
		return err
	}
	if len(o.subjects) == 0 {
		q.redirect(q.listURL("problem", "none"))
		return nil
	}
	// A page with an address of its own is there again when somebody comes back to it from
	// another. A hold's reason does not belong into one.
	if to := q.confirmURL(o); q.r.Method == http.MethodPost && o.hold == "" && len(o.purposes) == 0 && len(to) < maxAddress {
		q.redirect(to)
		return nil
	}
	p, err := q.plan(o.action, o.subjects, o.keep)
	if err != nil {
		return err
	}
	return q.ask(http.StatusOK, o, p, keystore.NewBatchID(q.o.Clock()), nil)
}

// confirmURL is the address of the confirmation of an order.
func (q *request) confirmURL(o *order) string {
	pairs := []string{"action", o.action, "q", q.form.Get("q"), "state", q.form.Get("state"), "after", q.form.Get("after")}
	for _, s := range o.subjects {
		pairs = append(pairs, "s", s.String())
	}
	for _, k := range o.keep {
		pairs = append(pairs, "keep", k)
	}
	return link("confirm", pairs...)
}

// ask shows the confirmation; change, if any, says what was wrong with the last one.
func (q *request) ask(code int, o *order, p *plan, id keystore.BatchID, change func(*confirmPage)) error {
	page := &confirmPage{Action: o.action, Batch: id.String(), Digest: p.digest(id, q.actor), Class: p.info.Root.Class,
		Asks: p.asks(), Possible: p.possible(), Hold: o.hold, Purpose: strings.Join(o.purposes, ", "), Back: q.listURL(),
		Query: q.form.Get("q"), Filter: q.form.Get("state"), After: q.form.Get("after"), Columns: q.columns}
	page.One = len(o.subjects) == 1
	if len(o.subjects) == 1 {
		page.Back = personURL(o.subjects[0])
	}
	if o.action == actErase {
		page.FinalAt = p.finalAt(q.o.Clock())
		page.Calls, page.Missing = p.receivers()
		page.Tables = q.tables(p)
		for _, k := range p.keepable {
			page.Keep = append(page.Keep, keepChoice{Purpose: k, Checked: slices.Contains(p.keep, k)})
		}
	}
	reveal, err := q.may(Reveal, o.subjects...)
	if err != nil {
		return err
	}
	people, err := q.persons(p.sts, reveal)
	if err != nil {
		if people, err = q.withoutValues(p.sts, err); err != nil {
			return err
		}
	}
	for i, person := range people {
		c := confirmPerson{person: person, Refused: p.refused[i], Rows: -1}
		if c.Refused == "held" {
			c.Detail = p.sts[i].Hold
		}
		if pl := p.plans[i]; pl != nil {
			c.Rows = 0
			for _, t := range pl.Tables {
				c.Rows += t.Rows
			}
		}
		page.People = append(page.People, c)
	}
	page.URL = q.confirmURL(o)
	if change != nil {
		change(page)
	}
	q.show(code, page)
	return nil
}

// tables sums up what happens to the tables of all people.
func (q *request) tables(p *plan) []confirmTable {
	var list []confirmTable
	for i, pl := range p.plans {
		if pl == nil {
			continue
		}
		kind := p.subjects[i].Kind()
		for _, t := range pl.Tables {
			at := slices.IndexFunc(list, func(c confirmTable) bool { return c.Kind == kind && c.Table == t.Table })
			if at < 0 {
				at = len(list)
				list = append(list, confirmTable{Kind: kind, Table: t.Table})
			}
			c := &list[at]
			c.Rows += t.Rows
			c.Fields = union(c.Fields, t.Fields)
			c.Kept = union(c.Kept, t.Kept)
		}
	}
	for i := range list {
		c := &list[i]
		for _, t := range q.eraser.Tables(c.Kind) {
			if t.Name != c.Table {
				continue
			}
			for _, f := range t.Fields {
				if !slices.Contains(c.Fields, f.Name) && !slices.Contains(c.Kept, f.Name) {
					continue // of a purpose that is gone already
				}
				at := slices.IndexFunc(c.ByPurpose, func(b purposeFields) bool { return b.Purpose == f.Purpose })
				if at < 0 {
					at = len(c.ByPurpose)
					c.ByPurpose = append(c.ByPurpose, purposeFields{Purpose: f.Purpose, Kept: f.Purpose != "" && slices.Contains(p.keep, f.Purpose)})
				}
				c.ByPurpose[at].Fields = append(c.ByPurpose[at].Fields, f.Name)
			}
		}
	}
	return list
}

// union appends what is not in a yet.
func union(a, b []string) []string {
	for _, x := range b {
		if !slices.Contains(a, x) {
			a = append(a, x)
		}
	}
	return a
}

// printable tells whether a text is UTF-8 that does nothing to the terminal it is read on.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
