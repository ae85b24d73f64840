package keystore_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// scene is a small keystore with somebody in every state.
type scene struct {
	*world
	ann, bob, carl, dora, eve, fay *person // active, active, restricted to tax, erasing, erased, unknown

	crash *crasher // armed, nil if none

	first      keystore.Backend // of two processes
	firstRoots keystore.RootStore

	mortal      *hookedBackend // of another that is about to die
	mortalStore *keystore.Store
}

func newScene(t require.TestingT, grace time.Duration) *scene {
	s := &scene{world: newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), grace, 2)}
	s.add(6)
	p := s.people
	s.ann, s.bob, s.carl, s.dora, s.eve, s.fay = p[0], p[1], p[2], p[3], p[4], p[5]
	s.write([]string{"", "tax"}, p[:5]...)
	require.NoError(t, joined(s.store.Restrict(s.ctx, &keystore.RestrictOptions{Purposes: []string{"tax"}}, s.carl.sub)))
	_, err := s.store.Erase(s.ctx, keystore.Request{Subject: s.eve.sub})
	require.NoError(t, err)
	s.sync(only(s.eve))
	s.write([]string{""}, s.ann)
	_, err = s.store.RequestErasure(s.ctx, keystore.Request{Subject: s.dora.sub})
	require.NoError(t, err)
	return s
}

// destroyOnly erases people without the advance that must follow.
func (s *scene) destroyOnly(people ...*person) {
	s.roots.call = func(name string, do func() error) error {
		if name == "Add" {
			return keystore.ErrUnavailable
		}
		return do()
	}
	require.ErrorIs(s.t, erase(s, nil, people...), keystore.ErrUnavailable)
	s.roots.call = passOn
	s.sync(only(people...))
}

// only allows the loss of the keys of some.
func only(people ...*person) func(*person, uint32, string, keystore.Status) bool {
	return func(p *person, _ uint32, _ string, _ keystore.Status) bool { return slices.Contains(people, p) }
}

func state(s *scene, p *person) keystore.State {
	return s.statuses()[slices.Index(s.people, p)].State
}

func ensure(s *scene, people ...*person) error {
	_, err := s.store.Ensure(s.ctx, nil, purposes, subjects(people)...)
	return err
}

func erase(s *scene, keep []string, people ...*person) error {
	var rs []keystore.Request
	for _, p := range people {
		rs = append(rs, keystore.Request{Subject: p.sub, Keep: keep})
	}
	es, err := s.store.Erase(s.ctx, rs...)
	for _, e := range es {
		if err == nil {
			err = e.Err
		}
	}
	return err
}

// tagged says which case failed.
type tagged struct {
	t   *testing.T
	tag string
}

func (t *tagged) Errorf(format string, args ...any) {
	t.t.Helper()
	t.t.Errorf("%s: %s", t.tag, fmt.Sprintf(format, args...))
}

func (t *tagged) FailNow() { t.t.FailNow() }
