package kmstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

func checkNames(ctx context.Context, h *harness) error {
	list, err := h.made(ctx, 3)
	if err != nil {
		return err
	}
	if err := h.destroy(ctx, list[0]); err != nil {
		return err
	}
	more, err := h.make(ctx, 2)
	if err != nil {
		return err
	}
	for _, s := range list {
		if slices.Contains(more, s.key) {
			return fmt.Errorf("the name %s was given out again", s.key)
		}
	}
	return h.opens(ctx, list[1], list[2])
}

// atOnce runs f n times at once.
func atOnce(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func checkNamesAtOnce(ctx context.Context, h *harness) error {
	names := make([]string, 8)
	err := atOnce(len(names), func(i int) error {
		got, err := h.make(ctx, 1)
		if err == nil {
			names[i] = got[0]
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	if len(slices.Compact(names)) < 8 {
		return fmt.Errorf("two who asked at once got a key of the same name: %q", names)
	}
	return nil
}

func checkWrap(ctx context.Context, h *harness) error {
	names, err := h.make(ctx, 1)
	if err != nil {
		return err
	}
	for _, n := range []int{1, 32, 64} {
		s := &sealed{key: names[0], secret: bytes.Repeat([]byte{0xa5}, n), ad: bytes.Repeat([]byte{0, 0xff}, 100)}
		if s.box, err = h.Wrap(ctx, s.key, s.secret, s.ad); err != nil {
			return fmt.Errorf("wrap %d bytes: %w", n, err)
		}
		if err := h.opens(ctx, s, s); err != nil {
			return fmt.Errorf("%d bytes: %w", n, err)
		}
	}
	return nil
}

func checkExactKey(ctx context.Context, h *harness) error {
	list, err := h.made(ctx, 3)
	if err != nil {
		return err
	}
	later, err := h.seal(ctx, list[0].key) // with newer keys there
	if err != nil {
		return err
	}
	for _, s := range []*sealed{list[0], later} {
		for _, o := range list[1:] {
			moved := *s
			moved.key = o.key
			if err := h.refuses(ctx, &moved, keystore.ErrTampered); err != nil {
				return fmt.Errorf("wrapped under %s: %w", s.key, err)
			}
		}
	}
	return first(
		func() error { return h.opens(ctx, append(list, later)...) },
		func() error { return h.destroy(ctx, list[0]) },
		func() error { return h.refuses(ctx, later, keystore.ErrNotFound) },
		func() error { return h.opens(ctx, list[1:]...) },
	)
}

func checkAD(ctx context.Context, h *harness) error {
	list, err := h.made(ctx, 1)
	if err != nil {
		return err
	}
	s := list[0]
	for _, ad := range [][]byte{nil, {}, []byte("other"), s.ad[1:], s.ad[:len(s.ad)-1], append(bytes.Clone(s.ad), 0)} {
		moved := *s
		moved.ad = ad
		if err := h.refuses(ctx, &moved, keystore.ErrTampered); err != nil {
			return fmt.Errorf("with other associated data: %w", err)
		}
	}
	return h.opens(ctx, s)
}

func checkAltered(ctx context.Context, h *harness) error {
	list, err := h.made(ctx, 1)
	if err != nil {
		return err
	}
	s := list[0]
	last := bytes.Clone(s.box)
	last[len(last)-1] ^= 1
	middle := bytes.Clone(s.box)
	middle[len(middle)/2] ^= 0x10
	for what, box := range map[string][]byte{"nothing": {}, "one byte": {1}, "cut": s.box[:len(s.box)/2], "the last bit": last, "a bit in the middle": middle,
		"bytes of no service": []byte("no such thing was ever wrapped")} {
		altered := *s
		altered.box = box
		if err := h.refuses(ctx, &altered, keystore.ErrTampered); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return h.opens(ctx, s)
}

func checkUnknown(ctx context.Context, h *harness) error {
	if h.suite.Unknown == "" {
		return nil
	}
	list, err := h.made(ctx, 1)
	if err != nil {
		return err
	}
	lost := *list[0]
	lost.key = h.suite.Unknown
	if err := h.refuses(ctx, &lost, keystore.ErrNotFound); err != nil {
		return err
	}
	if _, err := h.Wrap(ctx, lost.key, lost.secret, lost.ad); err == nil {
		return errors.New("wrap under a key that the service does not know made one")
	}
	if err := h.Destroy(ctx, []string{h.suite.Unknown}); err != nil {
		return fmt.Errorf("destroy a key that the service does not know: %w", err)
	}
	if _, err := h.fate(ctx, []string{h.suite.Unknown}, rootkms.Gone); err != nil {
		return err
	}
	return nil
}

func checkState(ctx context.Context, h *harness) error {
	if _, err := h.fate(ctx, nil, rootkms.Living); err != nil {
		return err
	}
	list, err := h.made(ctx, 3)
	if err != nil {
		return err
	}
	if _, err := h.fate(ctx, []string{list[2].key, list[0].key, list[1].key}, rootkms.Living); err != nil {
		return err
	}
	if err := h.destroy(ctx, list[0]); err != nil {
		return err
	}
	states, err := h.State(ctx, []string{list[2].key, list[0].key, list[1].key, list[0].key})
	if err != nil {
		return err
	}
	want := []rootkms.Fate{rootkms.Living, h.dead(), rootkms.Living, h.dead()}
	for i, st := range states {
		if i >= len(want) || st.Fate != want[i] {
			return fmt.Errorf("states are not those of the keys asked for, in their order: %v", states)
		}
	}
	if len(states) != len(want) {
		return fmt.Errorf("state of %d keys tells of %d", len(want), len(states))
	}
	return h.opens(ctx, list[1:]...)
}

func checkAgain(ctx context.Context, h *harness) error {
	if h.suite.Again == nil {
		return nil
	}
	k, err := h.suite.Again(h.Keys)
	if err != nil {
		return fmt.Errorf("another client: %w", err)
	}
	other := &harness{Keys: k, suite: h.suite}
	list, err := h.made(ctx, 2)
	if err != nil {
		return err
	}
	theirs, err := other.made(ctx, 1)
	if err != nil {
		return err
	}
	return first(
		func() error { return other.opens(ctx, list...) },
		func() error { return h.opens(ctx, theirs...) },
		func() error { return other.destroy(ctx, list[0]) },
		func() error { return h.refuses(ctx, list[0], keystore.ErrNotFound) },
		func() error { _, err := h.fate(ctx, []string{list[0].key}, h.dead()); return err },
		func() error { return h.opens(ctx, list[1], theirs[0]) },
	)
}

func checkCheck(ctx context.Context, h *harness) error {
	if err := h.Check(ctx); err != nil {
		return fmt.Errorf("check of a service that is set up as it must be: %w", err)
	}
	if h.suite.Miswired == nil {
		return nil
	}
	list, err := h.suite.Miswired()
	if err != nil {
		return fmt.Errorf("miswired keys: %w", err)
	}
	for i, k := range list {
		if err := k.Check(ctx); !errors.Is(err, keystore.ErrMismatch) {
			return fmt.Errorf("check of miswired keys %d: got %v, want ErrMismatch", i, err)
		}
	}
	return nil
}

func checkPlace(_ context.Context, h *harness) error {
	p := h.Place()
	switch {
	case p.URL == "":
		return errors.New("the place has no URL")
	case p != h.Place():
		return errors.New("the place changes")
	case p.Class != keystore.ClassEffaceable && p.Class != keystore.ClassScheduled:
		return fmt.Errorf("the class is %q", p.Class)
	case (p.Class == keystore.ClassScheduled) != (p.Delay > 0):
		return fmt.Errorf("the class is %s, and the delay %s", p.Class, p.Delay)
	}
	return nil
}

// each makes every call of k that goes to the service, with a key that s is under.
func each(ctx context.Context, k rootkms.Keys, s *sealed) map[string]error {
	errs := map[string]error{}
	_, errs["make"] = k.Make(ctx, keystore.StoreID{1}, keystore.RootID{2})
	_, errs["wrap"] = k.Wrap(ctx, s.key, s.secret, s.ad)
	_, errs["unwrap"] = k.Unwrap(ctx, s.key, s.box, s.ad)
	_, errs["state"] = k.State(ctx, []string{s.key})
	errs["check"] = k.Check(ctx)
	errs["undo"] = k.Undo(ctx, []string{s.key})
	errs["destroy"] = k.Destroy(ctx, []string{s.key})
	return errs
}

func checkCanceled(ctx context.Context, h *harness) error {
	list, err := h.made(ctx, 1)
	if err != nil {
		return err
	}
	dead, cancel := context.WithCancel(ctx)
	cancel()
	for call, err := range each(dead, h.Keys, list[0]) {
		if err == nil {
			return fmt.Errorf("%s with a canceled context succeeds", call)
		}
		if err := wants(list[0], err, keystore.ErrUnavailable); err != nil {
			return fmt.Errorf("%s with a canceled context: %w", call, err)
		}
	}
	return h.opens(ctx, list[0])
}

func checkAway(ctx context.Context, h *harness) error {
	if h.suite.Away == nil {
		return nil
	}
	list, err := h.made(ctx, 1)
	if err != nil {
		return err
	}
	away, err := h.suite.Away()
	if err != nil {
		return fmt.Errorf("keys of a service that is away: %w", err)
	}
	for i, k := range away {
		for call, err := range each(ctx, k, list[0]) {
			if err == nil {
				return fmt.Errorf("service %d is away, and %s succeeds", i, call)
			}
			if err := wants(list[0], err, keystore.ErrUnavailable); err != nil {
				return fmt.Errorf("service %d is away: %s: %w", i, call, err)
			}
		}
	}
	return nil
}

func checkAtOnce(ctx context.Context, h *harness) error {
	kept, err := h.made(ctx, 1)
	if err != nil {
		return err
	}
	return first(
		func() error {
			return atOnce(6, func(int) error {
				list, err := h.made(ctx, 1)
				if err != nil {
					return err
				}
				return h.opens(ctx, append(list, kept...)...)
			})
		},
		func() error { return h.opens(ctx, kept...) },
	)
}
