package rootkms_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// tombs makes n tombstones of about size bytes.
func tombs(n, size int) (list []keystore.Tombstone) {
	for i := range n {
		sub, err := keystore.NewSubject("customer", fmt.Sprint(i+1))
		if err != nil {
			panic(err)
		}
		t := keystore.Tombstone{Event: keystore.EventID{1, byte(i >> 16), byte(i >> 8), byte(i)}, Subject: sub, Page: uint8(i % 32), Counter: uint64(i + 1),
			At: time.Unix(1_780_000_000, int64(i)).UTC(), Erased: i%2 == 0, Keys: []uint32{uint32(i), 1<<32 - 1}}
		if !t.Erased {
			t.Keep, t.Gone = []string{"tax"}, []string{"ads", "news"}
		}
		for range (size - 60) / 6 {
			t.Keys = append(t.Keys, 1<<31+uint32(i))
		}
		list = append(list, t)
	}
	return list
}

// Every call to the service and the shelf fails, once before and once after it had its
// effect, and with it the process. Another one goes on: nothing living is lost, nothing
// destroyed comes back, and what was to be done is done.
func TestCrashes(t *testing.T) {
	ts := tombs(300, 240)
	old := func(t keystore.Tombstone) bool { return t.Counter <= 200 }
	for name, c := range map[string]struct {
		any  bool // it asks nothing of the service, so that one kind stands for all
		do   func(w *world, s *rootkms.Store) error
		dies func(w *world) []keystore.Root
		done func(w *world, s *rootkms.Store)
	}{
		"add": {
			do: func(w *world, s *rootkms.Store) error { return s.Add(w.ctx, w.root()) },
			done: func(w *world, s *rootkms.Store) {
				w.lives(w.roots[len(w.roots)-1])
			},
		},
		"destroy the oldest": {
			do: func(w *world, s *rootkms.Store) error {
				return s.Destroy(w.ctx, []keystore.RootID{w.roots[0].ID})
			},
			dies: func(w *world) []keystore.Root { return w.roots[:1] },
		},
		"destroy the newest": {
			do: func(w *world, s *rootkms.Store) error {
				return s.Destroy(w.ctx, []keystore.RootID{w.roots[2].ID})
			},
			dies: func(w *world) []keystore.Root { return w.roots[2:3] },
		},
		"raise": {
			any: true,
			do: func(w *world, s *rootkms.Store) error {
				return s.Raise(w.ctx, keystore.Anchor{Epoch: 3, Counters: []uint64{9, 9}}, ts)
			},
			done: func(w *world, s *rootkms.Store) {
				c, err := s.Load(w.ctx)
				require.NoError(w.t, err)
				require.Equal(w.t, ts, c.Tombstones)
				require.Equal(w.t, keystore.Anchor{Epoch: 3, Counters: []uint64{9, 9}}, c.Anchor)
			},
		},
		"trim": {
			any: true,
			do: func(w *world, s *rootkms.Store) error {
				return errors.Join(s.Raise(w.ctx, keystore.Anchor{}, ts), s.Trim(w.ctx, old))
			},
			done: func(w *world, s *rootkms.Store) {
				c, err := s.Load(w.ctx)
				require.NoError(w.t, err)
				require.Equal(w.t, slices.DeleteFunc(slices.Clone(ts), old), c.Tombstones)
			},
		},
		"rehearse": {
			do: func(w *world, s *rootkms.Store) error {
				r, err := s.Rehearse(w.ctx)
				if err == nil && slices.ContainsFunc(r.Steps, func(s keystore.RehearsalStep) bool { return !s.OK }) {
					err = fmt.Errorf("not as it must be: %v", r.Steps)
				}
				return err
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, kind kmstest.Kind) {
				for n, ended := 0, c.any && kind != kmstest.Trimmed; !ended; n++ {
					for _, unanswered := range []bool{false, true} {
						w := newWorld(t, t.Context(), kind)
						healthy := w.create(3)
						var dying []keystore.Root
						if c.dies != nil {
							dying = c.dies(w)
						}
						living := slices.DeleteFunc(slices.Clone(w.roots), func(r keystore.Root) bool { return slices.Contains(dying, r) })
						f := &failing{n: n, unanswered: unanswered}
						err := c.do(w, w.open(f.call, 0))
						if ended = !f.dead; ended {
							require.NoError(t, err)
						} else {
							require.ErrorIs(t, err, keystore.ErrUnavailable, "call %d, %s", n, f.calls[n])
						}
						w.lives(living...)
						require.NoError(t, c.do(w, healthy), "call %d, %s", n, f.calls[min(n, len(f.calls)-1)])
						w.pass(delay)
						require.NoError(t, healthy.Destroy(t.Context(), nil))
						w.lives(living...)
						w.dead(dying...)
						if c.done != nil {
							c.done(w, healthy)
						}
						require.NoError(t, remove(w, healthy))
						require.Empty(t, w.reached(w.svc))
					}
				}
			})
		})
	}
}

// remove removes a root store, as long as it takes.
func remove(w *world, s *rootkms.Store) error {
	err := s.Remove(w.ctx)
	if errors.Is(err, keystore.ErrUnavailable) {
		w.pass(delay)
		err = s.Remove(w.ctx)
	}
	return err
}

func TestCrashesOfCreate(t *testing.T) {
	eachKind(t, func(t *testing.T, kind kmstest.Kind) {
		for n, ended := 0, false; !ended; n++ {
			for _, unanswered := range []bool{false, true} {
				w := newWorld(t, t.Context(), kind)
				c := keystore.RootContents{Store: w.store, Living: []keystore.Root{w.root(), w.root()}, Tombstones: tombs(300, 240)}
				f := &failing{n: n, unanswered: unanswered}
				err := w.open(f.call, 0).Create(t.Context(), c)
				healthy := w.open(passOn, 0)
				if ended = !f.dead; ended {
					require.NoError(t, err)
					require.ErrorIs(t, healthy.Create(t.Context(), c), keystore.ErrExists)
					w.lives(w.roots...)
					continue
				}
				require.Error(t, err)
				require.NoError(t, remove(w, healthy), "what a crash left can be removed")
				_, err = healthy.Load(t.Context())
				require.ErrorIs(t, err, keystore.ErrNotFound)
				require.Empty(t, w.reached(w.svc))
				require.NoError(t, healthy.Create(t.Context(), c))
				w.lives(w.roots...)
			}
		}
	})
}

// One call fails, or has no answer, and the service is back at once: Create succeeds or
// takes away what it wrote.
func TestCreateTakesAwayWhatItWrote(t *testing.T) {
	eachKind(t, func(t *testing.T, kind kmstest.Kind) {
		for n, ended := 0, false; !ended; n++ {
			for _, unanswered := range []bool{false, true} {
				w := newWorld(t, t.Context(), kind)
				c := keystore.RootContents{Store: w.store, Living: []keystore.Root{w.root(), w.root()}, Tombstones: tombs(300, 240)}
				f := &failing{n: n, unanswered: unanswered}
				err := w.open(func(name string, do func() error) error {
					err := f.call(name, do)
					if f.dead {
						f.dead, f.n = false, 1000
					}
					return err
				}, 0).Create(t.Context(), c)
				ended = f.n < 1000
				again := w.open(passOn, 0).Create(t.Context(), c)
				if err == nil {
					require.ErrorIs(t, again, keystore.ErrExists)
				} else {
					require.NoError(t, again, "after %d calls, %s: %v", n, f.calls[n], err)
				}
				w.lives(w.roots...)
			}
		}
	})
}

// Remove is stopped at every call, also after half of it is gone.
func TestCrashesOfRemove(t *testing.T) {
	eachKind(t, func(t *testing.T, kind kmstest.Kind) {
		for _, later := range []bool{false, true} {
			for n, ended := 0, false; !ended; n++ {
				for _, unanswered := range []bool{false, true} {
					w := newWorld(t, t.Context(), kind)
					healthy := w.create(2)
					require.NoError(t, healthy.Raise(t.Context(), keystore.Anchor{}, tombs(300, 240)))
					if later {
						_ = healthy.Remove(t.Context())
						w.pass(delay)
					}
					f := &failing{n: n, unanswered: unanswered}
					err := w.open(f.call, 0).Remove(t.Context())
					if ended = !f.dead; ended && (kind != kmstest.Scheduled || later) {
						require.NoError(t, err)
					} else {
						require.Error(t, err)
					}
					require.NoError(t, remove(w, healthy))
					_, err = healthy.Load(t.Context())
					require.ErrorIs(t, err, keystore.ErrNotFound)
					require.Empty(t, w.reached(w.svc))
					require.NoError(t, healthy.Remove(t.Context()), "twice is once")
				}
			}
		}
	})
}
