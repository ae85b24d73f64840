package rootkms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oubli/oubli/keystore"
)

// A key that wraps a living root must never be destroyed, and a service that only drops
// its oldest versions destroys with one whatever is older. So, before the service is
// asked to destroy anything:
//
//   - roots that are dying are so durably, and their wrapped bytes are out of the head;
//   - living roots whose keys stand in the way are wrapped by fresh keys, durably;
//   - the head's count of sweeps was raised by a compare-and-swap on a head in which both
//     held. Who made a key before, and has not written it to the head, fails its own
//     compare-and-swap, sees the count, and makes another.
//
// A key in the head is therefore either dying, or newer than all that are. What then
// happens, how late and how often, destroys nothing living.

// Destroy implements [keystore.RootStore]. It goes on with whatever is dying, whoever
// asked for it.
func (s *Store) Destroy(ctx context.Context, ids []keystore.RootID) error {
	return s.sweep(ctx, "destroy roots", func(h *head) (bool, error) {
		if h.phase == removing {
			return false, fmt.Errorf("%w: %s was given up and is being removed", keystore.ErrMismatch, s.Place().URL)
		}
		changed := false
		for _, id := range ids {
			e := h.root(id)
			switch {
			case e == nil:
				changed = h.remember(id) || changed
			case !e.dying:
				s.kill(e)
				changed = true
			}
		}
		return changed, nil
	})
}

// kill makes a living root a dying one.
func (s *Store) kill(e *entry) {
	e.dying, e.wrapped, e.asked = true, nil, s.now()
	e.until = e.asked.Add(s.Place().Delay)
}

// sweep has the keys destroyed of what is dying once mark has changed the head.
func (s *Store) sweep(ctx context.Context, what string, mark func(h *head) (changed bool, err error)) error {
	var old []string // keys that an earlier sweep was about
	var h *head
	fresh := map[keystore.RootID]*wrapped{}
	err := retry(ctx, what, func() (err error) {
		if h, err = s.head(ctx); err != nil {
			return err
		}
		changed, err := mark(h)
		if err != nil {
			return err
		}
		inWay := s.keys.Before(h.livingKeys(), h.deadKeys())
		if len(inWay) > 0 && changed { // what dies is dying before anything that may fail
			if err := s.put(ctx, h); err != nil {
				return err
			}
			changed = false
		}
		old = h.doomedKeys()
		rewrapped, err := s.rewrap(ctx, h, inWay, fresh)
		if err != nil {
			return err
		}
		if rewrapped || h.spared() {
			h.doom()
			changed = true
		}
		if !changed {
			return nil
		}
		return s.put(ctx, h)
	})
	if err != nil {
		return err
	}
	dead := h.deadKeys()
	if len(dead) == 0 {
		return nil
	}
	states := make(map[string]KeyState, len(dead))
	// What an earlier sweep was about is asked for first: what is gone or dying is left
	// alone. What was and is not any more is noted before it is destroyed anew, so that the
	// time for which copies are kept begins anew as well.
	if err := s.ask(ctx, h.withLatest(old), states); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := s.recognize(ctx, h, states); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	todo := slices.DeleteFunc(dead, func(name string) bool {
		st, ok := states[name]
		return ok && (st.Fate == Gone || st.Fate == Dying)
	})
	if slices.ContainsFunc(todo, func(name string) bool { return slices.Contains(old, name) }) {
		if err := s.confirm(ctx, states); err != nil && !errors.Is(err, errKept) {
			return err
		}
	}
	if len(todo) > 0 {
		err = s.keys.Destroy(ctx, todo)
		if askErr := s.ask(ctx, h.withLatest(todo), states); askErr != nil { // it may have done a part
			return fmt.Errorf("%s: %w", what, errors.Join(err, askErr))
		}
		if err := s.recognize(ctx, h, states); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	if noted := s.confirm(ctx, states); err == nil || !errors.Is(noted, errKept) { // that it has them follows
		err = errors.Join(err, noted)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// recognize refuses to believe that keys are gone where all keys of living roots are gone as
// well: that is another service, or one that lost everything and may be given it back. The
// latest of these keys was asked for together with the others; the rest is if that is gone.
func (s *Store) recognize(ctx context.Context, h *head, states map[string]KeyState) error {
	living := h.livingKeys()
	defer func() {
		for _, name := range living { // it may be dying by now, and what was true of it is not
			delete(states, name)
		}
	}()
	lives := func(name string) bool { st, ok := states[name]; return ok && st.Fate != Gone }
	if len(living) == 0 || len(states) == 0 || slices.ContainsFunc(living, lives) {
		return nil
	}
	if err := s.ask(ctx, living, states); err != nil || slices.ContainsFunc(living, lives) {
		return err
	}
	return fmt.Errorf("%w: this is another service, or one that has lost everything: it has none of the keys of living roots; that it has not those of dying ones counts for nothing", keystore.ErrUnavailable)
}

// withLatest adds the key of the latest living root to names, unless there are none.
func (h *head) withLatest(names []string) []string {
	if living := h.livingKeys(); len(names) > 0 && len(living) > 0 {
		return append(slices.Clip(names), living[len(living)-1])
	}
	return names
}

// ask adds to states what became of keys.
func (s *Store) ask(ctx context.Context, names []string, states map[string]KeyState) error {
	if len(names) == 0 {
		return nil
	}
	got, err := s.keys.State(ctx, names)
	if err == nil && len(got) != len(names) {
		err = fmt.Errorf("%w: the service told of %d keys, not of %d", keystore.ErrUnavailable, len(got), len(names))
	}
	if err != nil {
		return err
	}
	for i := range got {
		states[names[i]] = got[i]
	}
	return nil
}

// state tells what became of a key.
func (s *Store) state(ctx context.Context, name string) (KeyState, error) {
	states := map[string]KeyState{}
	err := s.ask(ctx, []string{name}, states)
	return states[name], err
}

// rewrap wraps the living roots whose keys are in the way by fresh ones. A key that was
// made in an earlier try may be older than what is dying by now.
func (s *Store) rewrap(ctx context.Context, h *head, inWay []string, fresh map[keystore.RootID]*wrapped) (changed bool, err error) {
	dead := h.deadKeys()
	var lost []string
	for i := range h.roots {
		e := &h.roots[i]
		if e.dying || !slices.Contains(inWay, e.key) {
			continue
		}
		w := fresh[e.id]
		if !w.good(h) || len(s.keys.Before([]string{w.key}, dead)) > 0 {
			if w, err = s.wrapAgain(ctx, h, e); err != nil {
				return false, err
			}
			fresh[e.id] = w
		}
		if w == nil {
			lost = append(lost, e.key)
			continue
		}
		e.former = append(slices.Clone(e.former), e.key)
		e.key, e.wrapped = w.key, w.blob
		changed = true
	}
	for _, name := range s.keys.Before(h.livingKeys(), h.deadKeys()) {
		if !slices.Contains(lost, name) {
			return false, fmt.Errorf("%w: key %s was made last, and the service says that it is in the way of older ones; nothing was destroyed", keystore.ErrUnavailable, name)
		}
	}
	return changed, nil
}

// wrapAgain wraps a living root by a fresh key; nil if its own is lost.
func (s *Store) wrapAgain(ctx context.Context, h *head, e *entry) (*wrapped, error) {
	secret, err := s.unwrap(ctx, h, e)
	if errors.Is(err, keystore.ErrNotFound) {
		if st, stateErr := s.state(ctx, e.key); stateErr == nil && st.Fate == Gone {
			return nil, nil
		}
	}
	if err != nil && s.moved(ctx, h) {
		return nil, fmt.Errorf("%w: another wrapped root %s anew meanwhile", keystore.ErrConflict, e.id)
	}
	if err != nil {
		return nil, fmt.Errorf("a living root stands in the way: %w", s.explain(ctx, h, e, err))
	}
	defer clear(secret[:])
	return s.wrap(ctx, h, e.id, e.epoch, &secret)
}

// errKept: the service did not destroy what it was asked to.
var errKept = fmt.Errorf("%w: the service was asked to destroy keys and did not", keystore.ErrUnavailable)

// confirm notes in the head what became of the keys. What is gone, with all copies of it,
// counts as destroyed.
func (s *Store) confirm(ctx context.Context, states map[string]KeyState) error {
	var kept []string
	err := retry(ctx, "note what became of the keys", func() error {
		h, err := s.head(ctx)
		if err != nil {
			return err
		}
		kept = nil
		changed := false
		now := s.now()
		var left []entry
		for _, e := range h.roots {
			was := e
			not, told := s.settle(&e, states)
			kept = append(kept, not...)
			changed = changed || !e.gone.Equal(was.gone) || !e.until.Equal(was.until) || len(e.former) < len(was.former)
			if !told || e.gone.IsZero() || e.until.After(now) {
				left = append(left, e)
				continue
			}
			if changed = true; !e.scratch {
				h.remember(e.id)
			}
		}
		if h.roots = left; !changed {
			return nil
		}
		return s.put(ctx, h)
	})
	if err == nil && len(kept) > 0 {
		err = fmt.Errorf("%w: %s: see to it that it may", errKept, strings.Join(kept, ", "))
	}
	return err
}

// settle takes over what became of an entry's keys. It returns those that should be dead
// and are not, and whether it was told of all.
func (s *Store) settle(e *entry, states map[string]KeyState) (kept []string, told bool) {
	all, until := true, time.Time{}
	told = true
	var former []string
	for _, name := range e.names() {
		st, ok := states[name]
		if name == e.key && !e.dying || ok && st.Fate == Gone {
			continue
		}
		if name != e.key {
			former = append(former, name)
		}
		switch {
		case !ok: // somebody else asks about it
			told = false
		case st.Fate == Dying:
			all = false
			if u := st.Until.UTC().Add(time.Second - 1).Truncate(time.Second).Add(s.copies); u.After(until) {
				until = u
			}
		default:
			all, until = false, s.now().Add(s.Place().Delay)
			kept = append(kept, fmt.Sprintf("key %s of root %s of epoch %d is %s", name, e.id, e.epoch, map[Fate]string{Living: "living", Barred: "disabled"}[st.Fate]))
		}
	}
	e.former = former
	switch {
	case !e.dying || all && !told:
	case !all: // also if it was gone before: it came back with a copy of the service
		e.gone, e.until = time.Time{}, until
	case e.gone.IsZero():
		e.gone = s.now()
		if until := e.gone.Add(s.copies); until.After(e.until) {
			e.until = until // never sooner: who asked for it may know of copies that are kept longer
		}
	}
	return kept, told
}

// Remove implements [keystore.RootStore]. The documents go when all keys are gone, and the
// copies of them.
func (s *Store) Remove(ctx context.Context) error {
	const what = "remove the root store"
	if there, err := s.giveUp(ctx, what); err != nil || !there {
		return err
	}
	if err := s.sweep(ctx, what, func(h *head) (bool, error) { return false, nil }); err != nil {
		return err
	}
	h, err := s.head(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var until time.Time
	// What the key of a scratch root wrapped stands in no document, old or new: of that no
	// copies are waited for.
	waiting := slices.DeleteFunc(slices.Clone(h.roots), func(e entry) bool { return e.scratch && !e.gone.IsZero() })
	for i := range waiting {
		if u := waiting[i].until; u.After(until) {
			until = u
		}
	}
	if len(waiting) > 0 {
		return fmt.Errorf("%s: %w: the keys of %d roots at %s are gone on %s; until then it can't be said that the roots are; call again then", what, keystore.ErrUnavailable,
			len(waiting), s.Place().URL, until.Format(time.RFC3339))
	}
	for n := h.firstPage; n < h.nextPage; n++ {
		if err := s.dropPage(ctx, n); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	if err := s.shelf.Delete(ctx, headName, h.rev); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// giveUp makes everything dying, for good, and tells whether there is anything.
func (s *Store) giveUp(ctx context.Context, what string) (there bool, err error) {
	err = retry(ctx, what, func() error {
		h, err := s.readHead(ctx)
		there = h != nil
		if err != nil || !there || h.phase == removing {
			return err
		}
		h.phase = removing
		for i := range h.roots {
			if e := &h.roots[i]; !e.dying {
				s.kill(e)
			}
		}
		return s.put(ctx, h)
	})
	return there, err
}
