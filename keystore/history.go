package keystore

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ChangeKind is what happened to a subject.
type ChangeKind uint8

const (
	ChangeRequested  ChangeKind = iota + 1 // its erasure was asked for, or one under way was widened
	ChangeCancelled                        // its erasure was taken back
	ChangeErased                           // all of its keys were destroyed
	ChangeReduced                          // keys were destroyed by an erasure that kept other purposes
	ChangeRestricted                       // or its restriction was changed
	ChangeReleased                         // the restriction, or the hold on it, was ended
	ChangeReadmitted                       // it may have new keys
	ChangeWithdrawn                        // keys of some purposes were destroyed, without an erasure
	ChangeExported                         // its data was handed out, see Note
	ChangeRetried                          // its erasure was tried again on demand, see Note
)

var changeNames = [...]string{"", "requested", "cancelled", "erased", "reduced", "restricted", "released", "readmitted",
	"withdrawn", "exported", "retried"}

func (k ChangeKind) String() string {
	if k > 0 && int(k) < len(changeNames) {
		return changeNames[k]
	}
	return fmt.Sprintf("change-%d", uint8(k)) // of a later version
}

// MarshalText gives the name, for JSON.
func (k ChangeKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Change is a line of a subject's history.
type Change struct {
	At    time.Time  `json:"at"` // in whole seconds
	Kind  ChangeKind `json:"kind"`
	Actor string     `json:"actor,omitempty"` // who asked; empty if nobody was named
}

const (
	// MaxActor is how many bytes of an actor's name a history keeps.
	MaxActor = 255

	// maxHistory bounds what a ring carries along in every copy.
	maxHistory = 32
)

// WithActor names who asks for what is done through the returned context: it is entered
// into the histories of subjects, and into the journals of erasures, unless a Request names
// another. It is stored unencrypted and outlives an erasure: pass an account's number or a
// program's name, no person's. Of more than MaxActor bytes the rest is left out.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, ctxActor, cut(actor, MaxActor))
}

// ActorOf returns what WithActor gave the context, empty if nothing.
func ActorOf(ctx context.Context) string {
	actor, _ := ctx.Value(ctxActor).(string)
	return actor
}

// cut leaves out what is not UTF-8, and what is beyond max bytes.
func cut(s string, max int) string {
	if len(s) > max {
		s = s[:max]
	}
	return strings.ToValidUTF8(s, "")
}

// Note enters into the histories of subjects what changes no state: ChangeExported and
// ChangeRetried, with the actor of ctx. Other kinds are refused with ErrInvalid, unknown
// subjects with ErrUnknownSubject. errs is parallel to subjects.
func (s *Store) Note(ctx context.Context, kind ChangeKind, subjects ...Subject) (errs []error, err error) {
	if kind != ChangeExported && kind != ChangeRetried {
		return nil, fmt.Errorf("%w: %s is entered by what does it, and cannot be noted", ErrInvalid, kind)
	}
	return s.changeEach(ctx, "note in the history of", subjects, func(r *ring) outcome {
		if r.state == StateUnknown {
			return outcome{err: ErrUnknownSubject}
		}
		r.enter(kind, ActorOf(ctx), s.now())
		return outcome{changed: true} // no work: nobody else needs to know
	})
}

// enter adds a line to the history, and drops the oldest of too many.
func (c *clearPart) enter(kind ChangeKind, actor string, at time.Time) {
	lines := 0
	for p := (reader{b: c.history}); p.change(nil); {
		lines++
	}
	for p := (reader{b: c.history}); lines >= maxHistory; lines-- {
		p.change(nil)
		c.history = p.b
	}
	b := binary.AppendUvarint(slices.Clip(c.history), uint64(max(at.Unix(), 1)))
	c.history = appendString(append(b, byte(kind)), cut(actor, MaxActor))
}

// changes returns the history, oldest first.
func (c *clearPart) changes() []Change {
	var list []Change
	for p := (reader{b: c.history}); ; {
		var line Change
		if !p.change(&line) {
			return list
		}
		list = append(list, line)
	}
}

// change reads the next line of a history into c, or passes over it if c is nil; false at
// the end.
func (r *reader) change(c *Change) bool {
	if r.bad || len(r.b) == 0 {
		return false
	}
	at, kind, actor := r.time(), r.byte(), r.bytes()
	if c != nil && !r.bad {
		*c = Change{At: at, Kind: ChangeKind(kind), Actor: string(actor)}
	}
	return !r.bad
}
