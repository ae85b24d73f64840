package rootkms

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oubli/oubli/keystore"
)

// unmakeTime bounds how long a Create that failed, or whose caller gave up, takes to clean up.
const unmakeTime = 30 * time.Second

// wrapped is a root that was wrapped by a fresh key, and the sweeps that had begun before
// the key was made.
type wrapped struct {
	key    string
	blob   []byte
	sweeps uint64
}

// good tells whether the key can have been in the way of no sweep, and is nobody else's.
func (w *wrapped) good(h *head) bool { return w != nil && w.sweeps == h.sweeps && !h.uses(w.key) }

// wrap has a key made and wraps a root by it. h was read before.
func (s *Store) wrap(ctx context.Context, h *head, id keystore.RootID, epoch uint64, secret *keystore.Secret) (*wrapped, error) {
	name, err := s.keys.Make(ctx, h.store, id)
	if err != nil {
		return nil, fmt.Errorf("make a wrapping key: %w", err)
	}
	blob, err := s.keys.Wrap(ctx, name, secret[:], rootAD(h.store, id, epoch, name))
	if err == nil && len(blob) == 0 {
		err = fmt.Errorf("%w: the service returned nothing", keystore.ErrUnavailable)
	}
	if err == nil && h.uses(name) { // a service that gives one key to two who ask at once
		err = fmt.Errorf("%w: the key serves another root", keystore.ErrConflict)
	}
	if errors.Is(err, keystore.ErrNotFound) && s.moved(ctx, h) { // another destroyed it, as an older one
		err = fmt.Errorf("%w: the key was destroyed meanwhile", keystore.ErrConflict)
	}
	if err != nil {
		return nil, fmt.Errorf("wrap root %s by key %s: %w", id, name, err)
	}
	return &wrapped{key: name, blob: blob, sweeps: h.sweeps}, nil
}

// discard notes a key that came too late for a sweep as one to be destroyed, unless that
// would be in the way of living ones: then a later sweep takes it along, as an older one.
func (s *Store) discard(h *head, w *wrapped) {
	if w == nil || h.uses(w.key) || len(s.keys.Before(h.livingKeys(), []string{w.key})) > 0 {
		return
	}
	e := entry{created: s.now(), key: w.key, scratch: true}
	rand.Read(e.id[:])
	s.kill(&e)
	h.roots = append(h.roots, e)
}

// Add implements [keystore.RootStore]: a read, a fresh key, and a write of the head. If it
// fails, the service may be left with a key that wraps nothing.
func (s *Store) Add(ctx context.Context, r keystore.Root) error {
	if err := s.check(ctx); err != nil {
		return fmt.Errorf("add a root: %w", err)
	}
	var w *wrapped
	return s.change(ctx, "add a root", func(h *head) (bool, error) {
		if e := h.root(r.ID); e != nil && !e.dying {
			return false, s.same(ctx, h, e, &r)
		} else if e != nil || slices.Contains(h.destroyed, r.ID) {
			return false, fmt.Errorf("%w: root %s was destroyed here", keystore.ErrMismatch, r.ID)
		}
		if !w.good(h) {
			s.discard(h, w)
			var err error
			if w, err = s.wrap(ctx, h, r.ID, r.Epoch, &r.Key); err != nil {
				return false, err
			}
		}
		h.roots = append(h.roots, entry{id: r.ID, epoch: r.Epoch, created: r.Created, key: w.key, wrapped: w.blob})
		return true, nil
	})
}

// same refuses a root that has the id of another.
func (s *Store) same(ctx context.Context, h *head, e *entry, r *keystore.Root) error {
	secret, err := s.unwrap(ctx, h, e)
	if err != nil {
		return s.explain(ctx, h, e, err)
	}
	if secret != r.Key || e.epoch != r.Epoch {
		return fmt.Errorf("%w: there is another root %s", keystore.ErrMismatch, r.ID)
	}
	return nil
}

// Create implements [keystore.RootStore]. First it takes the place, by a head that holds
// nothing, so that whoever comes second makes no keys; then it fills it. If it fails it
// removes what it made; where it can't, [Store.Remove] does.
func (s *Store) Create(ctx context.Context, c keystore.RootContents) error {
	const what = "create a root store"
	if err := checkTombstones(c.Tombstones); err != nil {
		return err
	}
	if err := s.keys.Check(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if there, err := s.readHead(ctx); err != nil || there != nil {
		return s.taken(there, err)
	}
	h := &head{store: c.Store, phase: making}
	if err := s.put(ctx, h); err != nil {
		if errors.Is(err, keystore.ErrConflict) {
			return s.taken(s.readHead(ctx))
		}
		s.stands(ctx, h) // a rival with the same keystore fails as it should
		return fmt.Errorf("%s: %w", what, errors.Join(err, s.unmake(ctx, h)))
	}
	if err := s.fill(ctx, h, c); err != nil {
		return fmt.Errorf("%s: %w", what, errors.Join(err, s.unmake(ctx, h)))
	}
	return nil
}

// unmake takes away what a Create that fails has made. Its roots were not written, so it
// waits for no key to be gone.
func (s *Store) unmake(ctx context.Context, h *head) error {
	if h.rev == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unmakeTime)
	defer cancel()
	err := s.shelf.Delete(ctx, headName, h.rev)
	if errors.Is(err, keystore.ErrConflict) { // they were written after all
		return s.Remove(ctx)
	}
	if err == nil {
		err = s.keys.Destroy(ctx, h.livingKeys())
	}
	for n := h.firstPage; n < h.nextPage && err == nil; n++ {
		err = s.dropPage(ctx, n)
	}
	if err != nil {
		return fmt.Errorf("what was made at %s could not be removed: %w", s.Place().URL, err)
	}
	return nil
}

// taken refuses a place that is not free.
func (s *Store) taken(there *head, err error) error {
	if err != nil && !errors.Is(err, keystore.ErrTampered) {
		return err
	}
	of := "something that can't be read"
	if there != nil {
		of = fmt.Sprintf("keystore %s", there.store)
		switch there.phase {
		case making:
			of += ", begun and not finished"
		case removing:
			of += ", being removed"
		}
	}
	return fmt.Errorf("%w: a root store of %s is at %s; it may hold the only root of a keystore, so nothing is overwritten", keystore.ErrExists, of, s.Place().URL)
}

func (s *Store) fill(ctx context.Context, h *head, c keystore.RootContents) error {
	h.remember(c.Destroyed...)
	h.anchor = keystore.Anchor{}.Higher(c.Anchor)
	for _, r := range c.Living {
		w, err := s.wrap(ctx, h, r.ID, r.Epoch, &r.Key)
		if err != nil {
			return err
		}
		h.roots = append(h.roots, entry{id: r.ID, epoch: r.Epoch, created: r.Created, key: w.key, wrapped: w.blob})
	}
	if err := s.add(ctx, h, c.Tombstones); err != nil {
		return err
	}
	filled := *h
	filled.phase = standing
	err := s.put(ctx, &filled)
	if err != nil && !errors.Is(err, keystore.ErrConflict) && s.stands(ctx, &filled) {
		return nil
	}
	return err
}

// stands tells whether a head was written though the shelf did not say so. It then has its
// revision.
func (s *Store) stands(ctx context.Context, h *head) bool {
	there, err := s.readHead(ctx)
	if err != nil || there == nil || !bytes.Equal(there.encode(), h.encode()) {
		return false
	}
	h.rev = there.rev
	return true
}
