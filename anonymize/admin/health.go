package admin

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/oubli/oubli/keystore"
)

const (
	oldestShown = 10   // unfinished erasures on the page
	oldestRead  = 2000 // that are looked through for the oldest
	overlong    = 24 * time.Hour
)

// health answers with the keystore as a whole.
func (q *request) health() error {
	if err := q.must([]keystore.Subject{nobody}, View); err != nil {
		return err
	}
	info, err := q.keys.Info(q.ctx)
	if err != nil {
		return err
	}
	h, err := q.keys.Health(q.ctx)
	if err != nil {
		return err
	}
	page := &healthPage{Name: info.Name, Place: h.Root, Grace: info.Grace, Health: h, Lease: q.keys.Lease(), NotFinal: len(h.NotFinal)}
	if err := q.unfinished(page); err != nil {
		return err
	}
	if err := q.notFinal(page); err != nil {
		return err
	}
	q.problems(page)
	page.URL = link("health")
	q.show(http.StatusOK, page)
	return nil
}

// unfinished finds the oldest erasures that are not done, and shows those the viewer may see.
func (q *request) unfinished(page *healthPage) error {
	var pending []keystore.Status
	for st, err := range q.keys.Pending(q.ctx) {
		if err = q.passOver(page, err); err != nil {
			return err
		}
		if st.Journal != nil {
			pending = append(pending, st)
		}
		if len(pending) == oldestRead {
			break
		}
	}
	slices.SortFunc(pending, func(a, b keystore.Status) int { return a.Journal.Requested.Compare(b.Journal.Requested) })
	if len(pending) == 0 {
		return nil
	}
	page.Oldest = pending[0].Journal.Requested
	few := pending[:min(len(pending), oldestShown)]
	view, err := q.may(View, subjectsOf(few)...)
	if err != nil {
		return err
	}
	for i, st := range few {
		if view[i] {
			page.Pending = append(page.Pending, q.bare(st))
		}
	}
	if view[0] {
		page.OldestURL = personURL(few[0].Subject)
	}
	return nil
}

// passOver takes note of a record that can't be read: the page that says so, and how all the
// rest stands, is needed most then.
func (q *request) passOver(page *healthPage, err error) error {
	if !errors.Is(err, keystore.ErrTampered) {
		return err
	}
	q.o.Logger.Error("a record can't be read", "actor", q.actor, "error", err)
	page.Damaged = true
	return nil
}

// notFinal finds out when the erasures that are not final yet will be: from the first and
// the last of them, for they become final in their order.
func (q *request) notFinal(page *healthPage) error {
	list := slices.Clone(page.Health.NotFinal)
	if len(list) == 0 {
		return nil
	}
	slices.SortFunc(list, func(a, b keystore.Tombstone) int { return a.At.Compare(b.At) })
	sts, err := q.keys.Status(q.ctx, list[0].Subject, list[len(list)-1].Subject)
	if err != nil {
		return q.passOver(page, err)
	}
	page.NextFinal, page.LastFinal = sts[0].FinalAt, sts[1].FinalAt
	return nil
}

// problems lists what somebody should look at.
func (q *request) problems(page *healthPage) {
	h := page.Health
	add := func(text string, args ...any) { page.Problems = append(page.Problems, problem{text, args}) }
	if len(h.Away) > 0 {
		add("away", strings.Join(h.Away, ", "))
	}
	if h.Overdue > 0 {
		add("overdue", h.Overdue)
	}
	if h.Moving != "" {
		add("moving", h.Moving)
	}
	if len(h.Unnamed) > 0 {
		add("unnamed", len(h.Unnamed))
	}
	if h.Unadvanced > 0 {
		add("unadvanced", h.Unadvanced)
	}
	if h.Advancing {
		add("advancing")
	}
	if l := page.Lease; l.Length > 0 && !l.Serves {
		add("lease", l.Polled)
	}
	if !page.Oldest.IsZero() && q.o.Clock().Sub(page.Oldest) > overlong {
		add("stuck", h.Pending, page.Oldest)
	}
	if h.Pending > 0 && !q.eraser.Working() {
		add("idle")
	}
}
