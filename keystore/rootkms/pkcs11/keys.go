//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// Keys are the keys of a token. They are safe for concurrent use by several processes. Its
// methods are those of [rootkms.Keys].
type Keys struct {
	config   Config
	url      string
	class    string
	module   cryptoki
	patience time.Duration // with a call; tests make it short
	turn     chan struct{} // holds one while somebody has what follows

	session    *session // may be nil
	serial     string   // of the token, once there was a session
	closed     bool
	refused    bool // the token refused the PIN that hashes to refusedSum
	refusedSum uint64
	seed       maphash.Seed
}

var _ rootkms.Keys = (*Keys)(nil)

// Open loads the module, finds the token and logs in. Errors wrap [keystore.ErrInvalid],
// [keystore.ErrMismatch] where the token is set up wrongly or two have its label, or
// [keystore.ErrUnavailable].
func Open(ctx context.Context, c Config) (*Keys, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	m, err := load(c.Module)
	if err != nil {
		return nil, err
	}
	return open(ctx, c, m)
}

func open(ctx context.Context, c Config, m cryptoki) (*Keys, error) {
	k := &Keys{config: c, url: c.url(), module: m, patience: patience, turn: make(chan struct{}, 1), seed: maphash.MakeSeed()}
	class, err := do(ctx, k, "open", func(s *session) (string, error) {
		info, err := s.GetSessionInfo(s.handle)
		if err != nil {
			return "", err
		}
		slot, err := s.GetSlotInfo(info.SlotID)
		if slot.Flags&pkcs11.CKF_HW_SLOT == 0 {
			return keystore.ClassBestEffort, err
		}
		return keystore.ClassEffaceable, err
	})
	if err != nil {
		k.Close()
		return nil, err
	}
	k.class = class
	return k, nil
}

// Place names the token by what the Config named it by. Its class is best effort where the
// token says that it is software.
func (k *Keys) Place() keystore.Place { return keystore.Place{URL: k.url, Class: k.class} }

// Make makes an AES-256 key object.
func (k *Keys) Make(ctx context.Context, store keystore.StoreID, root keystore.RootID) (string, error) {
	label := fmt.Sprintf("oubli %s %s", store, root)
	return do(ctx, k, "make a key", func(s *session) (string, error) {
		name, object, err := s.make(label)
		if err == nil && ctx.Err() != nil { // nobody waits for it any more
			err = errors.Join(context.Cause(ctx), s.DestroyObject(s.handle, object))
		}
		return name, err
	})
}

// Wrap encrypts by AES-GCM, and opens what it got before it returns it.
func (k *Keys) Wrap(ctx context.Context, name string, secret, ad []byte) ([]byte, error) {
	if len(secret) > maxSecret {
		return nil, fmt.Errorf("%s: wrap: %w: more than %d bytes", k.url, keystore.ErrInvalid, maxSecret)
	}
	secret, ad = slices.Clone(secret), slices.Clone(ad)
	return do(ctx, k, "wrap under key "+name, func(s *session) ([]byte, error) {
		objects, err := s.search(name)
		switch {
		case err != nil:
			return nil, err
		case len(objects) == 0:
			return nil, errNoKey
		case len(objects) > 1:
			return nil, fmt.Errorf("%w: the token has %d keys of that id: somebody copied it", keystore.ErrMismatch, len(objects))
		}
		return s.wrap(objects[0], secret, ad)
	})
}

// Unwrap is the inverse.
func (k *Keys) Unwrap(ctx context.Context, name string, wrapped, ad []byte) ([]byte, error) {
	wrapped, ad = slices.Clone(wrapped), slices.Clone(ad)
	return do(ctx, k, "unwrap under key "+name, func(s *session) ([]byte, error) {
		objects, err := s.search(name)
		if err != nil {
			return nil, err
		}
		err = errNoKey
		for _, object := range objects {
			var secret []byte
			if secret, err = s.unwrap(object, wrapped, ad); err == nil {
				return secret, nil
			}
		}
		return nil, err
	})
}

// Destroy destroys the objects of each key, and searches for them again.
func (k *Keys) Destroy(ctx context.Context, names []string) error {
	for _, name := range names {
		_, err := do(ctx, k, "destroy key "+name, func(s *session) (none struct{}, err error) {
			return none, s.destroy(name)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// State finds a key Gone if the token, logged in to, has no object of it.
func (k *Keys) State(ctx context.Context, names []string) ([]rootkms.KeyState, error) {
	states := make([]rootkms.KeyState, len(names))
	for i, name := range names {
		fate, err := do(ctx, k, "look for key "+name, func(s *session) (rootkms.Fate, error) { return s.fate(name) })
		if err != nil {
			return nil, err
		}
		states[i].Fate = fate
	}
	return states, nil
}

// Before returns nil: a token destroys any key by itself.
func (k *Keys) Before(_, _ []string) []string { return nil }

// Undo fails: a token has nothing that would bring an object back.
func (k *Keys) Undo(context.Context, []string) error {
	return fmt.Errorf("%s: take a destruction back: %w: a token has no means to "+
		"(only a backup or a clone of the token would have the key: copies=… says how long they are kept)",
		k.url, keystore.ErrUnavailable)
}

// Check looks at the token's settings and tries a key of its own, which it destroys.
func (k *Keys) Check(ctx context.Context) error {
	_, err := do(ctx, k, "check", func(s *session) (none struct{}, err error) {
		info, err := s.GetSessionInfo(s.handle)
		if err != nil {
			return none, err
		}
		token, err := s.GetTokenInfo(info.SlotID)
		if err != nil {
			return none, err
		}
		if err := fit(token); err != nil {
			return none, err
		}
		if err := canGCM(s, info.SlotID); err != nil {
			return none, err
		}
		return none, s.rehearse()
	})
	return err
}
