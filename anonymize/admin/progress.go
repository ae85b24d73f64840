package admin

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

// The steps of a person in a batch, as texts' keys.
const (
	stepDone      = "done"
	stepRefused   = "refused"
	stepCancelled = "cancelled"
	stepWaiting   = "waiting" // for a worker
	stepWorking   = "working"
	stepFailed    = "failed"   // until it is tried again
	stepNotAsked  = "notasked" // the process died before it was
)

// step tells how far somebody has come in a batch, from their record in the keystore, so
// that any process says the same, and from what this process knows of the attempt.
func (q *request) step(b keystore.Batch, st keystore.Status) string {
	switch {
	case slices.ContainsFunc(b.Refused, func(r keystore.Refusal) bool { return r.Subject == st.Subject }):
		return stepRefused
	case b.Action == actErase && st.State == keystore.StateErasing:
		return q.erasing(st)
	case b.Action == actErase && (st.State == keystore.StateErased || st.Kept && subset(st.Purposes, b.Keep)):
		return stepDone
	}
	return since(b, st.History)
}

// since tells from somebody's history what became of a batch. It is as exact as the
// seconds of histories: what happened between showing a confirmation and confirming it
// makes that stale, so no other change is taken for the batch's.
func since(b keystore.Batch, history []keystore.Change) string {
	from := b.ID.Time().Truncate(time.Second)
	step := stepNotAsked
	for _, c := range history {
		if c.At.Before(from) {
			continue
		}
		switch {
		case b.Action == actErase && c.Kind == keystore.ChangeCancelled:
			step = stepCancelled
		case b.Action == actErase && (c.Kind == keystore.ChangeErased || c.Kind == keystore.ChangeReduced),
			b.Action == actRestrict && c.Kind == keystore.ChangeRestricted,
			b.Action == actRelease && c.Kind == keystore.ChangeReleased:
			step = stepDone
		}
	}
	return step
}

// erasing tells how far an erasure is that is not done.
func (q *request) erasing(st keystore.Status) string {
	a := q.eraser.Attempt(st.Subject)
	switch {
	case a.Now != "", q.elsewhere(st):
		return stepWorking
	case a.Err != nil:
		return stepFailed
	}
	return stepWaiting
}

// elsewhere tells whether a worker has claimed an erasure that this process is not at.
func (q *request) elsewhere(st keystore.Status) bool {
	j := st.Journal
	return j != nil && j.Claim != "" && q.o.Clock().Before(j.ClaimUntil) && q.eraser.Attempt(st.Subject).Err == nil
}

// calls tells how far the receivers of an erasure are.
func (q *request) calls(st keystore.Status) []call {
	j := st.Journal
	if j == nil || st.State != keystore.StateErasing {
		return nil
	}
	a := q.eraser.Attempt(st.Subject)
	var list []call
	stopped := false // at the one that failed: they are called in their order
	for _, name := range union(slices.Clone(j.Receivers), j.Acked) {
		c := call{Name: name, Step: "open"}
		switch {
		case slices.Contains(j.Acked, name):
			c.Step = "done"
		case a.Now == name:
			c.Step = "working"
		case a.Now == "" && errors.Is(a.Err, keystore.ErrWaiting):
			c.Step = "missing" // an attempt calls all that this process has
		case a.Now == "" && a.Err != nil && !stopped && failedAt(a.Err, name):
			c.Step, stopped = "failed", true
		}
		list = append(list, c)
	}
	return list
}

// failedAt tells whether an attempt failed in that receiver.
func failedAt(err error, receiver string) bool {
	c := (*anonymize.CallbackError)(nil)
	return errors.As(err, &c) && c.Op == "receiver" && strings.HasSuffix(c.On, quoted(receiver))
}

// trouble tells why an erasure does not go on; nil if nothing is known. What a receiver
// said may hold personal values: who may not see those learns only where it failed.
func (q *request) trouble(st keystore.Status, reveal bool) *trouble {
	j := st.Journal
	if st.State != keystore.StateErasing || j == nil {
		return nil
	}
	a := q.eraser.Attempt(st.Subject)
	t := &trouble{Failures: a.Failures, Next: a.Next}
	switch c := (*anonymize.CallbackError)(nil); {
	case a.Err == nil:
	case errors.As(a.Err, &c):
		t.Where = c.On
		if t.Why = c.Public(); reveal {
			t.Why = c.Err.Error()
		} else {
			t.Hidden = true
		}
	default:
		t.Why = a.Err.Error()
	}
	if q.elsewhere(st) && a.Now == "" {
		t.Worker, t.Until = j.Claim, j.ClaimUntil
	}
	if t.Why == "" && t.Worker == "" {
		return nil
	}
	return t
}

// cancellable tells whether an erasure can still be taken back.
func cancellable(st keystore.Status) bool {
	return st.State == keystore.StateErasing && st.Journal != nil && !st.Journal.Blanking
}

func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(x string) bool { return !slices.Contains(b, x) })
}
