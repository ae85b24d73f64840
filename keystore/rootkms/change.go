package rootkms

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/oubli/oubli/keystore"
)

// tries bounds how often a change is begun again because another process was faster.
const tries = 24

// head reads the head of a root store that stands, or is being removed.
func (s *Store) head(ctx context.Context) (*head, error) {
	h, err := s.readHead(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case h == nil:
		return nil, fmt.Errorf("%w: no root store at %s", keystore.ErrNotFound, s.Place().URL)
	case h.phase == making:
		// Not ErrNotFound: what fills it may yet come in force.
		return nil, fmt.Errorf("%w: a root store was begun at %s and is not finished; if nobody is at it, remove it and begin again", keystore.ErrMismatch, s.Place().URL)
	}
	return h, nil
}

// readHead reads the head, nil if there is none.
func (s *Store) readHead(ctx context.Context) (*head, error) {
	b, rev, err := s.shelf.Get(ctx, headName)
	if err != nil || rev == "" {
		return nil, err
	}
	h, err := decodeHead(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", s.shelf.Name(), headName, err)
	}
	h.rev = rev
	return h, nil
}

// put writes the head if it is still what it was when it was read.
func (s *Store) put(ctx context.Context, h *head) error {
	rev, err := s.shelf.Put(ctx, headName, h.encode(), h.rev)
	if err == nil {
		h.rev = rev
	}
	return err
}

// change changes the head of a root store that stands by compare-and-swap. f gets a head
// that it may change, and tells whether it did; it may be called again.
func (s *Store) change(ctx context.Context, what string, f func(h *head) (changed bool, err error)) error {
	return retry(ctx, what, func() error {
		h, err := s.head(ctx)
		if err != nil {
			return err
		}
		if h.phase == removing {
			return fmt.Errorf("%w: %s was given up and is being removed", keystore.ErrMismatch, s.Place().URL)
		}
		changed, err := f(h)
		if err != nil || !changed {
			return err
		}
		return s.put(ctx, h)
	})
}

// retry calls f again as long as it fails with ErrConflict.
func retry(ctx context.Context, what string, f func() error) error {
	for try := 0; ; try++ {
		err := f()
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, keystore.ErrConflict):
			return fmt.Errorf("%s: %w", what, err)
		case try == tries:
			return fmt.Errorf("%s: %w: others were faster %d times: %w", what, keystore.ErrUnavailable, try, err)
		}
		wait := time.NewTimer(time.Duration(rand.Int64N(int64(min(try+1, 8)) * int64(5*time.Millisecond))))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return fmt.Errorf("%s: %w: %w", what, keystore.ErrUnavailable, context.Cause(ctx))
		}
	}
}
