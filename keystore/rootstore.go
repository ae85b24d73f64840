package keystore

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"time"
)

// RootStore holds the living root keys: a few bytes whose physical deletion is what
// an erasure rests on. Losing it loses everybody. It decides nothing: which root is
// current, successor or superseded stands in the epoch record of the keystore.
//
// Implementations are safe for concurrent use by several Stores and processes.
// Failures wrap [ErrUnavailable], [ErrNotFound], [ErrExists], [ErrMismatch] or
// [ErrTampered].
type RootStore interface {
	// Create writes a root store that was not there: for a new keystore, or as the
	// new home in a move. It fails with ErrExists where any mirror holds a root.
	Create(ctx context.Context, c RootContents) error

	// Load returns what the mirrors hold. It succeeds when one mirror can be read;
	// Away names the others. Living is the union over the mirrors; of the roots named in
	// keys it has the key, of others perhaps: one that has to be fetched from a service
	// stays zero. A key that is named, stands in Living and can't be had is an error.
	Load(ctx context.Context, keys ...RootID) (RootContents, error)

	// Add makes r durable on every mirror, or fails. A root id that any mirror
	// remembers as destroyed is refused with ErrMismatch.
	Add(ctx context.Context, r Root) error

	// Destroy overwrites and removes the roots on every mirror, together with every
	// older version of the file that held them, and remembers their ids. It returns
	// nil when every mirror has confirmed; mirrors that answer are done even if
	// others do not. Unknown ids are only remembered.
	//
	// Where a service destroys only after a delay, nil means that it has begun to: Load
	// then has these roots in Dying, never in Living, and in Destroyed once a later
	// Destroy of them has seen that they are gone. If somebody took a destruction back,
	// it begins anew, and Until is later.
	Destroy(ctx context.Context, ids []RootID) error

	// Raise makes the tombstones and the anchor durable on every mirror. The anchor
	// never goes down: each of its numbers becomes the larger of old and new.
	Raise(ctx context.Context, a Anchor, ts []Tombstone) error

	// Trim drops the tombstones for which final says true. It is housekeeping.
	Trim(ctx context.Context, final func(Tombstone) bool) error

	// Remove destroys everything here, after a move to another root store: the living roots
	// and the dying ones. Where that takes time it fails with ErrUnavailable, says until when,
	// and is called again then; meanwhile Load names in Dying what is not gone.
	Remove(ctx context.Context) error

	// Place says where this root store is and how well it destroys.
	Place() Place
}

// RootContents is what a root store holds.
type RootContents struct {
	Store      StoreID     // the keystore that the roots belong to
	Living     []Root      // in the order in which they were added
	Dying      []Dying     // destruction has begun and is not over
	Destroyed  []RootID    // remembered as destroyed by every mirror, the latest last; bounded
	Anchor     Anchor      // the highest over the mirrors
	Tombstones []Tombstone // erasures that a restore must replay, oldest first
	Away       []string    // mirrors that could not be read, each with the reason
}

// Dying is a root that nobody can use any more and that is not gone for good: a service
// waits before it destroys a key, and somebody who runs it can take that back meanwhile;
// or copies of its storage are kept for a while.
type Dying struct {
	ID    RootID
	Until time.Time // when it is gone, if nobody takes it back
}

// dying returns the root's entry in Dying, nil if it has none.
func (c *RootContents) dying(id RootID) *Dying {
	if i := slices.IndexFunc(c.Dying, func(d Dying) bool { return d.ID == id }); i >= 0 {
		return &c.Dying[i]
	}
	return nil
}

// rootsAt are the roots that a place holds, or that are not gone from it.
func rootsAt(c RootContents) (ids []RootID) {
	for i := range c.Living {
		ids = append(ids, c.Living[i].ID)
	}
	for i := range c.Dying {
		ids = append(ids, c.Dying[i].ID)
	}
	return ids
}

// Classes of root stores: how real destruction is.
const (
	ClassBestEffort = "best-effort" // a file is overwritten; its disk may keep old blocks
	ClassEffaceable = "effaceable"  // a service destroys the key at once, for good
	ClassScheduled  = "scheduled"   // a service destroys the key after a delay, and can be stopped until then
)

// Place identifies a root store.
type Place struct {
	URL   string // canonical, as file:/etc/oubli.root,file:/mnt/b/oubli.root; it holds no password
	Host  string // the host that the root store is bound to; empty if to none
	Class string // how real destruction is: ClassBestEffort, ClassEffaceable, ClassScheduled

	// Delay is how long it takes at least from asking for a root's destruction until it
	// is gone. The keystore does not record it.
	Delay time.Duration

	// Versions, if not empty, names a key of a service, versions of which wrap the roots, and
	// which destroys with one all that are older. Two root stores must not have one in common:
	// MoveRoots refuses that. The keystore does not record it.
	Versions string `json:"-"`
}

// Rehearser is a RootStore that can show that it destroys.
type Rehearser interface {
	RootStore

	// Rehearse adds a scratch root, destroys it as Destroy does, and then tries to get it
	// back, also by what an administrator of the root store could undo. It can be done
	// beside a living keystore. An error means that it could not be tried; what was found
	// stands in the Rehearsal.
	Rehearse(ctx context.Context) (Rehearsal, error)
}

// Rehearsal is what a [Rehearser] found.
type Rehearsal struct {
	Steps []RehearsalStep // in their order
	Until time.Time       // if not zero, the scratch root is gone then, and it can't be told before
}

// RehearsalStep is one thing that was tried.
type RehearsalStep struct {
	What string // "the wrapped root does not open after its key version was trimmed"
	OK   bool   // as it must be
	Note string // the service's answer, or what to do; empty if there is nothing to say
}

// Proven tells whether every step went as it must and nothing remains to be waited for.
func (r Rehearsal) Proven() bool {
	return r.Until.IsZero() && len(r.Steps) > 0 && !slices.ContainsFunc(r.Steps, func(s RehearsalStep) bool { return !s.OK })
}

// StoreID identifies a keystore for life. Random.
type StoreID [16]byte

// String gives the id in hexadecimal; so does MarshalText, for JSON.
func (id StoreID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText gives what String does.
func (id StoreID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// RootID identifies a root key. Random, not secret.
type RootID [16]byte

// String gives the id in hexadecimal; so does MarshalText, for JSON.
func (id RootID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText gives what String does.
func (id RootID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// Root is a root key with its name. Epoch is for people: what a root is, the epoch
// record says.
type Root struct {
	ID      RootID
	Epoch   uint64
	Created time.Time // UTC, in seconds
	Key     Secret
}

// Secret is key material that does not print itself.
type Secret [32]byte

// Format writes a placeholder, whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "[secret]") }

// MarshalText refuses: keys are not for logs or JSON.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Anchor is how far the keystore has certainly come. A keystore that is behind it came
// from a backup.
type Anchor struct {
	Epoch      uint64
	Advances   uint64   // advances begun
	Counters   []uint64 // change counters, by page
	LedgerSize uint64   // entries in the ledger of erasures
	LedgerHead [32]byte // its Merkle tree head
}

// Higher returns the larger of each number in a and b, for what must never go down. It
// shares no memory with them.
func (a Anchor) Higher(b Anchor) Anchor {
	out := Anchor{Epoch: max(a.Epoch, b.Epoch), Advances: max(a.Advances, b.Advances), LedgerSize: a.LedgerSize, LedgerHead: a.LedgerHead}
	if b.LedgerSize > a.LedgerSize {
		out.LedgerSize, out.LedgerHead = b.LedgerSize, b.LedgerHead
	}
	out.Counters = slices.Clone(a.Counters)
	for p, c := range b.Counters {
		if p == len(out.Counters) {
			out.Counters = append(out.Counters, 0)
		}
		out.Counters[p] = max(out.Counters[p], c)
	}
	return out
}

// Tombstone is one destruction of keys, as a restore must know it.
type Tombstone struct {
	Event   EventID
	Subject Subject
	Page    uint8
	Counter uint64 // the page's change counter that the event raised
	At      time.Time
	Keys    []uint32 // ids of the destroyed data keys
	Erased  bool     // the whole subject, as against some purposes
	Keep    []string // purposes kept; the subject is restricted to them
	Gone    []string // purposes withdrawn
}

// EventID identifies a change of a subject's state, so that what is recorded twice
// counts once. Random.
type EventID [16]byte

// String gives the id in hexadecimal; so does MarshalText, for JSON.
func (id EventID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText gives what String does.
func (id EventID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }
