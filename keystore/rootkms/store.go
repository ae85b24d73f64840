package rootkms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oubli/oubli/keystore"
)

// Options are what New can be told. The zero value holds the defaults.
type Options struct {
	// Copies is how long copies of the service's own storage are kept, such as snapshots
	// of Vault: a key that was destroyed can be taken from one until the last is gone. An
	// erasure is final only then. Default 0: none are kept.
	Copies time.Duration

	// URL is what Place says, for services that have a form of their own. Default: the
	// URL of the keys, with the name of the shelf as its parameter "shelf".
	URL string

	// Clock tells the time; tests set it. Default time.Now.
	Clock func() time.Time
}

// checkAgain is how long a service that was found well set up passes for it.
const checkAgain = time.Hour

// Store is a root store: each root is wrapped by a key of its own. It holds no root in
// memory: what Load and Add are about goes with their return. It is safe for concurrent
// use by goroutines; any number of processes may use one shelf and one service.
type Store struct {
	keys   Keys
	shelf  Shelf
	copies time.Duration
	url    string
	clock  func() time.Time

	mu      sync.Mutex
	checked time.Time
	pages   map[pageRef]page // those that the last head named; they never change
}

var _ keystore.Rehearser = (*Store)(nil)

// New returns the root store whose roots are wrapped by keys and stand on shelf. It asks
// neither of them anything. o may be nil.
func New(keys Keys, shelf Shelf, o *Options) *Store {
	if o == nil {
		o = &Options{}
	}
	s := &Store{keys: keys, shelf: shelf, copies: o.Copies, url: o.URL, clock: o.Clock}
	if s.clock == nil {
		s.clock = time.Now
	}
	return s
}

// Place implements [keystore.RootStore]. Its class is that of the service.
func (s *Store) Place() keystore.Place {
	p := s.keys.Place()
	switch {
	case s.url != "":
		p.URL = s.url
	case strings.Contains(p.URL, "?"):
		p.URL += "&shelf=" + s.shelf.Name()
	default:
		p.URL += "?shelf=" + s.shelf.Name()
	}
	p.Delay += s.copies
	return p
}

// now is the time as the documents hold it.
func (s *Store) now() time.Time { return s.clock().UTC().Truncate(time.Second) }

// check asks the service, once an hour, whether it is set up so that it destroys.
func (s *Store) check(ctx context.Context) error {
	s.mu.Lock()
	fresh := !s.checked.IsZero() && s.now().Sub(s.checked).Abs() < checkAgain
	s.mu.Unlock()
	if fresh {
		return nil
	}
	if err := s.keys.Check(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked = s.now()
	return nil
}

// Load implements [keystore.RootStore]: one read of the head, one of each page of
// tombstones that this Store has not read before, and one Unwrap for each named root.
//
// A root that is named and can't be unwrapped is lost with its key until somebody brings
// the key back; the error wraps [keystore.ErrUnavailable], for it may come back, as from a
// snapshot of the service. It wraps [keystore.ErrTampered] where the key is there and what
// stands on the shelf was not wrapped by it, for this root of this keystore: no snapshot
// of the service helps with that.
func (s *Store) Load(ctx context.Context, keys ...keystore.RootID) (keystore.RootContents, error) {
	for try := 0; ; try++ {
		h, err := s.head(ctx)
		if err != nil {
			return keystore.RootContents{}, err
		}
		c, changed, err := s.contents(ctx, h, keys)
		// Another process may have wrapped a root anew, or destroyed it, since the head was read.
		if err == nil || !changed || try == tries {
			return c, err
		}
	}
}

// contents makes the answer to Load; changed tells that a failure may be because h is not
// what stands on the shelf any more.
func (s *Store) contents(ctx context.Context, h *head, keys []keystore.RootID) (c keystore.RootContents, changed bool, err error) {
	c = keystore.RootContents{Store: h.store, Destroyed: h.destroyed, Anchor: h.anchor}
	for i := range h.roots {
		e := &h.roots[i]
		switch {
		case e.scratch:
		case e.dying:
			c.Dying = append(c.Dying, keystore.Dying{ID: e.id, Until: e.until})
		default:
			r := keystore.Root{ID: e.id, Epoch: e.epoch, Created: e.created}
			if slices.Contains(keys, e.id) {
				if r.Key, err = s.unwrap(ctx, h, e); err != nil {
					return keystore.RootContents{}, s.moved(ctx, h), s.explain(ctx, h, e, err)
				}
			}
			c.Living = append(c.Living, r)
		}
	}
	if c.Tombstones, err = s.tombstones(ctx, h); err != nil {
		return keystore.RootContents{}, s.moved(ctx, h), err
	}
	return c, false, nil
}

// moved tells whether the head was written since h was read.
func (s *Store) moved(ctx context.Context, h *head) bool {
	_, rev, err := s.shelf.Get(ctx, headName)
	return err == nil && rev != h.rev
}

// unwrap fetches a root.
func (s *Store) unwrap(ctx context.Context, h *head, e *entry) (secret keystore.Secret, err error) {
	b, err := s.keys.Unwrap(ctx, e.key, e.wrapped, rootAD(h.store, e.id, e.epoch, e.key))
	if err != nil {
		return secret, err
	}
	defer clear(b)
	if len(b) != len(secret) {
		return secret, fmt.Errorf("%w: the service unwrapped %d bytes, a root has %d", keystore.ErrTampered, len(b), len(secret))
	}
	copy(secret[:], b)
	return secret, nil
}

// explain says of a root that can't be unwrapped what that means. An outage stays one.
func (s *Store) explain(ctx context.Context, h *head, e *entry, err error) error {
	what := fmt.Sprintf("root %s of epoch %d, wrapped by key %s", e.id, e.epoch, e.key)
	if errors.Is(err, keystore.ErrTampered) {
		return fmt.Errorf("%s: %w; what stands on %s was altered, or belongs elsewhere", what, err, s.shelf.Name())
	}
	if !errors.Is(err, keystore.ErrNotFound) {
		return fmt.Errorf("%s: %w", what, err)
	}
	states := map[string]KeyState{}
	if stateErr := s.ask(ctx, h.livingKeys(), states); stateErr != nil {
		return fmt.Errorf("%w: %s: the service does not let the key be used, and did not say why: %w", keystore.ErrUnavailable, what, stateErr)
	}
	fates := map[Fate][]string{}
	for i := range h.roots {
		if e := &h.roots[i]; !e.dying {
			fate := states[e.key].Fate
			fates[fate] = append(fates[fate], fmt.Sprintf("%d (key %s)", e.epoch, e.key))
		}
	}
	var b strings.Builder
	if list := fates[Gone]; len(list) > 0 {
		fmt.Fprintf(&b, "; the service has lost the keys of the living epochs %s: only a snapshot of the service that still has them opens these epochs", strings.Join(list, ", "))
	}
	if list := fates[Dying]; len(list) > 0 {
		fmt.Fprintf(&b, "; somebody has the service destroy the keys of the living epochs %s: cancel that", strings.Join(list, ", "))
	}
	if list := fates[Barred]; len(list) > 0 {
		fmt.Fprintf(&b, "; somebody disabled the keys of the living epochs %s: enable them again", strings.Join(list, ", "))
	}
	// Not wrapped: ErrNotFound would read as a place that holds nothing.
	return fmt.Errorf("%w: %s, which lives, can't be unwrapped (%v)%s", keystore.ErrUnavailable, what, err, &b)
}
