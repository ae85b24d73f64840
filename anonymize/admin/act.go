package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

const (
	freshness = time.Hour       // after which a confirmation is stale
	ahead     = 5 * time.Minute // how far clocks of two processes may differ
	longest   = 2 * time.Minute // that carrying out may take
)

// act carries out what was confirmed.
//
// The batch is saved before anything is done, so that what a process died over can be
// seen, and asked for again. Its id was made when the confirmation was shown: the same
// form sent twice finds it and leads to its page.
func (q *request) act() error {
	o, err := q.order()
	if err != nil {
		return err
	}
	id, err := keystore.ParseBatchID(q.form.Get("batch"))
	if err != nil || len(o.subjects) == 0 || q.form.Get("digest") == "" {
		return bad("")
	}
	defer q.acting.lock(id)()
	b, err := q.keys.Batch(q.ctx, id)
	taken := err == nil
	if taken {
		var same bool
		if same, err = q.same(b, o); same {
			q.redirect(batchURL(id))
			return nil
		} // else nobody was ever asked to confirm this one
	}
	if err != nil && !errors.Is(err, keystore.ErrNotFound) {
		return err
	}
	p, err := q.plan(o.action, o.subjects, o.keep)
	if err != nil {
		return err
	}
	now := q.o.Clock()
	age := now.Sub(id.Time())
	if taken || age > freshness || age < -ahead || q.form.Get("digest") != p.digest(id, q.actor) {
		q.o.Logger.Warn("refused: a stale confirmation", "actor", q.actor, "action", o.action, "batch", id, "subjects", texts(o.subjects))
		return q.ask(http.StatusConflict, o, p, keystore.NewBatchID(now), func(page *confirmPage) { page.Stale = true })
	}
	if p.possible() == 0 || !p.typed(q.form.Get("typed")) {
		return q.ask(http.StatusUnprocessableEntity, o, p, id, func(page *confirmPage) { page.Wrong = page.Possible > 0 })
	}
	b = keystore.Batch{ID: id, Action: o.action, Actor: q.actor, Keep: slices.Concat(o.keep, o.purposes), Subjects: o.subjects}
	for i, why := range p.refused {
		if why != "" {
			b.Refused = append(b.Refused, keystore.Refusal{Subject: o.subjects[i], Why: why})
		}
	}
	return q.carryOut(b, o)
}

// same tells whether a batch is what was confirmed: then the form was sent before. What a
// batch does not hold, a hold's reason, who goes back can have changed.
func (q *request) same(b keystore.Batch, o *order) (bool, error) {
	if b.Actor != q.actor || b.Action != o.action || !slices.Equal(b.Keep, slices.Concat(o.keep, o.purposes)) ||
		!slices.Equal(b.Subjects, o.subjects) {
		return false, nil
	}
	if o.action != actRestrict {
		return true, nil
	}
	sts, err := q.keys.Status(q.ctx, open(b)...)
	return err == nil && !slices.ContainsFunc(sts, func(st keystore.Status) bool { return st.Hold != o.hold }), err
}

// carryOut saves a batch, does it, saves who was refused, and leads to its page. It goes on
// when whoever asked is gone.
func (q *request) carryOut(b keystore.Batch, o *order) error {
	ctx, cancel := q.detached()
	defer cancel()
	err := q.keys.AddBatch(ctx, b)
	if errors.Is(err, keystore.ErrExists) { // another process was sent the same form just now
		q.redirect(batchURL(b.ID))
		return nil
	}
	if err != nil {
		return err
	}
	q.o.Logger.Info("asked for", "actor", q.actor, "action", b.Action, "batch", b.ID, "people", len(b.Subjects), "refused", len(b.Refused))
	refused, err := q.do(ctx, b, o.hold, open(b))
	if len(refused) > 0 {
		b.Refused = append(b.Refused, refused...)
		err = errors.Join(err, q.keys.SaveBatch(ctx, b))
	}
	if err != nil {
		// It may have been done in part: its page tells, when the keystore is back.
		a := answerTo(err)
		a.back = batchURL(b.ID)
		return a
	}
	q.redirect(batchURL(b.ID))
	return nil
}

// detached is a context for what must not end half way because somebody closed a page.
func (q *request) detached() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(q.ctx), longest)
}

// open lists the subjects of a batch that are not refused.
func open(b keystore.Batch) []keystore.Subject {
	return slices.DeleteFunc(slices.Clone(b.Subjects), func(s keystore.Subject) bool {
		return slices.ContainsFunc(b.Refused, func(r keystore.Refusal) bool { return r.Subject == s })
	})
}

// do does what a batch says to some of its subjects, and returns whom the keystore refused.
func (q *request) do(ctx context.Context, b keystore.Batch, hold string, subjects []keystore.Subject) (refused []keystore.Refusal, err error) {
	var errs []error
	switch b.Action {
	case actErase:
		return q.requestErasures(ctx, b, subjects)
	case actRestrict:
		errs, err = q.keys.Restrict(ctx, &keystore.RestrictOptions{Purposes: b.Keep, Hold: hold}, subjects...)
	case actRelease:
		errs, err = q.keys.Release(ctx, subjects...)
	}
	for i, e := range errs {
		switch {
		case e == nil:
		case away(e): // no refusal: it may even be done
			err = errors.Join(err, e)
		default:
			refused = append(refused, keystore.Refusal{Subject: subjects[i], Why: e.Error()})
		}
	}
	return refused, err
}

// away tells whether an error says nothing about a person, but that the keystore could not
// be asked.
func away(err error) bool { return answerTo(err).code == http.StatusServiceUnavailable }

// requestErasures asks for erasures. The worker, here or elsewhere, does the rest.
func (q *request) requestErasures(ctx context.Context, b keystore.Batch, subjects []keystore.Subject) (refused []keystore.Refusal, err error) {
	all := q.eraser.RequestWith(ctx, &anonymize.Request{Keep: b.Keep, Actor: q.actor}, subjects...)
	some := (*anonymize.BatchError)(nil)
	if !errors.As(all, &some) {
		return nil, all
	}
	for _, r := range some.Failed {
		if away(r.Err) {
			err = errors.Join(err, r.Err)
			continue
		}
		refused = append(refused, keystore.Refusal{Subject: r.Subject, Why: r.Err.Error()})
	}
	return refused, err
}

func texts(subjects []keystore.Subject) []string {
	list := make([]string, len(subjects))
	for i, s := range subjects {
		list[i] = s.String()
	}
	return list
}
