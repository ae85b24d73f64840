package anonymize

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oubli/oubli/keystore"
)

// perAdvance bounds the subjects that are claimed at a time and go in one advance.
const perAdvance = 1000

// batch is one pass over some subjects. Each is prepared by itself, receivers and
// blanking; then the keys of all that are ready go in one advance (of many, in a few).
type batch struct {
	e       *Eraser
	wait    bool          // for other workers, instead of leaving their subjects to them
	limit   time.Duration // to destroy what is ready after, and leave the rest; 0: none
	results map[keystore.Subject]Result
	flights []*flight
	ready   []keystore.Request // only the keys are left to destroy
}

// directly puts subjects that have neither tables nor receivers here among the ready
// ones: request and destruction are then one commit, unless others have receivers for
// them. It returns the other requests.
func (b *batch) directly(ctx context.Context, rs []keystore.Request) (others []keystore.Request, err error) {
	var bare []keystore.Request
	var subjects []keystore.Subject
	for _, r := range rs {
		if kind := r.Subject.Kind(); len(b.e.receiversOf(kind)) == 0 && len(b.e.tablesOf(kind)) == 0 {
			bare, subjects = append(bare, r), append(subjects, r.Subject)
		} else {
			others = append(others, r)
		}
	}
	if len(bare) == 0 {
		return others, nil
	}
	sts, err := b.e.keys.Status(ctx, subjects...)
	if err != nil {
		return nil, err
	}
	for i, r := range bare {
		// One that is being erased may be in another worker's hands.
		if st := sts[i].State; st == keystore.StateErasing || st == keystore.StateErased {
			others = append(others, r)
		} else {
			b.ready = append(b.ready, r)
		}
	}
	slices.SortFunc(others, func(x, y keystore.Request) int { return bySubject(x.Subject, y.Subject) })
	return others, nil
}

// request makes the requests durable and returns those that were not refused.
func (b *batch) request(ctx context.Context, rs []keystore.Request) (pending []keystore.Request, err error) {
	if len(rs) == 0 {
		return nil, nil
	}
	errs, err := b.e.keys.RequestErasure(ctx, rs...)
	if err != nil {
		return nil, err
	}
	for i, r := range rs {
		if errs[i] == nil {
			pending = append(pending, r)
			continue
		}
		state := keystore.StateUnknown
		if st, err := b.e.status(ctx, r.Subject); err == nil {
			state = st.State
			// One that keeps more has begun: whoever waits sees it done, and asks for the rest.
			if b.wait && state == keystore.StateErasing && st.Journal != nil && st.Journal.Blanking && subset(r.Keep, st.Journal.Keep) {
				pending = append(pending, r)
				continue
			}
		}
		b.results[r.Subject] = failed(r.Subject, state, errs[i])
	}
	return pending, nil
}

// run takes pending subjects, sorted, through all steps. Those that it did not come to
// have no result.
func (b *batch) run(ctx context.Context, pending []keystore.Request) {
	defer b.free() // also if the keystore or an iterator of ours panics
	// Nobody who reads the fields of those that are erasing now, in this process or
	// another, is to end with them after a receiver was told.
	subjects := make([]keystore.Subject, len(pending))
	for i, r := range pending {
		subjects[i] = r.Subject
	}
	broken := b.e.keys.AwaitErasing(ctx, subjects...)
	start := time.Now()
	for _, r := range pending {
		if b.limit > 0 && len(b.ready) > 0 && time.Since(start) > b.limit {
			break
		}
		s := r.Subject
		if broken == nil {
			broken = ctx.Err()
		}
		if broken != nil {
			b.results[s] = failed(s, keystore.StateErasing, fmt.Errorf("anonymize %s: not tried: %w", s, broken))
			continue
		}
		err := b.prepare(ctx, r)
		switch {
		case !b.wait && errors.Is(err, keystore.ErrConflict) && !fatal(err):
			b.results[s] = failed(s, keystore.StateErasing, err) // it is left to whoever has it
		case err != nil:
			b.results[s] = b.stopped(ctx, s, err)
			if fatal(err) {
				broken = err
			}
		}
		if len(b.ready) >= perAdvance {
			b.destroy(ctx)
		}
	}
	b.destroy(ctx)
}

// prepare takes one subject up to where only its keys are left.
func (b *batch) prepare(ctx context.Context, r keystore.Request) (err error) {
	s := r.Subject
	f, err := b.e.depart(ctx, s, b.wait)
	if err != nil {
		return err
	}
	ready, claimed := false, false
	defer func() {
		if lost := context.Cause(f.ctx); err != nil && lost != nil && ctx.Err() == nil {
			err = lost // why it was interrupted says more than that it was
		}
		if ready {
			b.flights = append(b.flights, f)
		} else {
			f.land(err != nil && claimed)
		}
	}()
	// ErrState: nothing to claim, for it is not being erased. Its status says what it is.
	if err := f.claim(b.wait); err != nil && !errors.Is(err, keystore.ErrState) && !errors.Is(err, keystore.ErrErased) {
		return err
	}
	claimed = true
	b.e.retries.begin(s)
	st, err := b.e.status(f.ctx, s)
	if err != nil {
		return err
	}
	if st.State != keystore.StateErasing || st.Journal == nil {
		return b.settled(f.ctx, st, r.Keep)
	}
	if !subset(r.Keep, st.Journal.Keep) {
		return fmt.Errorf("an erasure that does not keep %q was requested before; cancel that first: %w", r.Keep, keystore.ErrState)
	}
	if !st.Journal.Blanking {
		// Once more, for an erasure that was cancelled and requested again meanwhile.
		if err := b.e.keys.AwaitErasing(f.ctx, s); err != nil {
			return err
		}
		if err := b.e.signal(f.ctx, s, st.Journal); err != nil {
			return err
		}
		if err := b.e.keys.BeginBlanking(f.ctx, s); err != nil {
			return err
		}
		// Nobody can cancel it from here on. Had somebody done so just before, and
		// requested another one, this would be that one, with what it keeps.
		if st, err = b.e.status(f.ctx, s); err != nil {
			return err
		}
		if st.State != keystore.StateErasing || st.Journal == nil {
			return b.settled(f.ctx, st, r.Keep)
		}
	}
	b.e.flights.reach(s, blanking)
	if err := b.e.blank(f.ctx, s, st.Journal.Keep); err != nil {
		return err
	}
	ready = true
	b.ready = append(b.ready, keystore.Request{Subject: s, Keep: st.Journal.Keep, Actor: st.Journal.Actor})
	return nil
}

// blank blanks the subject's rows in all registered tables of its kind. A
// generalization needs the plaintext, so it has a capability like a receiver's.
func (e *Eraser) blank(ctx context.Context, s keystore.Subject, keep []string) error {
	tables := e.tablesOf(s.Kind())
	if len(tables) == 0 {
		return nil
	}
	rctx, end, err := e.keys.Reveal(ctx, s)
	if err != nil {
		return err
	}
	defer end()
	for _, t := range tables {
		if err := t.blankAll(rctx, s, keep); err != nil {
			return err
		}
	}
	return nil
}

// settled gives the result of a subject that is not being erased (any more). If its
// keys are gone but the tree has not advanced, because a process died between, it
// advances now.
func (b *batch) settled(ctx context.Context, st keystore.Status, keep []string) error {
	if gone := st.Journal != nil && !st.Journal.Destroyed.IsZero(); gone && !st.Final && st.FinalAt.IsZero() {
		if err := b.e.keys.Advance(ctx); err != nil {
			return err
		}
		var err error
		if st, err = b.e.status(ctx, st.Subject); err != nil {
			return err
		}
	}
	b.results[st.Subject] = b.e.fromStatus(ctx, st, keep)
	return nil
}

// stopped gives the result of a subject that could not be prepared or destroyed.
func (b *batch) stopped(ctx context.Context, s keystore.Subject, err error) Result {
	state := keystore.StateErasing
	st, serr := b.e.status(ctx, s)
	if serr == nil {
		state = st.State
	}
	switch {
	case errors.Is(err, keystore.ErrWaiting) && st.Journal != nil:
		r := waiting(s, st.Journal.Waiting())
		b.e.o.Logger.Warn("erasure waits", "subject", s, "receivers", r.WaitingFor)
		return r
	case !errors.Is(err, keystore.ErrConflict):
		b.e.o.Logger.Error("erasure stopped", "subject", s, "state", state, "error", logged(err))
	}
	var named *keystore.Error
	if !errors.As(err, &named) || named.Subject != s {
		err = &keystore.Error{Op: "anonymize", Subject: s, Err: err}
	}
	return failed(s, state, err)
}

// destroy destroys the keys of all that are ready, and frees their subjects.
func (b *batch) destroy(ctx context.Context) {
	for _, f := range b.flights {
		f.settle() // a claim that is renewed now would only be in the way
	}
	for rs := range slices.Chunk(b.ready, perAdvance) {
		b.erase(ctx, rs)
	}
	b.ready = nil
	b.free()
}

func (b *batch) free() {
	for _, f := range b.flights {
		f.land(b.results[f.subject].Err != nil)
	}
	b.flights = nil
}

func (b *batch) erase(ctx context.Context, rs []keystore.Request) {
	subjects := make([]keystore.Subject, len(rs))
	for i, r := range rs {
		subjects[i] = r.Subject
	}
	done, err := b.e.keys.Erase(ctx, rs...)
	var sts []keystore.Status
	if err == nil {
		sts, err = b.e.keys.Status(ctx, subjects...)
	}
	for i, r := range rs {
		switch {
		case err != nil:
			b.results[r.Subject] = b.stopped(ctx, r.Subject, err)
		case done[i].Err != nil:
			b.results[r.Subject] = b.stopped(ctx, r.Subject, done[i].Err)
		case len(done[i].Waiting) > 0:
			b.results[r.Subject] = b.stopped(ctx, r.Subject, keystore.ErrWaiting)
		default:
			b.results[r.Subject] = b.e.fromStatus(ctx, sts[i], r.Keep)
		}
	}
}
