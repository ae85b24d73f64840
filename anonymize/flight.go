package anonymize

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/oubli/oubli/keystore"
)

// flights are the subjects that this process is working on. Within a process, a map
// keeps two goroutines from working on the same subject; between processes, the claim
// in the subject's journal does. Whoever waits for
// others takes several in sorted order; a worker does not wait.
type flights struct {
	mu sync.Mutex
	m  map[keystore.Subject]*flight
}

// flight is the right to work on one subject.
type flight struct {
	e       *Eraser
	subject keystore.Subject
	ctx     context.Context // ends when the right is lost
	cancel  context.CancelCauseFunc
	at      string        // the receiver that was called last, or blanking; behind flights.mu
	landed  chan struct{} // closed when the subject is free again
	after   chan struct{} // whoever interrupted it closes it when done; nil if nobody did
	renewal sync.WaitGroup
}

// errBusy: somebody else is working on the subject.
var errBusy = fmt.Errorf("another worker has it: %w", keystore.ErrConflict)

// depart takes a subject within this process. If another goroutine has it, it waits,
// or fails with errBusy.
func (e *Eraser) depart(ctx context.Context, s keystore.Subject, wait bool) (*flight, error) {
	for {
		e.flights.mu.Lock()
		other := e.flights.m[s]
		if other == nil {
			f := &flight{e: e, subject: s, landed: make(chan struct{})}
			f.ctx, f.cancel = context.WithCancelCause(ctx)
			if e.flights.m == nil {
				e.flights.m = map[keystore.Subject]*flight{}
			}
			e.flights.m[s] = f
			e.flights.mu.Unlock()
			return f, nil
		}
		e.flights.mu.Unlock()
		if !wait {
			return nil, errBusy
		}
		select {
		case <-other.landed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// now tells what a flight of a subject is at; empty if there is none.
func (fs *flights) now(s keystore.Subject) string {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.m[s]; f != nil {
		return f.at
	}
	return ""
}

// reach notes what the work on a subject has come to.
func (fs *flights) reach(s keystore.Subject, at string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.m[s]; f != nil {
		f.at = at
	}
}

// interrupt ends the work on a subject in this process. The returned function says that
// what it was interrupted for is done.
func (e *Eraser) interrupt(s keystore.Subject) (done func()) {
	e.flights.mu.Lock()
	defer e.flights.mu.Unlock()
	f := e.flights.m[s]
	if f == nil || f.after != nil {
		return func() {}
	}
	after := make(chan struct{})
	f.after = after
	f.cancel(cancelled(s))
	return func() { close(after) }
}

// claim takes the subject against other processes, and renews it until settle.
func (f *flight) claim(wait bool) error {
	const longest = time.Second
	e := f.e
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, longest) {
		err := e.keys.Claim(f.ctx, f.subject, e.o.Worker, e.o.Lease)
		if err == nil {
			break
		}
		if !wait || !errors.Is(err, keystore.ErrConflict) {
			return err
		}
		if err := sleep(f.ctx, pause); err != nil {
			return err
		}
	}
	f.renewal.Go(func() {
		for sleep(f.ctx, e.o.Lease/3) == nil {
			err := e.keys.Claim(f.ctx, f.subject, e.o.Worker, e.o.Lease)
			if errors.Is(err, keystore.ErrConflict) || errors.Is(err, keystore.ErrState) {
				f.cancel(err)
			}
		}
	})
	return nil
}

// settle ends the renewing of the claim and everything that runs on the flight's context.
func (f *flight) settle() {
	f.cancel(context.Canceled)
	f.renewal.Wait()
}

// land frees the subject. giveBack ends the claim as well, for others to try at once.
func (f *flight) land(giveBack bool) {
	f.settle()
	if giveBack {
		// The caller's context may be over; a claim that stays runs out by itself.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), time.Second)
		if err := f.e.keys.Claim(ctx, f.subject, f.e.o.Worker, time.Nanosecond); err != nil {
			f.e.o.Logger.Debug("claim not given back", "subject", f.subject, "error", logged(err))
		}
		cancel()
	}
	f.e.flights.mu.Lock()
	delete(f.e.flights.m, f.subject)
	after := f.after
	f.e.flights.mu.Unlock()
	close(f.landed)
	if after != nil {
		<-after // so that the subject's state is then what it was interrupted for
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
