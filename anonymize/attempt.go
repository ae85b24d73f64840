package anonymize

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oubli/oubli/keystore"
)

// blanking is what an erasure is at when no receiver is called for it any more.
const blanking = "blanking"

// Attempt is what this process knows of a pending erasure beyond its journal. It is in
// memory only: a new process knows nothing.
type Attempt struct {
	// Err is what the last attempt here failed with, nil if none failed since it was
	// requested. The text of a [CallbackError] in it may hold personal values: see Public.
	Err      error
	Failures int       // attempts that failed here, with the last one
	Next     time.Time // Run leaves it alone until then; zero: it tries it as soon as it looks
	Now      string    // the receiver that is being called just now, or "blanking" from the first row to the keys; else empty
}

// Attempt tells what this process knows of a pending erasure; nothing if it is not pending.
// It does no I/O. Of an erasure that another process finishes or takes back, it is
// forgotten when Run looks the next time.
func (e *Eraser) Attempt(s keystore.Subject) Attempt {
	t := e.retries.get(s)
	return Attempt{Err: t.err, Failures: t.failures, Next: t.at, Now: e.flights.now(s)}
}

// Retry lets a Run of this Eraser try pending erasures again at once, whatever they failed
// with before and however long it would have waited. Subjects that are not being erased
// are left alone, and a [*BatchError] names them; it unwraps to [keystore.ErrState].
func (e *Eraser) Retry(ctx context.Context, subjects ...keystore.Subject) error {
	if err := e.Check(); err != nil {
		return err
	}
	if len(subjects) == 0 {
		return nil
	}
	sts, err := e.keys.Status(ctx, subjects...)
	if err != nil {
		return err
	}
	var pending []keystore.Subject
	b := &BatchError{Of: len(subjects), what: "have no erasure to try again"}
	for _, st := range sts {
		if st.State == keystore.StateErasing {
			pending = append(pending, st.Subject)
			continue
		}
		b.Failed = append(b.Failed, failed(st.Subject, st.State, &keystore.Error{Op: "try again to erase", Subject: st.Subject,
			Err: fmt.Errorf("it is %s: %w", st.State, keystore.ErrState)}))
	}
	if len(pending) > 0 {
		errs, err := e.keys.Note(e.acting(ctx), keystore.ChangeRetried, pending...)
		if err != nil {
			return err
		}
		for i, s := range pending {
			if errs[i] != nil {
				b.Failed = append(b.Failed, failed(s, keystore.StateErasing, errs[i]))
				continue
			}
			e.retries.hurry(s, e.Working())
		}
		e.nudge()
	}
	if len(b.Failed) > 0 {
		return b
	}
	return nil
}

// remember keeps what came of attempts outside Run, for Attempt.
func (e *Eraser) remember(ctx context.Context, results map[keystore.Subject]Result) {
	for s, r := range results {
		switch {
		case over(r):
			e.retries.clear(s)
		case ctx.Err() != nil, errors.Is(r.Err, keystore.ErrConflict):
			// Interrupted, or another worker's: not failed.
		default:
			e.retries.aside(s, r.Err)
		}
	}
}

// over tells whether an attempt leaves nothing to be tried again: it is done, or was taken
// back. What was requested again since then has not failed.
func over(r Result) bool {
	return r.Err == nil || r.State != keystore.StateErasing.String() || errors.Is(r.Err, errCancelled)
}

// acting is ctx with an actor: its own, or that of the Options.
func (e *Eraser) acting(ctx context.Context) context.Context {
	if keystore.ActorOf(ctx) != "" || e.o.Actor == "" {
		return ctx
	}
	return keystore.WithActor(ctx, e.o.Actor)
}
