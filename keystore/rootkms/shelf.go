package rootkms

import "context"

// Shelf keeps a few small documents for a [Store], by compare-and-swap: the wrapped roots,
// the anchor, the tombstones that a restore must replay. It MUST NOT be restored together
// with the keystore: what stands here is how a keystore that came back from a backup is
// told from the living one.
//
// Implementations are safe for concurrent use by several processes. Failures other than
// conflicts wrap [keystore.ErrUnavailable].
type Shelf interface {
	// Get returns a document and its revision; rev is "" if there is none. What was
	// written before the call is seen, whichever process wrote it.
	Get(ctx context.Context, name string) (value []byte, rev string, err error)

	// Put writes a document of at most 256 KB if its revision is still rev ("": there is
	// none), durably, and returns the new one, which the document never had before, also
	// not before it was deleted; else it fails with ErrConflict. After another error it is
	// unknown whether it was written. Names are letters, digits and -.
	Put(ctx context.Context, name string, value []byte, rev string) (string, error)

	// Delete removes a document under the same condition. It need not be removed
	// physically.
	Delete(ctx context.Context, name string, rev string) error

	// Name tells people where the shelf is, as kv:secret/oubli. It holds no password.
	Name() string
}
