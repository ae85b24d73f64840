package rootkms

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/oubli/oubli/keystore"
)

// Rehearse implements [keystore.Rehearser]: a key is made and wraps a scratch root; both are
// destroyed just as a superseded root is; then the wrapped root, which whoever keeps old
// copies of the shelf has, must not open, also after the destruction was taken back as far
// as the service lets an administrator. Beside a living keystore it costs what destroying a
// root costs; nobody sees the scratch root but the service.
func (s *Store) Rehearse(ctx context.Context) (keystore.Rehearsal, error) {
	const what = "rehearse"
	r := &rehearsal{s: s}
	if err := r.scratch(ctx); err != nil {
		return r.Rehearsal, fmt.Errorf("%s: %w", what, err)
	}
	if err := r.destroy(ctx); err != nil {
		return r.Rehearsal, fmt.Errorf("%s: %w", what, err)
	}
	return r.Rehearsal, r.undo(ctx)
}

type rehearsal struct {
	keystore.Rehearsal
	s      *Store
	id     keystore.RootID
	store  keystore.StoreID
	secret keystore.Secret
	w      *wrapped
}

func (r *rehearsal) step(ok bool, note, format string, a ...any) {
	r.Steps = append(r.Steps, keystore.RehearsalStep{What: fmt.Sprintf(format, a...), OK: ok, Note: note})
}

// scratch makes the scratch root, and notes it as dying at once: should this process end
// here, the next sweep takes its key away.
func (r *rehearsal) scratch(ctx context.Context) error {
	rand.Read(r.id[:])
	rand.Read(r.secret[:])
	err := r.s.keys.Check(ctx)
	if err != nil && !errors.Is(err, keystore.ErrMismatch) {
		return err
	}
	r.step(err == nil, text(err), "the service is set up so that destroying a key destroys it")
	return r.s.change(ctx, "make a scratch root", func(h *head) (bool, error) {
		if !r.w.good(h) {
			w, err := r.s.wrap(ctx, h, r.id, 0, &r.secret)
			if err != nil {
				return false, err
			}
			if h.uses(w.key) {
				return false, fmt.Errorf("%w: key %s serves another root", keystore.ErrConflict, w.key)
			}
			r.w, r.store = w, h.store
			opens, err := r.opens(ctx)
			if err != nil {
				return false, err
			}
			r.step(opens, "", "key %s was made, and opens the scratch root that it wrapped", w.key)
		}
		e := entry{id: r.id, created: r.s.now(), key: r.w.key, scratch: true}
		r.s.kill(&e)
		h.roots = append(h.roots, e)
		return true, nil
	})
}

// opens tells whether the wrapped scratch root can be opened.
func (r *rehearsal) opens(ctx context.Context) (bool, error) {
	b, err := r.s.keys.Unwrap(ctx, r.w.key, r.w.blob, rootAD(r.store, r.id, 0, r.w.key))
	switch {
	case err == nil:
		defer clear(b)
		return string(b) == string(r.secret[:]), nil
	case errors.Is(err, keystore.ErrNotFound), errors.Is(err, keystore.ErrTampered):
		return false, nil
	}
	return false, err
}

func (r *rehearsal) destroy(ctx context.Context) error {
	if err := r.s.sweep(ctx, "destroy the scratch root", func(h *head) (bool, error) { return false, nil }); err != nil {
		return err
	}
	opens, err := r.opens(ctx)
	if err != nil {
		return err
	}
	r.step(!opens, "", "destroyed, the wrapped root does not open any more")
	return nil
}

func (r *rehearsal) state(ctx context.Context) (KeyState, error) {
	states, err := r.s.keys.State(ctx, []string{r.w.key})
	if err != nil {
		return KeyState{}, err
	}
	return states[0], nil
}

func (r *rehearsal) undo(ctx context.Context) error {
	before, err := r.state(ctx)
	if err != nil {
		return err
	}
	note := text(r.s.keys.Undo(ctx, []string{r.w.key}))
	opens, err := r.opens(ctx)
	if err != nil {
		return err
	}
	if before.Fate == Gone {
		r.step(!opens, note, "what an administrator could undo does not bring it back")
		return r.note(ctx)
	}
	after, err := r.state(ctx)
	if err != nil {
		return err
	}
	r.step(before.Fate == Dying, note, "the service has begun to destroy the key, and somebody who runs it can stop it until it is over")
	if after.Fate != Dying && after.Fate != Gone {
		if err := r.s.sweep(ctx, "begin the destruction again", func(h *head) (bool, error) { return false, nil }); err != nil {
			return err
		}
		if opens, err = r.opens(ctx); err != nil {
			return err
		}
		r.step(!opens, "", "stopped and begun again, the wrapped root does not open")
	}
	return r.note(ctx)
}

// note says when the scratch root is gone, if that lies ahead.
func (r *rehearsal) note(ctx context.Context) error {
	h, err := r.s.head(ctx)
	if err != nil {
		return err
	}
	if e := h.root(r.id); e != nil {
		r.Until = e.until
	}
	return nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
