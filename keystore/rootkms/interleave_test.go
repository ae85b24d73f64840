package rootkms_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// scheduler lets processes make one call at a time, in an order that it is told.
type scheduler struct {
	procs []*proc
}

// proc is a process: it announces each call and waits until it may make it.
type proc struct {
	ready chan bool // true: at a call; false: done
	step  chan struct{}
	err   error
	at    bool
}

// Waits between tries take no time: these tests run in bubbles of testing/synctest.
func (s *scheduler) start(f func(call hook) error) {
	p := &proc{ready: make(chan bool), step: make(chan struct{})}
	s.procs = append(s.procs, p)
	go func() {
		p.err = f(func(_ string, do func() error) error {
			p.ready <- true
			<-p.step
			return do()
		})
		p.ready <- false
	}()
}

// run has choose pick who makes the next call among those that have one to make, until
// all are done. It returns the choices: which of how many.
func (s *scheduler) run(choose func(n int) int) {
	for _, p := range s.procs {
		p.at = <-p.ready
	}
	for {
		var open []*proc
		for _, p := range s.procs {
			if p.at {
				open = append(open, p)
			}
		}
		if len(open) == 0 {
			return
		}
		p := open[choose(len(open))]
		p.step <- struct{}{}
		p.at = <-p.ready
	}
}

// A root is added while another process adds one and destroys it, newer than one that lives: in a service that
// drops its oldest versions each of the others' keys may stand in the way, or be one that
// its maker has not written down yet. In every order of calls all that live live on. There
// are 7,679; a tenth of them, drawn at random, is enough to catch each step that is left out.
func TestOrdersOfAddAndDestroy(t *testing.T) { synctest.Test(t, ordersOfAddAndDestroy) }

func ordersOfAddAndDestroy(t *testing.T) {
	for seed := range 800 {
		choose := rand.New(rand.NewPCG(uint64(seed), 2)).IntN
		w := newWorld(t, t.Context(), kmstest.Trimmed)
		w.create(1)
		old, dying, added := w.roots[0], w.root(), w.root()
		s := &scheduler{}
		s.start(func(call hook) error {
			makes := func(name string, do func() error) error { // Add reads, and at once has a key made
				if name == "Get" {
					return do()
				}
				return telling(call)(name, do)
			}
			return errors.Join(w.open(makes, 0).Add(w.ctx, dying), w.open(telling(call), 0).Destroy(w.ctx, []keystore.RootID{dying.ID}))
		})
		s.start(func(call hook) error { return w.open(telling(call), 0).Add(w.ctx, added) })
		s.run(choose)
		require.NoError(t, s.procs[0].err)
		require.NoError(t, s.procs[1].err)
		w.lives(old, added)
		w.dead(dying)
	}
}

// telling makes only those calls take turns whose order tells: that change something, or
// read the head.
func telling(call hook) hook {
	return func(name string, do func() error) error {
		if name == "Check" || name == "State" || name == "Wrap" || name == "Unwrap" {
			return do()
		}
		return call(name, do)
	}
}

func TestOrdersOfTwoDestroys(t *testing.T) { synctest.Test(t, ordersOfTwoDestroys) }

func ordersOfTwoDestroys(t *testing.T) {
	for seed := range 400 {
		choose := rand.New(rand.NewPCG(uint64(seed), 3)).IntN
		w := newWorld(t, t.Context(), kmstest.Trimmed)
		w.create(3)
		s := &scheduler{}
		for _, r := range w.roots[1:] {
			s.start(func(call hook) error { return w.open(telling(call), 0).Destroy(w.ctx, []keystore.RootID{r.ID}) })
		}
		s.run(choose)
		require.NoError(t, s.procs[0].err)
		require.NoError(t, s.procs[1].err)
		w.lives(w.roots[0])
		w.dead(w.roots[1:]...)
	}
}

// The calls of four processes in orders drawn at random, some of which never get an answer:
// a process may stop for good at any call, before or after it has its effect.
func TestRandomOrders(t *testing.T) { synctest.Test(t, randomOrders) }

func randomOrders(t *testing.T) {
	for seed := range 800 {
		kind := []kmstest.Kind{kmstest.Trimmed, kmstest.Trimmed, kmstest.Single, kmstest.Scheduled}[seed%4]
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		if err := randomOrder(t, t.Context(), r, kind); err != nil {
			require.NoError(t, err, "seed %d", seed)
		}
	}
}

func randomOrder(t *testing.T, ctx context.Context, r *rand.Rand, kind kmstest.Kind) error {
	w := newWorld(t, ctx, kind)
	w.create(3)
	victims := []keystore.Root{w.roots[r.IntN(2)], w.roots[2]}
	kept := slices.DeleteFunc(slices.Clone(w.roots), func(x keystore.Root) bool { return slices.Contains(victims, x) })
	added := []keystore.Root{w.root(), w.root()}
	s := &scheduler{}
	stops := func() func(call hook) hook {
		f := &failing{n: r.IntN(40), unanswered: r.IntN(2) == 0}
		return func(call hook) hook {
			return func(name string, do func() error) error {
				return call(name, func() error { return f.call(name, do) })
			}
		}
	}
	for i := range 2 {
		destroying, adding := stops(), stops()
		s.start(func(call hook) error {
			return w.open(destroying(call), 0).Destroy(ctx, []keystore.RootID{victims[i].ID})
		})
		s.start(func(call hook) error { return w.open(adding(call), 0).Add(ctx, added[i]) })
	}
	rehearsing := stops()
	s.start(func(call hook) error { _, err := w.open(rehearsing(call), 0).Rehearse(ctx); return err })
	s.run(r.IntN)
	for i, root := range added {
		if s.procs[2*i+1].err == nil {
			kept = append(kept, root)
		}
	}
	if err := w.living(kept...); err != nil {
		return fmt.Errorf("after the race: %w", err)
	}
	for range 2 { // others go on
		if err := w.open(passOn, 0).Destroy(ctx, []keystore.RootID{victims[0].ID, victims[1].ID}); err != nil {
			return fmt.Errorf("go on: %w", err)
		}
		w.pass(delay + time.Second)
	}
	if err := w.living(kept...); err != nil {
		return fmt.Errorf("in the end: %w", err)
	}
	w.dead(victims...)
	return nil
}
