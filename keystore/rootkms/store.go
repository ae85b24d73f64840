package rootkms

import (
	"time"

	"github.com/oubli/oubli/keystore"
)

// Options are what New can be told. The zero value holds the defaults.
type Options struct {
	// Copies is how long copies of the service's own storage are kept, such as snapshots
	// of Vault: a key that was destroyed can be taken from one until the last is gone. An
	// erasure is final only then. Default 0: none are kept.
	Copies time.Duration

	// Clock tells the time; tests set it. Default time.Now.
	Clock func() time.Time
}

// Store is a root store: each root is wrapped by a key of its own.
type Store struct {
	keystore.RootStore
	keys  Keys
	shelf Shelf
}

// New returns the root store whose roots are wrapped by keys and stand on shelf. It asks
// neither of them anything. o may be nil.
func New(keys Keys, shelf Shelf, o *Options) *Store { return &Store{keys: keys, shelf: shelf} }
