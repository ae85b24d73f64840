package rootkms

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

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
	st, err := r.destroy(ctx, "destroyed")
	if err == nil {
		err = r.undo(ctx, st)
	}
	if err == nil {
		err = r.note(ctx)
	}
	if err != nil {
		return r.Rehearsal, fmt.Errorf("%s: %w", what, err)
	}
	return r.Rehearsal, nil
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
	opens := false
	err = r.s.change(ctx, "make a scratch root", func(h *head) (bool, error) {
		if !r.w.good(h) {
			w, err := r.s.wrap(ctx, h, r.id, 0, &r.secret)
			if err != nil {
				return false, err
			}
			r.w, r.store = w, h.store
			if opens, err = r.opens(ctx); err != nil {
				return false, err
			}
		}
		e := entry{id: r.id, created: r.s.now(), key: r.w.key, scratch: true}
		r.s.kill(&e)
		h.roots = append(h.roots, e)
		return true, nil
	})
	if err == nil {
		r.step(opens, "", "key %s was made, and opens the scratch root that it wrapped", r.w.key)
	}
	return err
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

// destroy has the key destroyed, as any that is dying. That the service keeps it is a
// finding; that it keeps another's, somebody else's trouble.
func (r *rehearsal) destroy(ctx context.Context, what string) (KeyState, error) {
	err := r.s.sweep(ctx, what, func(h *head) (bool, error) { return false, nil })
	if err != nil && !errors.Is(err, errKept) {
		return KeyState{}, err
	}
	st, err := r.s.state(ctx, r.w.key)
	if err != nil {
		return st, err
	}
	opens, err := r.opens(ctx)
	if err != nil {
		return st, err
	}
	r.step(!opens, "", "%s: the wrapped root does not open any more", what)
	switch st.Fate {
	case Gone:
		r.step(true, "", "%s: the service says that the key is gone", what)
	case Dying:
		r.step(true, "it is gone on "+st.Until.UTC().Format(time.RFC3339), "%s: the service says that the key is dying", what)
	default:
		r.step(false, "see to it that this client may destroy keys", "%s: the service still has the key", what)
	}
	return st, nil
}

// undo does what an administrator could, and begins the destruction again where that took
// it back.
func (r *rehearsal) undo(ctx context.Context, before KeyState) error {
	note := text(r.s.keys.Undo(ctx, []string{r.w.key}))
	if before.Fate != Dying {
		opens, err := r.opens(ctx)
		if err != nil {
			return err
		}
		r.step(!opens, note, "after all that an administrator can undo, the wrapped root does not open")
		return nil
	}
	after, err := r.s.state(ctx, r.w.key)
	if err != nil {
		return err
	}
	if after.Fate == Dying || after.Fate == Gone {
		r.step(true, note, "an administrator can't take it back")
		return nil
	}
	r.step(true, note, "an administrator can take it back until the key is gone; then it is begun again")
	_, err = r.destroy(ctx, "destroyed again")
	return err
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
