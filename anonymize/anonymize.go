package anonymize

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oubli/oubli/keystore"
)

// Request says how subjects are to be erased. The zero value erases everything.
type Request struct {
	// Keep names the purposes that law obliges to keep. Their fields stay under their
	// own keys, the subject is restricted to them, and a later erasure takes the rest.
	Keep []string

	// Unknown also erases subjects for which no key was ever made: nobody can then be
	// written under this id. Without it they are refused, for a typo must not burn a
	// future id.
	Unknown bool

	// Actor is who asks, if neither who [keystore.WithActor] names nor the Options' Actor.
	// Stored.
	Actor string
}

// Anonymize erases subjects and returns when their keys are destroyed: all steps of
// the package comment, one Result for each subject, in order. The error is a
// [*BatchError] if any of them is not erased as asked; the others are. Calling it
// again resumes what is pending and does nothing for what is done.
//
// It waits for other workers that have one of the subjects. ctx limits all of it; what
// was requested by then stays requested.
func (e *Eraser) Anonymize(ctx context.Context, subjects ...keystore.Subject) ([]Result, error) {
	return e.AnonymizeWith(ctx, nil, subjects...)
}

// AnonymizeWith is Anonymize with a Request, which may be nil.
func (e *Eraser) AnonymizeWith(ctx context.Context, r *Request, subjects ...keystore.Subject) ([]Result, error) {
	if inReceiver(ctx) {
		return nil, fmt.Errorf("anonymize: a receiver cannot erase while it is called; use Request: %w", keystore.ErrState)
	}
	if err := e.Check(); err != nil {
		return nil, err
	}
	rs, err := e.requests(ctx, r, subjects)
	if err != nil {
		return nil, err
	}
	done := map[keystore.Subject]Result{}
	for range 2 {
		b := &batch{e: e, wait: true, results: done}
		pending, err := b.directly(ctx, rs)
		if err != nil {
			return nil, err
		}
		if pending, err = b.request(ctx, pending); err != nil {
			return nil, err
		}
		b.run(ctx, pending)
		// What somebody had requested before may have kept more than this request
		// does. It is done now; once more for the rest.
		rs = slices.DeleteFunc(rs, func(r keystore.Request) bool {
			d := done[r.Subject]
			return d.Err != nil || subset(d.Kept, r.Keep)
		})
		if len(rs) == 0 {
			break
		}
	}
	e.remember(ctx, done)
	results := make([]Result, len(subjects))
	for i, s := range subjects {
		results[i] = done[s]
	}
	return results, batchError(results)
}

// Request makes the erasure of subjects durable and returns: for a handler that
// answers 202. From then on nobody seals or reads their fields; [Eraser.Run], here or in
// another process, does the rest. The error is a [*BatchError] if some were refused.
func (e *Eraser) Request(ctx context.Context, subjects ...keystore.Subject) error {
	return e.RequestWith(ctx, nil, subjects...)
}

// RequestWith is Request with a Request, which may be nil.
func (e *Eraser) RequestWith(ctx context.Context, r *Request, subjects ...keystore.Subject) error {
	if err := e.Check(); err != nil {
		return err
	}
	rs, err := e.requests(ctx, r, subjects)
	if err != nil {
		return err
	}
	b := &batch{e: e, results: map[keystore.Subject]Result{}}
	pending, err := b.request(ctx, rs)
	if err != nil {
		return err
	}
	for _, r := range pending {
		e.retries.clear(r.Subject)
	}
	e.nudge()
	var refused []Result
	for _, s := range subjects {
		refused = append(refused, b.results[s])
	}
	return batchError(refused)
}

// Cancel takes back the request to erase a subject, which returns to the state before.
// A receiver of this Eraser that is being called for it is interrupted; what receivers
// did already is theirs to undo. Once the first row may have been blanked, Cancel
// fails with [keystore.ErrState].
func (e *Eraser) Cancel(ctx context.Context, s keystore.Subject) error {
	ctx = e.acting(ctx)
	if inReceiver(ctx) {
		return fmt.Errorf("anonymize: a receiver cannot cancel the erasure that it is called for; return an error: %w", keystore.ErrState)
	}
	st, err := e.status(ctx, s)
	if err != nil {
		return err
	}
	if st.State != keystore.StateErasing || st.Journal != nil && st.Journal.Blanking {
		return e.keys.Cancel(ctx, s) // which knows best what to say
	}
	defer e.interrupt(s)()
	f, err := e.depart(ctx, s, true)
	if err != nil {
		return err
	}
	defer f.land(false)
	if err := e.keys.Cancel(ctx, s); err != nil {
		return err
	}
	e.retries.clear(s)
	return nil
}

// requests turns a call's arguments into requests for the keystore, sorted and each
// subject once, and records the receivers of their kinds.
func (e *Eraser) requests(ctx context.Context, r *Request, subjects []keystore.Subject) ([]keystore.Request, error) {
	if r == nil {
		r = &Request{}
	}
	actor := cmp.Or(r.Actor, keystore.ActorOf(ctx), e.o.Actor)
	sorted := slices.SortedFunc(slices.Values(subjects), bySubject)
	sorted = slices.Compact(sorted)
	var rs []keystore.Request
	for _, s := range sorted {
		if s.IsZero() {
			return nil, invalid("a subject is the zero Subject")
		}
		if err := e.record(ctx, s.Kind()); err != nil {
			return nil, err
		}
		rs = append(rs, keystore.Request{Subject: s, Keep: slices.Clone(r.Keep), Actor: actor, Unknown: r.Unknown})
	}
	return rs, e.checkKeep(ctx, r.Keep, sorted)
}

// checkKeep refuses to keep a purpose that no registered table of a subject's kind has
// and no key of the subject: a typo would destroy what was to be kept. Where there are no
// tables to ask, it refuses one that nobody has a key for, while some have keys for others.
func (e *Eraser) checkKeep(ctx context.Context, keep []string, subjects []keystore.Subject) error {
	if len(keep) == 0 {
		return nil
	}
	sts, err := e.keys.Status(ctx, subjects...)
	if err != nil {
		return err
	}
	used := map[string]keystore.Subject{} // purposes, with somebody who has a key for it
	for _, st := range sts {
		tables := e.tablesOf(st.Subject.Kind())
		if len(tables) == 0 {
			for _, k := range st.Keys {
				used[k.Purpose] = st.Subject
			}
			continue
		}
		for _, purpose := range keep {
			if !slices.ContainsFunc(tables, func(t registered) bool { return hasPurpose(t, st.Subject.Kind(), purpose) }) &&
				!slices.ContainsFunc(st.Keys, func(k keystore.KeyInfo) bool { return k.Purpose == purpose }) {
				return invalid("%s: purpose %q is to be kept, but no registered table of its kind has a field of that purpose", st.Subject, purpose)
			}
		}
	}
	for _, other := range slices.Sorted(maps.Keys(used)) {
		if other == "" || slices.Contains(keep, other) {
			continue
		}
		for _, purpose := range keep {
			if _, ok := used[purpose]; !ok {
				return invalid("purpose %q is to be kept, but nobody has a key for it, and %s has one for %q; is the name right?", purpose, used[other], other)
			}
		}
	}
	return nil
}

func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(x string) bool { return !slices.Contains(b, x) })
}

func bySubject(a, b keystore.Subject) int { return strings.Compare(a.String(), b.String()) }
