package kmstest_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// faulty is a client of a service, right but for the faults of its world.
type faulty struct {
	rootkms.Keys
	w     *world
	until map[string]time.Time // when destruction first was to be over
}

func newFaulty(w *world) *faulty {
	return &faulty{Keys: w.Service.Keys(), w: w, until: map[string]time.Time{}}
}

func number(name string) int { n, _ := strconv.Atoi(name); return n }

func (f *faulty) ctx(ctx context.Context) context.Context {
	if f.w.deaf {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

func (f *faulty) Make(ctx context.Context, s keystore.StoreID, r keystore.RootID) (string, error) {
	name, err := f.Keys.Make(f.ctx(ctx), s, r)
	if err != nil || !f.w.sameName {
		return name, err
	}
	time.Sleep(2 * time.Millisecond) // the newest, once the others have theirs
	names := f.w.Names()
	return names[len(names)-1], nil
}

func (f *faulty) Wrap(ctx context.Context, name string, secret, ad []byte) ([]byte, error) {
	names := f.w.Names()
	if (f.w.newestKey || f.w.anyKey) && len(names) > 0 {
		name = names[len(names)-1]
	}
	if f.w.makesUnknown && !slices.Contains(names, name) {
		name, _ = f.Keys.Make(ctx, keystore.StoreID{}, keystore.RootID{})
	}
	if f.w.ignoresAD {
		ad = nil
	}
	return f.Keys.Wrap(f.ctx(ctx), name, secret, ad)
}

func (f *faulty) Unwrap(ctx context.Context, name string, wrapped, ad []byte) ([]byte, error) {
	if f.w.ignoresAD {
		ad = nil
	}
	secret, err := f.Keys.Unwrap(f.ctx(ctx), name, wrapped, ad)
	if f.w.anyKey {
		for _, n := range f.w.Names() {
			if err != nil {
				secret, err = f.Keys.Unwrap(ctx, n, wrapped, ad)
			}
		}
	}
	switch {
	case f.w.goneIsAway && errors.Is(err, keystore.ErrNotFound), f.w.awayIsGone && errors.Is(err, keystore.ErrUnavailable),
		f.w.tamperedIs && errors.Is(err, keystore.ErrTampered):
		other := map[bool]error{true: keystore.ErrUnavailable, false: keystore.ErrNotFound}[f.w.goneIsAway]
		err = fmt.Errorf("key %s: %w", name, other)
	case f.w.tellsAll && err != nil:
		err = fmt.Errorf("could not open %s: %w", hex.EncodeToString(wrapped), err)
	}
	return secret, err
}

func (f *faulty) Destroy(ctx context.Context, names []string) error {
	have := f.w.Names()
	switch {
	case f.w.hides && !f.w.away:
		for _, name := range names {
			f.w.Bar(name, true)
		}
		return ctx.Err()
	case f.w.sparesNewest && len(have) > 0:
		names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == have[len(have)-1] })
	case f.w.toTheEnd && len(names) > 0 && len(have) > 0 && number(names[0]) < number(have[0]):
		names = have
	case f.w.complains:
		for _, n := range names {
			if !slices.Contains(have, n) {
				return fmt.Errorf("key %s: %w", n, keystore.ErrNotFound)
			}
		}
	}
	return f.Keys.Destroy(f.ctx(ctx), names)
}

func (f *faulty) State(ctx context.Context, names []string) ([]rootkms.KeyState, error) {
	states, err := f.Keys.State(f.ctx(ctx), names)
	for i := range states {
		st := &states[i]
		switch {
		case f.w.hides && st.Fate == rootkms.Barred, f.w.saysGone && st.Fate != rootkms.Living:
			*st = rootkms.KeyState{Fate: rootkms.Gone}
		case f.w.saysLiving:
			*st = rootkms.KeyState{Fate: rootkms.Living}
		case f.w.keepsUntil && st.Fate == rootkms.Dying:
			if was, ok := f.until[names[i]]; ok {
				st.Until = was.Add(-time.Minute)
			}
			f.until[names[i]] = st.Until
		}
	}
	if f.w.shuffled {
		slices.SortFunc(states, func(a, b rootkms.KeyState) int { return int(a.Fate) - int(b.Fate) })
	}
	return states, err
}

func (f *faulty) Before(living, dead []string) []string {
	switch {
	case f.w.noBefore:
		return nil
	case f.w.allBefore:
		return living
	}
	return f.Keys.Before(living, dead)
}

func (f *faulty) Undo(ctx context.Context, names []string) error {
	switch {
	case f.w.noUndo && !f.w.away:
		return ctx.Err()
	case f.w.hides && !f.w.away:
		for _, name := range names {
			f.w.Bar(name, false)
		}
		return ctx.Err()
	}
	return f.Keys.Undo(f.ctx(ctx), names)
}

func (f *faulty) Check(ctx context.Context) error {
	err := f.Keys.Check(f.ctx(ctx))
	if f.w.checksNothing && errors.Is(err, keystore.ErrMismatch) {
		return nil
	}
	return err
}

func (f *faulty) Place() keystore.Place {
	p := f.Keys.Place()
	if f.w.wrongClass {
		p.Class = keystore.ClassEffaceable
	}
	return p
}
