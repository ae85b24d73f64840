package admin

import (
	"errors"
	"net/http"
	"slices"

	"github.com/oubli/oubli/keystore"
)

// The states that the list can be filtered by: those that the keystore has lists of.
var filters = []keystore.State{keystore.StateUnknown, keystore.StateErasing, keystore.StateRestricted, keystore.StateErased}

// stateName is how a filter stands in an address: everybody by nothing.
func stateName(s keystore.State) string {
	if s == keystore.StateUnknown {
		return ""
	}
	return s.String()
}

// choices are the filters as the list shows them: for each that can be active, and last
// for a search, where none is. Nobody changes them.
var choices = func() (all [][]filter) {
	for active := range len(filters) + 1 {
		var list []filter
		for i, s := range filters {
			list = append(list, filter{State: s, URL: link("", "state", stateName(s)), Active: i == active})
		}
		all = append(all, list)
	}
	return all
}()

// people answers with the list, or with what an exact search finds.
func (q *request) people() error {
	if err := q.must([]keystore.Subject{nobody}, View); err != nil {
		return err
	}
	i := slices.IndexFunc(filters, func(s keystore.State) bool { return stateName(s) == q.form.Get("state") })
	if i < 0 {
		return bad("")
	}
	page := &peoplePage{Query: q.form.Get("q"), State: filters[i], Columns: q.columns, MaxBatch: keystore.MaxBatch}
	if p := q.form.Get("problem"); slices.Contains([]string{"none", "csv"}, p) {
		page.Problem = p
	}
	page.Filters = choices[i]
	if page.Query != "" {
		page.Filters = choices[len(filters)]
	}
	var found []keystore.Status
	var err error
	if page.Query != "" {
		page.State, page.First = keystore.StateUnknown, link("")
		found, page.Missing, err = q.search(page.Query)
	} else {
		found, err = q.listed(page)
	}
	if err != nil {
		return err
	}
	if err := q.fill(page, found); err != nil {
		return err
	}
	page.URL = q.listURL()
	page.Busy = slices.ContainsFunc(page.People, func(p person) bool { return p.State == keystore.StateErasing })
	q.show(http.StatusOK, page)
	return nil
}

// listed reads one page of the list.
func (q *request) listed(page *peoplePage) ([]keystore.Status, error) {
	after := q.form.Get("after")
	found, next, err := q.keys.List(q.ctx, keystore.ListQuery{State: page.State, After: after, Limit: q.o.PageSize})
	if errors.Is(err, keystore.ErrTampered) {
		// The others are there: somebody must look at the one, and nobody waits for that.
		q.o.Logger.Error("a record of the list can't be read", "actor", q.actor, "error", err)
		page.Problem, err = "damaged", nil
	}
	if err != nil {
		return nil, err
	}
	if next != "" {
		page.Next = link("", "state", stateName(page.State), "after", next)
	}
	page.After = after
	if after != "" {
		page.First = link("", "state", stateName(page.State))
	}
	return found, nil
}

// fill makes people of those whom the viewer may see, and counts the others.
func (q *request) fill(page *peoplePage, found []keystore.Status) error {
	view, reveal, err := q.visible(subjectsOf(found))
	if err != nil {
		return err
	}
	shown, open := make([]keystore.Status, 0, len(found)), make([]bool, 0, len(found))
	for i, st := range found {
		if !view[i] {
			page.Hidden++
			continue
		}
		shown, open = append(shown, st), append(open, reveal[i])
	}
	if page.People, err = q.persons(shown, open); err != nil {
		if page.People, err = q.withoutValues(shown, err); err != nil {
			return err
		}
		page.Problem = "novalues"
	}
	if page.May, err = q.offers(shown); err != nil {
		return err
	}
	return nil
}

// offers tells what the viewer may do to any of some people.
func (q *request) offers(sts []keystore.Status) (a actions, err error) {
	subjects := subjectsOf(sts)
	erase, err := q.may(Anonymize, subjects...)
	if err != nil {
		return a, err
	}
	restrict, err := q.may(Restrict, subjects...)
	if err != nil {
		return a, err
	}
	export, err := q.may(Export, subjects...)
	if err != nil {
		return a, err
	}
	for i, st := range sts {
		a.Export = a.Export || export[i]
		a.Erase = a.Erase || erase[i] && q.refusal(actErase, st) == ""
		a.Restrict = a.Restrict || restrict[i] && q.refusal(actRestrict, st) == ""
		a.Release = a.Release || restrict[i] && q.refusal(actRelease, st) == ""
	}
	return a, nil
}

// refusal tells why an action is not for somebody, whoever asks; empty if it is. It is a
// text's key.
func (q *request) refusal(action string, st keystore.Status) string {
	switch {
	case q.protected[st.Subject.Kind()]:
		return "protected"
	case action == actErase && st.Subject == q.viewer.Self():
		return "own"
	case st.State == keystore.StateUnknown:
		return "unknown"
	case st.State == keystore.StateErased:
		return "erased"
	case st.State == keystore.StateErasing:
		return "erasing"
	case action != actRelease && st.Hold != "": // a new restriction would end the hold of the old one unsaid
		return "held"
	case action == actRelease && st.State != keystore.StateRestricted:
		return "active"
	case action == actRelease && st.Kept && st.Hold == "":
		return "kept"
	}
	return ""
}

// persons makes people for the page, with the values that the viewer may see.
func (q *request) persons(sts []keystore.Status, reveal []bool) ([]person, error) {
	rows, err := q.values(sts, reveal)
	if err != nil {
		return nil, err
	}
	people := make([]person, len(sts))
	for i, st := range sts {
		people[i] = q.bare(st)
		people[i].Values = rows[i]
	}
	return people, nil
}

// withoutValues makes people without their values, where these failed by the application's
// own fault: who they are and how they stand is the keystore's to say.
func (q *request) withoutValues(sts []keystore.Status, err error) ([]person, error) {
	if a := (*answer)(nil); errors.As(err, &a) || away(err) {
		return nil, err
	}
	q.o.Logger.Error("the columns of the list can't be read", "actor", q.actor, "error", logged(err))
	people := make([]person, len(sts))
	for i, st := range sts {
		people[i] = q.bare(st)
	}
	return people, nil
}

// bare is a person without values.
func (q *request) bare(st keystore.Status) person {
	return person{Subject: st.Subject.String(), URL: personURL(st.Subject), State: st.State, Kept: st.Kept, Hold: st.Hold,
		Final: st.Final, FinalAt: st.FinalAt, Own: st.Subject == q.viewer.Self()}
}

func subjectsOf(sts []keystore.Status) []keystore.Subject {
	list := make([]keystore.Subject, len(sts))
	for i, st := range sts {
		list[i] = st.Subject
	}
	return list
}
