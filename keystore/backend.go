package keystore

import "context"

// Backend remembers records: short binary keys, values of some hundred bytes to some
// hundred kilobytes, and a revision each. It is all that a database must offer; the
// Store does the thinking and the cryptography. A Backend never sees an unwrapped key.
//
// Implementations MUST be safe for concurrent use, MUST honour contexts, and MUST
// pass the suite in keystore/storetest. Failures other than conflicts MUST wrap
// [ErrUnavailable], or [ErrTampered] where what is stored cannot be trusted; an error
// MUST never look like an absent record. Slices passed in are not kept or changed;
// slices returned belong to the caller.
type Backend interface {
	// Get returns one record for each key, in the order of keys, from one consistent
	// read where the database has such a thing. An absent record has Rev 0.
	// All of it is one round trip.
	Get(ctx context.Context, keys [][]byte) ([]Record, error)

	// Scan returns up to limit records with from <= key < to, in bytewise key order.
	// Fewer than limit records means that there are no more. limit is at least 1.
	Scan(ctx context.Context, from, to []byte, limit int) ([]Record, error)

	// Commit applies groups in their order and stops at the first that fails. A group
	// is atomic: all its writes or none. It is applied only if every revision that it
	// names still holds; these are checked and locked before its first write, and what
	// is only named (a Guard) MUST stay locked against change until the group has
	// committed. Otherwise Commit fails with an error that wraps [ErrConflict].
	//
	// done is the number of groups that are committed and durable, when Commit
	// returns, against the loss of power. With an error other than ErrConflict, it is
	// unknown which groups from groups[done] on were applied; always a prefix of them.
	// A backend may join groups into one transaction.
	//
	// All keys of a group begin with the same byte (they stand in one page), and no
	// key stands twice in a group. Later groups may name revisions that earlier
	// groups of the same call write.
	Commit(ctx context.Context, groups []Group) (done int, err error)

	// Name tells people which keystore this is, as bolt:/var/lib/app/oubli.keys.
	// It holds no password.
	Name() string

	// Close releases what the backend holds. Later calls fail.
	Close() error
}

// Shared is a Backend that several processes use at once. A Store on it serves keys from
// memory only under a lease, see the package comment. What one process holds at a time,
// as a file, is a Backend alone.
type Shared interface {
	Backend

	// Replicated returns nil once all that was committed before the call is applied
	// wherever a superseded root must be outlived, as on the standbys that the
	// backend's options name. It waits some seconds at most; then it fails with an
	// error that wraps ErrUnavailable and names who lags or is away.
	Replicated(ctx context.Context) error

	// Notify tells other processes that something changed, and Listen calls changed
	// whenever it hears so, until ctx ends or it can't hear any more, which is an
	// error. Both only make eviction prompt: messages may be lost, or never heard
	// where a pooler stands between. Listen holds no connection that others wait for.
	Notify(ctx context.Context) error
	Listen(ctx context.Context, changed func()) error
}

// Traced is a Shared that can tell on which line of its database's history it is: the one
// that a failover, or a recovery, leaves for another. What was committed last may be lost with
// the old line, a new key as well, which raises no counter. A Store that sees the line change
// uses no key that it remembers.
type Traced interface {
	Shared

	// Line names the line that answered last, "" if that can't be told.
	Line(ctx context.Context) string
}

// Streamer is a Backend that can hand out what it reads while the database still looks for
// the rest, so that both work at once.
type Streamer interface {
	Backend

	// Each is Get, but that it calls f with each record, and its place in keys, as it
	// comes: in any order, and once more for a place where the read had to be repeated.
	// Slices are valid during the call. f does not use the backend. With an error, f may
	// have been called for some of the keys.
	Each(ctx context.Context, keys [][]byte, f func(i int, r Record)) error
}

// Rev is the revision of a record: random, chosen by the Store with each write, so
// that no revision from before a restore matches after it. 0 stands for "no record".
type Rev uint64

// Record is what stands under a key.
type Record struct {
	Key   []byte
	Value []byte
	Rev   Rev
}

// Op says what a Write does to its record once its revision was found to hold.
type Op uint8

const (
	Guard  Op = iota // nothing: the revision must hold until the commit
	Put              // write Value with the revision Rev
	Delete           // remove the record
)

// Write is one step of a [Group].
type Write struct {
	Op    Op
	Key   []byte
	If    Rev    // the revision that must hold; 0: there must be no record
	Rev   Rev    // Put: the new revision, never 0
	Value []byte // Put: the new value
}

// Group is a set of writes that become durable together or not at all.
type Group []Write
