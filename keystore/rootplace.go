package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"
)

func (s *Store) rootStore() RootStore { return *s.roots.Load() }

// rootsOf returns the root store that a record names, if the Store was told of it, and has
// the Store go on there. Else it refuses to write or destroy roots at a place that the
// keystore has left. Who writes or destroys keeps to what it returned: somebody who was slow
// may meanwhile have gone by a record from before a move, and s.roots with him.
func (s *Store) rootsOf(e *epochRecord) (RootStore, error) {
	at := s.roots.Load()
	here := (*at).Place().URL
	if here == e.place.URL {
		return *at, nil
	}
	s.mu.Lock()
	places := s.places
	s.mu.Unlock()
	for _, r := range places {
		if p := r.Place(); p.URL == e.place.URL && p.Host == e.place.Host {
			s.roots.Store(&r)
			s.log.Info("the root is not where it was; going on with it there", "was", here, "is", p.URL)
			return r, nil
		}
	}
	if !s.opened { // a copy that is restored, or a root that is adopted
		return *at, nil
	}
	return nil, fmt.Errorf("%w: the root was moved from %s to %s; open the keystore with that, and before a move name the place as NextRoots", ErrMismatch, here, e.place.URL)
}

// learnPlace has the Store go on at a place once the record names it.
func (s *Store) learnPlace(to RootStore) {
	url := to.Place().URL
	s.mu.Lock()
	defer s.mu.Unlock()
	places := []RootStore{to}
	for _, r := range append(s.places, s.rootStore()) {
		if r.Place().URL != url {
			places = append(places, r)
		}
	}
	s.places = places
}

// rootFlight is a root being fetched. Who needs it meanwhile waits for it: where a service
// is asked, that is once for each epoch, however many read.
type rootFlight struct {
	done   chan struct{}
	aead   tink.AEAD
	err    error
	gaveUp bool // the context that it was fetched with has ended
}

// rootAEAD returns a living root, from memory or from the root store.
func (s *Store) rootAEAD(ctx context.Context, id RootID) (tink.AEAD, error) {
	for {
		s.mu.Lock()
		a, f := s.rootAEADs[id], s.rootFlights[id]
		mine := a == nil && f == nil
		if mine {
			f = &rootFlight{done: make(chan struct{}), gaveUp: true}
			s.rootFlights[id] = f
		}
		s.mu.Unlock()
		if a != nil {
			return a, nil
		}
		if mine {
			func() {
				defer func() {
					s.mu.Lock()
					delete(s.rootFlights, id)
					s.mu.Unlock()
					close(f.done)
				}()
				f.aead, f.err = s.loadRoot(ctx, id)
				f.gaveUp = ctx.Err() != nil
			}()
			return f.aead, f.err
		}
		select {
		case <-f.done:
			if !f.gaveUp {
				return f.aead, f.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *Store) loadRoot(ctx context.Context, id RootID) (tink.AEAD, error) {
	for {
		at := s.roots.Load()
		c, err := (*at).Load(ctx, id)
		for i := range c.Living {
			if err == nil && c.Living[i].ID == id {
				return s.rememberRoot(&c.Living[i])
			}
		}
		if e, _, unread := readEpoch(ctx, s.backend); unread == nil {
			if _, moved := s.rootsOf(e); moved != nil {
				return nil, moved
			}
		}
		if s.roots.Load() != at {
			continue
		}
		where := (*at).Place().URL
		switch d := c.dying(id); {
		case err != nil:
			return nil, err
		case slices.Contains(c.Destroyed, id):
			return nil, fmt.Errorf("%w: root %s was destroyed; what it wrapped is gone for good", ErrMismatch, id)
		case d != nil:
			return nil, fmt.Errorf("%w: root %s is being destroyed in %s, until %s", ErrMismatch, id, where, d.Until.UTC().Format(time.RFC3339))
		}
		return nil, fmt.Errorf("%w: root %s is not in %s", ErrMismatch, id, where)
	}
}

func (s *Store) rememberRoot(r *Root) (tink.AEAD, error) {
	if r.Key == (Secret{}) {
		return nil, fmt.Errorf("%w: %s gave root %s without its key", ErrTampered, s.rootStore().Place().URL, r.ID)
	}
	a, err := newAEAD(&r.Key)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return nil, ErrClosed
	}
	s.rootAEADs[r.ID] = a
	return a, nil
}

// loadWhole loads a root store with the keys of all living roots.
func loadWhole(ctx context.Context, roots RootStore) (RootContents, error) {
	c, err := roots.Load(ctx)
	if err != nil {
		return c, err
	}
	ids := make([]RootID, len(c.Living))
	for i := range c.Living {
		ids[i] = c.Living[i].ID
	}
	return roots.Load(ctx, ids...)
}

// outdated makes a conflict of what went wrong because others were faster by an epoch, and
// have superseded and destroyed what the record named when it was read, or by a move.
func (s *Store) outdated(ctx context.Context, e *epochRecord, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	now, _, err2 := readEpoch(ctx, s.backend)
	switch {
	case err2 != nil || now.rev == e.rev:
		return err
	case errors.Is(err, ErrMismatch), now.place.URL != e.place.URL:
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}
