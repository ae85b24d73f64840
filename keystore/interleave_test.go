package keystore_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/keystore"
)

// Two processes share a keystore. The first stands still before one of its calls to the
// backend or the root store; the second does all of its work; the first goes on. This
// for each call that the first makes, and for work that takes the second through several
// epochs, so that the first wakes up long after it was given up.

type work struct {
	name string
	run  func(s *scene, store *keystore.Store) error
	lose []int // the people whose keys it destroys

	parts []func(s *scene, store *keystore.Store) error // of the second: one before each of the next calls
}

func eraseIn(s *scene, store *keystore.Store, people ...*person) error {
	var rs []keystore.Request
	for _, p := range people {
		rs = append(rs, keystore.Request{Subject: p.sub})
	}
	es, err := store.Erase(s.ctx, rs...)
	for _, e := range es {
		if err == nil {
			err = e.Err
		}
	}
	return err
}

func firsts() []work {
	return []work{
		{"erase", func(s *scene, store *keystore.Store) error { return eraseIn(s, store, s.ann) }, []int{0}, nil},
		{"withdraw", func(s *scene, store *keystore.Store) error {
			_, err := store.Withdraw(s.ctx, s.ann.sub, purposes...)
			return err
		}, []int{0}, nil},
		{"create", func(s *scene, store *keystore.Store) error {
			_, err := store.Ensure(s.ctx, nil, purposes, s.fay.sub)
			return err
		}, nil, nil},
		{"ensure", func(s *scene, store *keystore.Store) error {
			_, err := store.Ensure(s.ctx, nil, purposes, s.ann.sub, s.fay.sub)
			return err
		}, nil, nil},
		{"rotate", func(s *scene, store *keystore.Store) error {
			_, err := store.Rotate(s.ctx, s.ann.sub, s.carl.sub)
			return err
		}, nil, nil},
		{"advance", func(s *scene, store *keystore.Store) error { return store.Advance(s.ctx) }, nil, nil},
		{"open", func(s *scene, store *keystore.Store) error {
			_, err := keystore.Open(s.ctx, s.first, s.firstRoots, s.options())
			return err
		}, nil, nil},
		{"read", func(s *scene, store *keystore.Store) error {
			for _, p := range []*person{s.ann, s.carl, s.eve} {
				if _, err := store.Status(s.ctx, p.sub); err != nil {
					return err
				}
			}
			_, err := store.Lookup(s.ctx, nil, subjects(s.people)...)
			return err
		}, nil, nil},
	}
}

func seconds() []work {
	return []work{
		{"erases one", func(s *scene, store *keystore.Store) error { return eraseIn(s, store, s.bob) }, []int{1}, nil},
		{"erases another before each of three calls, the first", nil, []int{1, 2, 3}, []func(s *scene, store *keystore.Store) error{
			func(s *scene, store *keystore.Store) error { return eraseIn(s, store, s.bob) },
			func(s *scene, store *keystore.Store) error { return eraseIn(s, store, s.dora) },
			func(s *scene, store *keystore.Store) error { return eraseIn(s, store, s.carl) },
		}},
		{"erases three, one after the other", func(s *scene, store *keystore.Store) error {
			for _, p := range []*person{s.bob, s.dora, s.carl} {
				if err := eraseIn(s, store, p); err != nil {
					return err
				}
			}
			return nil
		}, []int{1, 2, 3}, nil},
		{"ensures", func(s *scene, store *keystore.Store) error {
			_, err := store.Ensure(s.ctx, nil, purposes, subjects(s.people)...)
			return err
		}, nil, nil},
		{"rotates", func(s *scene, store *keystore.Store) error {
			_, err := store.Rotate(s.ctx, s.ann.sub, s.bob.sub, s.carl.sub)
			return err
		}, nil, nil},
		{"destroys keys of one and dies,", func(s *scene, _ *keystore.Store) error {
			committed := false
			s.mortal.call = func(name string, do func() error) error {
				if committed {
					return fault.ErrDead
				}
				committed = name == "Commit"
				return do()
			}
			if err := eraseIn(s, s.mortalStore, s.carl); !errors.Is(err, fault.ErrDead) {
				return fmt.Errorf("it did not die: %w", err)
			}
			return nil
		}, []int{2}, nil},
		{"advances", func(s *scene, store *keystore.Store) error { return store.Advance(s.ctx) }, nil, nil},
	}
}

func TestTwoProcesses(t *testing.T) {
	for _, first := range firsts() {
		t.Run(first.name, func(t *testing.T) {
			for _, second := range seconds() {
				for _, grace := range graces {
					if grace > 0 && second.lose == nil {
						continue // the roots live longer; it is to those who erase that this matters
					}
					for call := 1; interleave(t, first, second, grace, call); call++ {
					}
				}
			}
		})
	}
}

// interleave tells whether the first made that many calls.
func interleave(t *testing.T, first, second work, grace time.Duration, call int) bool {
	tag := &tagged{t, fmt.Sprintf("grace %s, another %s before call %d", grace, second.name, call)}
	s := newScene(tag, grace)
	if first.name == "advance" || second.name == "advances" {
		s.destroyOnly(s.dora)
	}
	parts := second.parts
	if second.run != nil {
		parts = append(parts, second.run)
	}
	calls, met := 0, 0
	step := func(name string, do func() error) error {
		calls++
		if calls == call {
			tag.tag += ", a " + name
		}
		if i := calls - call; i >= 0 && i < len(parts) {
			met++
			require.NoError(tag, parts[i](s, s.store))
		}
		return do()
	}
	s.mortal = &hookedBackend{inner: s.backend, call: passOn}
	var err error
	s.mortalStore, err = keystore.Open(s.ctx, s.mortal, s.roots, s.options())
	require.NoError(tag, err)
	backend := &hookedBackend{inner: s.backend, call: passOn}
	roots := &hookedRoots{inner: s.roots, call: passOn, learn: func(keystore.Root) {}}
	store, err := keystore.Open(s.ctx, backend, roots, s.options())
	require.NoError(tag, err)
	store.SetMoveBudget(2)
	backend.call, roots.call = step, step
	s.first, s.firstRoots = backend, roots
	require.NoError(tag, first.run(s, store))
	s.open() // a third process
	s.sync(func(p *person, _ uint32, _ string, _ keystore.Status) bool {
		i := slices.Index(s.people, p)
		return slices.Contains(first.lose, i) || met > 0 && slices.Contains(second.lose, i)
	})
	s.check()
	for _, i := range first.lose {
		require.Empty(tag, s.people[i].live)
	}
	s.finalize()
	// The root of an advance that lost is superseded by the next that begins.
	s.write(purposes, s.fay)
	require.NoError(tag, eraseIn(s, s.store, s.fay))
	s.sync(only(s.fay))
	s.settle()
	return met > 0
}
