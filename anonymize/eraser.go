package anonymize

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oubli/oubli/keystore"
)

// Options of an [Eraser]. The zero value of each field is its default.
type Options struct {
	// Actor is who asks for the erasures of this process, for the journal. Not
	// secret and stored: no personal names. A call's context ([keystore.WithActor]) or a
	// [Request] can name another.
	Actor string

	// Worker names this process among those that work on the same keystore. No two
	// living ones may share a name. A name that survives restarts lets a process take
	// up its own unfinished work at once. Default: random, so that what a killed
	// process had claimed is taken up when its Lease is over.
	Worker string

	// Lease is how long a claim on an erasure holds without being renewed, which
	// happens three times as often. Default: 30 seconds.
	Lease time.Duration

	// ReceiverTimeout limits one call of a receiver for one subject, through its
	// context. For a table receiver it covers all rows. Default: 5 minutes.
	ReceiverTimeout time.Duration

	// Interval is how often Run looks for erasures that other processes requested;
	// those of this Eraser wake it. Default: 10 seconds.
	Interval time.Duration

	// Backoff is how long Run waits before it tries a failed erasure again; it
	// doubles with each failure, up to 5 minutes. Default: 1 second.
	Backoff time.Duration

	// Report is called by Run with the outcome of every attempt. Default: none.
	Report func(Result)

	// Logger gets what went wrong, by subject, receiver and table. The texts of
	// errors from receivers and sources are left out, for they may hold personal
	// values: the Result has them. Default: discards.
	Logger *slog.Logger
}

// Eraser erases subjects. Make one for a keystore with [New], register the tables and
// connect the receivers, then use it from any number of goroutines.
//
// Mistakes in registering and connecting (a name used twice, an invalid kind, a nil
// function) are collected, and every method that would erase, request or run returns
// them all instead of working, wrapping [keystore.ErrInvalid].
type Eraser struct {
	keys    *keystore.Store
	o       Options
	flights flights
	retries retries
	workers atomic.Int32 // calls of Run
	wake    chan struct{}

	mu        sync.Mutex
	tables    []registered
	receivers []receiver
	recorded  map[string][]string // names that this process has recorded durably, by kind
	mistakes  []error
}

// New makes an Eraser for a keystore. o may be nil.
func New(keys *keystore.Store, o *Options) (*Eraser, error) {
	e := &Eraser{keys: keys, wake: make(chan struct{}, 1), recorded: map[string][]string{}}
	if o != nil {
		e.o = *o
	}
	if keys == nil {
		return nil, invalid("there is no keystore")
	}
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
		name     string
	}{
		{&e.o.Lease, 30 * time.Second, "Lease"},
		{&e.o.ReceiverTimeout, 5 * time.Minute, "ReceiverTimeout"},
		{&e.o.Interval, 10 * time.Second, "Interval"},
		{&e.o.Backoff, time.Second, "Backoff"},
	} {
		if *d.value < 0 {
			return nil, invalid("%s is negative", d.name)
		}
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	if e.o.Worker == "" {
		e.o.Worker = "worker-" + rand.Text()[:12]
	}
	if e.o.Logger == nil {
		e.o.Logger = slog.New(slog.DiscardHandler)
	}
	return e, nil
}

// Retire removes a receiver that will never come back from the recorded set of a kind
// and from all pending erasures, which then no longer wait for it. If it is connected
// to this Eraser, it is disconnected. A process that still connects it records it
// again when it starts: disconnect it there too.
func (e *Eraser) Retire(ctx context.Context, kind, name string) error {
	if err := e.keys.Retire(ctx, kind, name); err != nil {
		return err
	}
	e.mu.Lock()
	e.receivers = slices.DeleteFunc(e.receivers, func(r receiver) bool { return r.kind == kind && r.name == name })
	e.recorded[kind] = slices.DeleteFunc(e.recorded[kind], func(n string) bool { return n == name })
	e.mu.Unlock()
	e.retries.hurryAll()
	e.nudge()
	return nil
}

// mistake collects a programmer's mistake for check.
func (e *Eraser) mistake(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mistakes = append(e.mistakes, invalid(format, args...))
}

// Check returns the mistakes of registering and connecting so far: for a program that wants
// to know them when it starts, not with its first erasure.
func (e *Eraser) Check() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return errors.Join(e.mistakes...)
}

// record makes the names of this process' receivers of a kind durable, so that no
// request passes them by. It writes once for each name and process.
func (e *Eraser) record(ctx context.Context, kinds ...string) error {
	for _, kind := range kinds {
		names := e.connected(kind)
		e.mu.Lock()
		known := e.recorded[kind]
		e.mu.Unlock()
		if !slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(known, n) }) {
			continue
		}
		if err := e.keys.RecordReceivers(ctx, kind, names...); err != nil {
			return fmt.Errorf("anonymize: record the receivers of %s: %w", kind, err)
		}
		e.mu.Lock()
		e.recorded[kind] = names
		e.mu.Unlock()
	}
	return nil
}

// connected returns the names of this process' receivers of a kind, in their order.
func (e *Eraser) connected(kind string) []string {
	var names []string
	for _, r := range e.receiversOf(kind) {
		names = append(names, r.name)
	}
	return names
}

func (e *Eraser) receiversOf(kind string) []receiver {
	e.mu.Lock()
	defer e.mu.Unlock()
	var rs []receiver
	for _, r := range e.receivers {
		if r.kind == kind {
			rs = append(rs, r)
		}
	}
	return rs
}

// Keystore returns the keystore that the Eraser was made for.
func (e *Eraser) Keystore() *keystore.Store { return e.keys }

// Kinds returns the kinds that this process has tables or receivers for, sorted.
func (e *Eraser) Kinds() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var kinds []string
	for _, t := range e.tables {
		for _, info := range t.infos() {
			kinds = append(kinds, info.Kind)
		}
	}
	for _, r := range e.receivers {
		kinds = append(kinds, r.kind)
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// nudge wakes Run.
func (e *Eraser) nudge() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("anonymize: "+format+": %w", append(args, keystore.ErrInvalid)...)
}
