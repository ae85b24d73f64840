package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

func quoted(s string) string { return strconv.Quote(s) }

// loadBatch reads the batch of the form.
func (q *request) loadBatch() (b keystore.Batch, err error) {
	id, err := keystore.ParseBatchID(q.form.Get("id"))
	if err != nil {
		return b, &answer{code: http.StatusNotFound, text: "notfound", back: link("batches")}
	}
	return q.keys.Batch(q.ctx, id)
}

// batch answers with how far a batch has come.
func (q *request) batch() error {
	if err := q.must([]keystore.Subject{nobody}, View); err != nil {
		return err
	}
	b, err := q.loadBatch()
	if err != nil {
		return err
	}
	view, reveal, err := q.visible(b.Subjects)
	if err != nil {
		return err
	}
	permission, ok := needs(b.Action)
	if !ok {
		permission = Anonymize
	}
	may, err := q.may(permission, b.Subjects...)
	if err != nil {
		return err
	}
	sts, err := q.keys.Status(q.ctx, b.Subjects...)
	if err != nil {
		return err
	}
	page := &batchPage{Over: true, ID: b.ID.String(), Action: b.Action, By: b.Actor, At: b.ID.Time(), Keep: b.Keep}
	for i, st := range sts {
		if !view[i] {
			page.Hidden++
			continue
		}
		p := q.inBatch(b, st, reveal[i], may[i])
		page.People = append(page.People, p)
		page.count(p)
	}
	page.Busy = !page.Over
	page.URL = batchURL(b.ID)
	q.show(http.StatusOK, page)
	return nil
}

// inBatch is one person of a batch.
func (q *request) inBatch(b keystore.Batch, st keystore.Status, reveal, may bool) batchPerson {
	p := batchPerson{person: q.bare(st), Step: q.step(b, st), Calls: q.calls(st), Trouble: q.trouble(st, reveal)}
	if p.Step == stepRefused {
		i := slices.IndexFunc(b.Refused, func(r keystore.Refusal) bool { return r.Subject == st.Subject })
		if p.Why = b.Refused[i].Why; slices.Contains(refusals, p.Why) {
			p.Refused, p.Why = p.Why, ""
		}
	}
	p.Retry = may && (p.Step == stepNotAsked && q.refusal(b.Action, st) == "" || p.Step == stepFailed)
	p.Cancel = may && b.Action == actErase && p.Step != stepRefused && cancellable(st) && !q.protected[st.Subject.Kind()]
	return p
}

// refusals are the texts' keys among what a batch has for why.
var refusals = []string{"own", "protected", "held", "unknown", "erased", "erasing", "active", "kept"}

func (page *batchPage) count(p batchPerson) {
	switch p.Step {
	case stepDone:
		page.Done++
	case stepWaiting, stepWorking:
		page.Running++
	case stepFailed, stepRefused, stepNotAsked:
		page.Failed++
	}
	// What failed is tried again by itself.
	page.Over = page.Over && p.Step != stepWaiting && p.Step != stepWorking && p.Step != stepFailed
	page.Retry = page.Retry || p.Retry
	page.Cancel = page.Cancel || p.Cancel
}

// goOn tries again or cancels: for those of the form, or for all of the batch for whom it
// is possible. Without a batch it is about somebody's erasure, whoever asked for it.
func (q *request) goOn() error {
	action := q.form.Get("action")
	if action != "retry" && action != "cancel" {
		return bad("")
	}
	chosen, err := q.subjects()
	if err != nil {
		return err
	}
	if q.form.Get("id") == "" {
		if len(chosen) != 1 {
			return bad("")
		}
		return q.goOnWith(action, keystore.Batch{Action: actErase, Subjects: chosen}, chosen)
	}
	if err := q.must([]keystore.Subject{nobody}, View); err != nil {
		return err
	}
	b, err := q.loadBatch()
	if err != nil {
		return err
	}
	if len(chosen) == 0 {
		if chosen, err = q.seen(b.Subjects); err != nil { // all whom its page shows
			return err
		}
	} else if err := q.must(chosen, View); err != nil { // first: that they are in it is not told of others
		return err
	} else if slices.ContainsFunc(chosen, func(s keystore.Subject) bool { return !slices.Contains(b.Subjects, s) }) {
		return bad("")
	}
	return q.goOnWith(action, b, chosen)
}

func (q *request) goOnWith(action string, b keystore.Batch, chosen []keystore.Subject) error {
	permission, ok := needs(b.Action)
	if !ok {
		return bad("")
	}
	sts, err := q.keys.Status(q.ctx, chosen...)
	if err != nil {
		return err
	}
	batched := b.ID != keystore.BatchID{}
	var pending, notAsked []keystore.Subject
	for _, st := range sts {
		step := q.step(b, st)
		switch {
		case b.Action == actErase && st.State == keystore.StateErasing && step != stepRefused && (action == "retry" || cancellable(st)):
			pending = append(pending, st.Subject)
		case action == "retry" && batched && step == stepNotAsked:
			notAsked = append(notAsked, st.Subject)
		}
	}
	// Who chose some is asked about these, whatever can be done for them now.
	concerned := slices.Concat(pending, notAsked)
	if len(q.form["s"]) > 0 {
		concerned = chosen
	}
	if err := q.must(concerned, View, permission); err != nil {
		return err
	}
	if slices.ContainsFunc(concerned, func(s keystore.Subject) bool { return q.protected[s.Kind()] }) {
		q.o.Logger.Warn("refused: a protected kind", "actor", q.actor, "action", action, "subjects", texts(concerned))
		return &answer{code: http.StatusForbidden, text: "forbidden"}
	}
	ctx, cancel := q.detached()
	defer cancel()
	if len(pending) > 0 {
		q.o.Logger.Info("asked for", "actor", q.actor, "action", action, "batch", b.ID, "subjects", texts(pending))
	}
	note := "nothing"
	if action == "cancel" {
		note, err = q.cancel(ctx, pending)
	} else if len(pending) > 0 {
		note, err = "retried", q.retry(ctx, pending)
	}
	if err != nil {
		return err
	}
	if len(notAsked) > 0 {
		return q.confirmAnew(b, notAsked)
	}
	if !batched {
		q.redirect(link("person", "s", chosen[0].String(), "note", note))
		return nil
	}
	q.redirect(link("batch", "id", b.ID.String(), "note", note))
	return nil
}

// confirmAnew leads to the confirmation for those whom a process that died did not ask for
// any more. Nothing is done to them because a record says that somebody confirmed it: what
// was shown then may not be so any more, a hold's reason does not stand in it, and whoever
// can write to the keystore can put one there.
func (q *request) confirmAnew(b keystore.Batch, subjects []keystore.Subject) error {
	q.form = url.Values{"action": {b.Action}, "s": texts(subjects)}
	if b.Action == actErase {
		q.form["keep"] = b.Keep
	} else {
		q.form.Set("purpose", strings.Join(b.Keep, ", "))
	}
	return q.confirm()
}

// retry lets pending erasures be tried again at once.
func (q *request) retry(ctx context.Context, pending []keystore.Subject) error {
	err := q.eraser.Retry(ctx, pending...)
	if some := (*anonymize.BatchError)(nil); errors.As(err, &some) {
		return nil // some are done or cancelled meanwhile, as the page shows
	}
	return err
}

// cancel takes erasures back. One that can't be any more stops none of the others.
func (q *request) cancel(ctx context.Context, pending []keystore.Subject) (note string, err error) {
	done, late := 0, len(q.form["s"]) > len(pending) // of those who were chosen, some have gone on already
	for _, s := range pending {
		fails := q.eraser.Cancel(ctx, s)
		switch {
		case fails == nil:
			done++
		case away(fails):
			err = errors.Join(err, fails)
		default:
			late = true
		}
	}
	switch {
	case err != nil:
		return "", err
	case late:
		return "toolate", nil
	case done > 0:
		return "cancelled", nil
	}
	return "nothing", nil
}

// batches answers with what was asked for, the newest first.
func (q *request) batches() error {
	if err := q.must([]keystore.Subject{nobody}, View); err != nil {
		return err
	}
	page := &batchesPage{}
	var after keystore.BatchID
	if text := q.form.Get("after"); text != "" {
		var err error
		if after, err = keystore.ParseBatchID(text); err != nil {
			return bad("")
		}
		page.First = link("batches")
	}
	list, err := q.keys.Batches(q.ctx, after, q.o.PageSize)
	if errors.Is(err, keystore.ErrTampered) { // a record that is written there hides no other
		q.o.Logger.Error("a batch can't be read", "actor", q.actor, "error", err)
		page.Damaged, err = true, nil
	}
	if err != nil {
		return err
	}
	for _, b := range list {
		if len(b.Subjects) == 0 {
			continue // it can't be read
		}
		page.Batches = append(page.Batches, batchLine{URL: batchURL(b.ID), Action: b.Action, By: b.Actor, At: b.ID.Time(), People: len(b.Subjects)})
	}
	if len(list) == q.o.PageSize {
		page.Next = link("batches", "after", list[len(list)-1].ID.String())
	}
	page.URL = link("batches", "after", q.form.Get("after"))
	q.show(http.StatusOK, page)
	return nil
}
