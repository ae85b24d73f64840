package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Open opens a keystore with its root store. It never creates. What is wrong it says in
// one error: ErrNotFound (no keystore, no root), ErrMismatch (the root belongs to
// another keystore, is older or newer, or belongs to another host or path), ErrBehind
// (the keystore came back from a backup), ErrTampered, ErrLocked, ErrUnavailable.
//
// Unless read-only, it finishes an advance that was under way and destroys the roots
// that are due. A failure of that housekeeping is logged and does not keep a keystore
// that can be read from opening; Health shows it.
func Open(ctx context.Context, b Backend, roots RootStore, o *Options) (*Store, error) {
	return newStore(b, roots, o).open(ctx)
}

func (s *Store) open(ctx context.Context) (*Store, error) {
	e, c, err := s.attach(ctx, s.checkPlace, s.checkAnchor)
	if err != nil {
		return nil, err
	}
	s.opened = true
	if err := s.share(ctx, e); err != nil {
		return nil, err
	}
	if s.readOnly {
		return s, nil
	}
	if err := s.Advance(ctx); err != nil {
		if ctx.Err() != nil {
			s.lease.leave()
			return nil, err
		}
		s.log.Warn("the advance was not finished; it is tried again with the next erasure", "error", err)
	} else if s.grace > 0 && c.Anchor.Epoch < e.epoch {
		if err := s.rootStore().Raise(ctx, Anchor{Epoch: e.epoch, Advances: e.advances}, nil); err != nil {
			s.log.Warn("the anchor was not raised", "error", err)
		}
	}
	return s, nil
}

// attach reads the record and the roots, and checks that they belong together. Another
// process may advance between the two; what then seems wrong is looked at again.
func (s *Store) attach(ctx context.Context, checks ...func(context.Context, *epochRecord, RootContents) error) (e *epochRecord, c RootContents, err error) {
	for range staleTries {
		if e, c, err = s.attachOnce(ctx); e == nil {
			return nil, c, err
		}
		for _, check := range checks {
			if err == nil {
				err = check(ctx, e, c)
			}
		}
		if !errors.Is(err, ErrMismatch) && !errors.Is(err, ErrBehind) {
			break
		}
		if now, _, err := readEpoch(ctx, s.backend); err != nil || now.rev == e.rev {
			break
		}
	}
	return e, c, err
}

// attachOnce returns the record with any error that is about what it says.
func (s *Store) attachOnce(ctx context.Context) (*epochRecord, RootContents, error) {
	e, check, err := readEpoch(ctx, s.backend)
	if err != nil {
		return nil, RootContents{}, err
	}
	fail := func(err error) (*epochRecord, RootContents, error) { return e, RootContents{}, err }
	s.configure(e)
	roots, err := s.rootsOf(e)
	if err != nil {
		return fail(err)
	}
	needed := []RootID{e.current}
	if e.intent != nil {
		needed = append(needed, e.intent.target)
	}
	c, err := roots.Load(ctx, needed...)
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w; the keystore says that its root is at %s", err, e.place.URL)
	}
	if err != nil {
		return nil, RootContents{}, err
	}
	where := roots.Place().URL
	if c.Store != e.store {
		return fail(fmt.Errorf("%w: the root in %s belongs to keystore %s, and %s is keystore %s: name the root that was made with this one", ErrMismatch, where, c.Store, s.backend.Name(), e.store))
	}
	for _, id := range needed {
		i := slices.IndexFunc(c.Living, func(r Root) bool { return r.ID == id })
		switch {
		case i >= 0:
			if _, err := s.rememberRoot(&c.Living[i]); err != nil {
				return fail(err)
			}
		case c.dying(id) != nil:
			return fail(fmt.Errorf("%w: %s is a copy from epoch %d, and its root is being destroyed since an erasure: use a later one", ErrMismatch, s.backend.Name(), e.epoch))
		case slices.Contains(c.Destroyed, id) || e.epoch < c.Anchor.Epoch:
			return fail(fmt.Errorf("%w: %s is a copy from epoch %d, and its root was destroyed by an erasure since: nobody can open this copy any more; use a later one", ErrMismatch, s.backend.Name(), e.epoch))
		case where != e.place.URL:
			return fail(fmt.Errorf("%w: the root in %s does not open %s, which is at epoch %d and says that its root is at %s", ErrMismatch, where, s.backend.Name(), e.epoch, e.place.URL))
		default:
			return fail(fmt.Errorf("%w: %s is at epoch %d, and the root in %s is older: it came back from a backup; use the latest copy of the root", ErrMismatch, s.backend.Name(), e.epoch, where))
		}
	}
	root, err := s.rootAEAD(ctx, e.current)
	if err != nil {
		return fail(err)
	}
	return e, c, check(root)
}

// checkPlace refuses a root store at another place than the keystore recorded: whoever
// destroys roots must reach every copy of them.
func (s *Store) checkPlace(_ context.Context, e *epochRecord, _ RootContents) error {
	here := s.rootStore().Place()
	if here.Host != e.place.Host && here.Host != "" && e.place.Host != "" { // a service belongs to no host
		return fmt.Errorf("%w: the root belongs to host %s, and this is %s; after a move on purpose, run oubli root move here", ErrMismatch, e.place.Host, here.Host)
	}
	if here.URL != e.place.URL || here.Host != e.place.Host {
		return fmt.Errorf("%w: the keystore's root is at %s, not at %s; name that, or run oubli root move", ErrMismatch, e.place.URL, here.URL)
	}
	return nil
}

// checkAnchor notices a keystore that came back from a backup.
func (s *Store) checkAnchor(ctx context.Context, e *epochRecord, roots RootContents) error {
	a := roots.Anchor
	behind := e.epoch < a.Epoch
	counters, err := s.counters(ctx)
	if err != nil {
		return err
	}
	for p, c := range a.Counters {
		behind = behind || p < len(counters) && counters[p] < c
	}
	if behind {
		return fmt.Errorf("%w: %s is at epoch %d and lacks changes made up to epoch %d: it came back from a backup; run oubli restore with it, which erases again who was erased since", ErrBehind, s.backend.Name(), e.epoch, a.Epoch)
	}
	return nil
}
