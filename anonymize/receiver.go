package anonymize

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/oubli/oubli/keystore"
)

// Erasure is what a receiver learns about the erasure that it is called for.
type Erasure struct {
	Subject   keystore.Subject
	Event     keystore.EventID // the same in every call for this erasure: recognize a repetition by it
	Requested time.Time
	Actor     string
	Keep      []string // purposes whose fields stay, restricted

	call *call
}

// call is one call of a receiver. Its end is the end of what it may read.
type call struct{ done atomic.Bool }

type callKey struct{}

// over tells that the receiver which got this Erasure has returned, or that no
// receiver ever got it.
func (e Erasure) over() error {
	if e.call != nil && !e.call.done.Load() {
		return nil
	}
	return &keystore.Error{Op: "read rows for a receiver", Subject: e.Subject, Err: keystore.ErrState,
		Hint: "plaintext is for the receiver that was handed this Erasure, until it returns"}
}

// inReceiver tells whether ctx belongs to a receiver that has not returned.
func inReceiver(ctx context.Context) bool {
	c, ok := ctx.Value(callKey{}).(*call)
	return ok && !c.done.Load()
}

// receiver is a connected pre-anonymize receiver.
type receiver struct {
	kind, name string
	f          func(ctx context.Context, e Erasure) error
}

// PreAnonymize connects a mandatory receiver for all subjects of a kind. It is called
// for each erasure before anything is deleted, in the order in which receivers were
// connected, those of tables included. Through ctx it can still open the subject's
// fields: with [Table.Rows], or with any codec on the same keystore. That ends when it
// returns; goroutines that it started must have ended by then.
//
// Its name is recorded durably for the kind, and must be unique in it. An error or a
// panic stops the erasure of that subject, with nothing destroyed, until a later
// attempt. It is called at least once: recognize repetitions by [Erasure.Event]. It
// must honour ctx, and not call [Eraser.Anonymize]; [Eraser.Request] is fine.
func (e *Eraser) PreAnonymize(kind, name string, f func(ctx context.Context, e Erasure) error) {
	if f == nil {
		e.mistake("receiver %q of %q has no function", name, kind)
		return
	}
	e.connect(kind, name, f)
}

func (e *Eraser) connect(kind, name string, f func(ctx context.Context, e Erasure) error) {
	if err := keystore.CheckKind(kind); err != nil {
		e.mistake("receiver %q: %v", name, err)
		return
	}
	if name == "" {
		e.mistake("a receiver of %s has no name", kind)
		return
	}
	e.mu.Lock()
	taken := slices.ContainsFunc(e.receivers, func(r receiver) bool { return r.kind == kind && r.name == name })
	if !taken {
		e.receivers = append(e.receivers, receiver{kind, name, f})
	}
	e.mu.Unlock()
	if taken {
		e.mistake("receiver %q of %s is connected twice", name, kind)
	}
}

// signal calls the receivers that have not acknowledged this erasure. It fails with
// ErrWaiting when others remain, that this process does not have.
//
// Called are those that the request froze and those recorded since: an erasure that
// the command line requested before the application ran for the first time must still
// reach its receivers. One that was retired is in neither set.
func (e *Eraser) signal(ctx context.Context, s keystore.Subject, j *keystore.Journal) error {
	recorded, err := e.keys.Receivers(ctx, s.Kind())
	if err != nil {
		return err
	}
	acked := slices.Clone(j.Acked)
	for _, r := range e.receiversOf(s.Kind()) {
		if slices.Contains(acked, r.name) || !slices.Contains(j.Receivers, r.name) && !slices.Contains(recorded, r.name) {
			continue
		}
		if err := e.deliver(ctx, r, s, j); err != nil {
			return err
		}
		// While it ran, another process may have cancelled this erasure and requested
		// a new one: that one's receivers have not been called.
		now, err := e.status(ctx, s)
		if err != nil {
			return err
		}
		if now.State != keystore.StateErasing || now.Journal == nil || now.Journal.Event != j.Event {
			return cancelled(s)
		}
		if err := e.keys.Acknowledge(ctx, s, r.name); err != nil {
			return err
		}
		acked = append(acked, r.name)
	}
	if len((&keystore.Journal{Receivers: j.Receivers, Acked: acked}).Waiting()) > 0 {
		return keystore.ErrWaiting
	}
	return nil
}

// deliver calls one receiver with a context that opens the subject until it returns.
func (e *Eraser) deliver(ctx context.Context, r receiver, s keystore.Subject, j *keystore.Journal) error {
	ctx, cancel := context.WithTimeout(ctx, e.o.ReceiverTimeout)
	defer cancel()
	c := &call{}
	rctx, end, err := e.keys.Reveal(context.WithValue(ctx, callKey{}, c), s)
	if err != nil {
		return err
	}
	defer end()
	defer c.done.Store(true)
	e.flights.reach(s, r.name)
	return callback("receiver", fmt.Sprintf("%s %q", r.kind, r.name), func() error {
		return r.f(rctx, Erasure{Subject: s, Event: j.Event, Requested: j.Requested, Actor: j.Actor,
			Keep: slices.Clone(j.Keep), call: c})
	})
}

func cancelled(s keystore.Subject) error {
	return &keystore.Error{Op: "anonymize", Subject: s, Err: errCancelled}
}

var errCancelled = fmt.Errorf("the erasure was cancelled: %w", keystore.ErrState)

// status reads one subject's record.
func (e *Eraser) status(ctx context.Context, s keystore.Subject) (keystore.Status, error) {
	sts, err := e.keys.Status(ctx, s)
	if err != nil {
		return keystore.Status{}, err
	}
	return sts[0], nil
}
