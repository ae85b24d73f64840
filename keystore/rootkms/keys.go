package rootkms

import (
	"context"
	"time"

	"github.com/oubli/oubli/keystore"
)

// Keys is what a key management service does for a [Store]. It remembers nothing; the
// Store does the thinking. A service that has versions of one key gives each version a name.
//
// Implementations are safe for concurrent use, honour contexts, and pass the suite in
// keystore/rootkms/kmstest. A failure wraps [keystore.ErrUnavailable] unless it is one of
// those named below, and never holds a secret, a token or what was wrapped.
type Keys interface {
	// Make makes a wrapping key that never wrapped anything, and returns its name, which
	// no other key of the service has or had. The ids label it, where the service has
	// labels, for whoever looks at its console.
	Make(ctx context.Context, store keystore.StoreID, root keystore.RootID) (name string, err error)

	// Wrap encrypts secret, at most 64 bytes, under exactly that key. ad must be given
	// to Unwrap again.
	Wrap(ctx context.Context, name string, secret, ad []byte) (wrapped []byte, err error)

	// Unwrap is the inverse. It fails with ErrNotFound where the service does not have
	// the key, or does not let it be used any more, and with ErrTampered where wrapped
	// and ad do not belong together.
	Unwrap(ctx context.Context, name string, wrapped, ad []byte) (secret []byte, err error)

	// Destroy destroys keys, or begins to where the service takes its time: Unwrap of
	// them fails from then on. Keys that are gone or dying already are no error, nor are
	// names that the service does not know.
	Destroy(ctx context.Context, names []string) error

	// State tells of each key what has become of it.
	State(ctx context.Context, names []string) ([]KeyState, error)

	// Before returns those of living that must be given up before dead can be destroyed:
	// in a service that can only drop its oldest versions, the older ones. Others return nil.
	Before(living, dead []string) []string

	// Undo does what an administrator of the service can do to take the destruction of
	// keys back, such as lowering a limit or cancelling a schedule. It is for rehearsals
	// and nothing else. It fails, as it must, where there is nothing that could be done;
	// what it could do, it has done when it returns.
	Undo(ctx context.Context, names []string) error

	// Check refuses, with ErrMismatch and what to do, a service that is set up so that
	// destroying keys does not destroy them, or so that they can be taken out of it.
	Check(ctx context.Context) error

	// Place tells where the keys are. Delay is how long the service takes to destroy one,
	// Versions the key whose oldest versions it drops, where Before returns any.
	Place() keystore.Place
}

// KeyState is what has become of a key.
type KeyState struct {
	Fate  Fate
	Until time.Time // of a Dying key: when the service will have destroyed it
}

// Fate of a key.
type Fate uint8

const (
	Gone   Fate = iota // the service does not have it, or not its material, for good
	Living             // it can be used
	Dying              // it can't be used; the service destroys it later, and can be stopped
	Barred             // it can't be used, and nothing will destroy it: somebody disabled it
)
