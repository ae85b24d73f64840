package kmstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// The cases about destruction. Keys are destroyed from the oldest on, where nothing else
// is said: a service that drops its oldest versions must keep what is newer.

func checkDestroy(ctx context.Context, h *harness) error {
	list, err := h.made(ctx, 4)
	if err != nil {
		return err
	}
	began := time.Now()
	return first(
		func() error { return h.destroy(ctx, list[0]) },
		func() error { return h.opens(ctx, list[1:]...) },
		func() error { return h.destroy(ctx, list[2], list[1]) },
		func() error { return h.opens(ctx, list[3]) },
		func() error {
			if h.dead() != rootkms.Dying || h.suite.Pass != nil { // the service may have a clock of its own
				return nil
			}
			states, err := h.fate(ctx, []string{list[0].key}, rootkms.Dying)
			if err == nil && states[0].Until.Before(began.Add(h.Place().Delay-time.Hour)) {
				err = fmt.Errorf("key %s is gone on %s, before the delay of %s is over", list[0].key, states[0].Until, h.Place().Delay)
			}
			return err
		},
	)
}

func checkDestroyAgain(ctx context.Context, h *harness) error {
	list, err := h.made(ctx, 3)
	if err != nil {
		return err
	}
	return first(
		func() error { return h.Destroy(ctx, nil) },
		func() error { return h.opens(ctx, list...) },
		func() error { return h.destroy(ctx, list[0]) },
		func() error { return h.destroy(ctx, list[0]) },
		func() error { return h.destroy(ctx, list[0], list[1]) },
		func() error { return h.opens(ctx, list[2]) },
	)
}

// checkForGood tries to get back what is gone.
func checkForGood(ctx context.Context, h *harness) error {
	list, err := h.made(ctx, 2)
	if err != nil {
		return err
	}
	dead, names := list[0], []string{list[0].key}
	if err := h.destroy(ctx, dead); err != nil {
		return err
	}
	if h.dead() == rootkms.Dying {
		if h.suite.Pass == nil {
			return nil
		}
		h.suite.Pass(h.Keys, h.Place().Delay+time.Minute)
		if _, err := h.fate(ctx, names, rootkms.Gone); err != nil {
			return fmt.Errorf("when the delay is over: %w", err)
		}
	}
	if err := h.Undo(ctx, names); err == nil {
		return fmt.Errorf("key %s is gone, and undo says that it could take that back", dead.key)
	}
	return first(
		func() error { return h.refuses(ctx, dead, keystore.ErrNotFound) },
		func() error { _, err := h.fate(ctx, names, rootkms.Gone); return err },
		func() error { return h.opens(ctx, list[1]) },
	)
}

func checkBefore(ctx context.Context, h *harness) error {
	names, err := h.make(ctx, 4)
	if err != nil {
		return err
	}
	living, dead := []string{names[3], names[0], names[2]}, []string{names[1]}
	l, d := slices.Clone(living), slices.Clone(dead)
	inWay := h.Before(living, dead)
	if !slices.Equal(l, living) || !slices.Equal(d, dead) {
		return errors.New("before changed what it was given")
	}
	for _, name := range inWay {
		if !slices.Contains(living, name) {
			return fmt.Errorf("before says that %s must be given up, which is not among the living", name)
		}
		if name != names[0] {
			return fmt.Errorf("before says that %s, which is newer, must be given up to destroy %s", name, names[1])
		}
	}
	if len(inWay) > 0 && h.Place().Versions == "" {
		return errors.New("before says that a living key must be given up, and Place names no Versions: a move could destroy the keys of another root store")
	}
	if list := h.Before(living, nil); len(list) > 0 {
		return fmt.Errorf("before says that %q must be given up to destroy nothing", list)
	}
	if list := h.Before(nil, dead); len(list) > 0 {
		return fmt.Errorf("before says that %q must be given up, and nothing lives", list)
	}
	return nil
}

// checkDestroyNewest destroys the newest key; what Before names goes with it, nothing else.
func checkDestroyNewest(ctx context.Context, h *harness) error {
	list, err := h.made(ctx, 3)
	if err != nil {
		return err
	}
	inWay := h.Before([]string{list[0].key, list[1].key}, []string{list[2].key})
	if err := h.destroy(ctx, list[2]); err != nil {
		return err
	}
	for _, s := range list[:2] {
		if !slices.Contains(inWay, s.key) {
			if err := h.opens(ctx, s); err != nil {
				return fmt.Errorf("before did not say that %s is in the way, and it went with %s: %w", s.key, list[2].key, err)
			}
		}
	}
	return nil
}

// checkMadeAfter destroys again what was destroyed: that must not reach newer keys.
func checkMadeAfter(ctx context.Context, h *harness) error {
	list, err := h.made(ctx, 2)
	if err != nil {
		return err
	}
	if err := h.destroy(ctx, list...); err != nil {
		return err
	}
	after, err := h.made(ctx, 2)
	if err != nil {
		return err
	}
	if inWay := h.Before([]string{after[0].key, after[1].key}, []string{list[0].key, list[1].key}); len(inWay) > 0 {
		return fmt.Errorf("before says that %q, made later, must be given up", inWay)
	}
	return first(
		func() error { return h.destroy(ctx, list...) },
		func() error { return h.opens(ctx, after...) },
	)
}

// checkTakenBack is about keys that are dying: an administrator stops that, and it begins
// anew.
func checkTakenBack(ctx context.Context, h *harness) error {
	if h.dead() != rootkms.Dying {
		return nil
	}
	list, err := h.made(ctx, 1)
	if err != nil {
		return err
	}
	names := []string{list[0].key}
	if err := h.destroy(ctx, list[0]); err != nil {
		return err
	}
	before, err := h.fate(ctx, names, rootkms.Dying)
	if err != nil {
		return err
	}
	if h.suite.Pass != nil {
		h.suite.Pass(h.Keys, h.Place().Delay/2)
	}
	if err := h.Undo(ctx, names); err != nil {
		return fmt.Errorf("key %s is dying, and undo fails: %w", names[0], err)
	}
	if _, err := h.fate(ctx, names, rootkms.Living, rootkms.Barred); err != nil {
		return fmt.Errorf("taken back: %w", err)
	}
	if err := h.destroy(ctx, list[0]); err != nil {
		return fmt.Errorf("begun anew: %w", err)
	}
	after, err := h.fate(ctx, names, rootkms.Dying)
	if err != nil {
		return err
	}
	if after[0].Until.Before(before[0].Until) {
		return fmt.Errorf("begun anew, the key is gone on %s, before %s", after[0].Until, before[0].Until)
	}
	return nil
}

func checkDisabled(ctx context.Context, h *harness) error {
	if h.suite.Disable == nil {
		return nil
	}
	list, err := h.made(ctx, 2)
	if err != nil {
		return err
	}
	if err := h.suite.Disable(h.Keys, list[0].key); err != nil {
		return fmt.Errorf("disable key %s: %w", list[0].key, err)
	}
	return first(
		func() error { return h.refuses(ctx, list[0], keystore.ErrNotFound) },
		func() error { _, err := h.fate(ctx, []string{list[0].key}, rootkms.Barred); return err },
		func() error { return h.opens(ctx, list[1]) },
		func() error { return h.destroy(ctx, list[0]) },
		func() error { return h.opens(ctx, list[1]) },
	)
}
