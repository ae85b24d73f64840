package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// Three processes at random, each with its faults: nobody is opened whose erasure or
// restriction had returned before the final look, nobody erased gets a key, and nobody
// else loses a byte.
func TestProcessesAtRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const lease = 60 * time.Millisecond
	c := newCluster(t, &keystore.CreateOptions{Shards: 8, Lease: lease})
	c.notifications(seed%2 == 0)
	var people []*victim
	first := c.process()
	for i := range 60 {
		v := &victim{sub: subject(t, i+1)}
		v.field.text = v.sub.String()
		v.field.id, v.field.sealed = seal(t, first.store, v.sub, "", v.field.text)
		v.field.sealed = append(make([]byte, 12), v.field.sealed...)
		people = append(people, v)
	}
	ctx, stop := context.WithTimeout(c.ctx, 2*time.Second)
	defer stop()
	g := &gang{people: people, end: ctx, hands: make(chan struct{}, 1)}
	var all sync.WaitGroup
	for n := range 3 {
		p := c.process()
		if n > 0 {
			p.store.SetManyShards(0) // its advances are divided among workers
			p.store.SetMoveBudget(2)
		}
		for m, f := range []func(p *process, r *rand.Rand) error{g.read, g.read, g.ensure, g.change, g.disturb} {
			r := rand.New(rand.NewPCG(seed, uint64(10*n+m)))
			all.Go(func() {
				for ctx.Err() == nil {
					if err := f(p, r); err != nil {
						t.Errorf("process %d, part %d: %v", n, m, err)
						return
					}
				}
			})
		}
	}
	all.Wait()
	t.Logf("%d opened, %d not fresh, %d out of reach, %d erased, %d restricted", g.opened.Load(), g.stale.Load(), g.away.Load(), g.erased.Load(), g.barred.Load())
	for _, n := range []*atomic.Int64{&g.opened, &g.stale, &g.away, &g.erased, &g.barred} {
		require.Positive(t, n.Load())
	}
	p := c.process()
	for _, v := range people {
		text, err := openField(c.ctx, p.store, v.sub, v.field)
		st, serr := p.store.Status(c.ctx, v.sub)
		require.NoError(t, serr)
		switch {
		case v.erased.Load():
			require.ErrorIs(t, err, keystore.ErrErased)
			require.Empty(t, st[0].Keys)
		case st[0].State == keystore.StateActive:
			require.NoError(t, err)
			require.Equal(t, v.field.text, text)
		default: // in the midst of something that failed
			require.Contains(t, []keystore.State{keystore.StateErased, keystore.StateRestricted}, st[0].State)
		}
	}
	c.check()
}

// gang is what the processes do to people, and what came of it.
type gang struct {
	people                              []*victim
	hands                               chan struct{} // one restricts at a time, so that it knows who is restricted
	end                                 context.Context
	opened, stale, away, erased, barred atomic.Int64

	// A machine that is stopped while it waits for a lease gives the others as much time. So
	// the clocks here, which nobody else's follow, jump between changes only.
	waiting sync.RWMutex
}

func (g *gang) pick(r *rand.Rand) *victim { return g.people[r.IntN(len(g.people))] }

// passes tells which errors a fault explains.
func (g *gang) passes(err error) bool {
	if errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		g.away.Add(1)
		return true
	}
	return err == nil
}

func (g *gang) read(p *process, r *rand.Rand) error {
	list := []*victim{g.pick(r), g.pick(r), g.pick(r)}
	subs := []keystore.Subject{list[0].sub, list[1].sub, list[2].sub}
	ctx, cancel := context.WithTimeout(p.c.ctx, time.Second)
	defer cancel()
	ks, err := p.store.Lookup(ctx, nil, subs...)
	if err != nil {
		time.Sleep(time.Millisecond)
		if g.passes(err) {
			return nil
		}
		return err
	}
	if r.IntN(4) == 0 {
		time.Sleep(time.Duration(r.IntN(80)) * time.Millisecond) // a slow reader
	}
	for i, v := range list {
		_, key, err := ks[i].Key(v.field.id)
		if err == nil {
			_, err = key.Open(nil, v.field.sealed[:12], v.field.sealed[12:], nil)
		}
		erased, barred := v.erased.Load(), v.barred.Load()
		switch fresh := keystore.Fresh(ks[i]); {
		case !fresh:
			g.stale.Add(1)
		case err == nil && erased:
			return fmt.Errorf("%s opened after its erasure had returned", v.sub)
		case err == nil && barred && v.barred.Load():
			return fmt.Errorf("%s opened after its restriction had returned", v.sub)
		case err == nil:
			g.opened.Add(1)
		case !errors.Is(err, keystore.ErrErased) && !errors.Is(err, keystore.ErrErasing) && !errors.Is(err, keystore.ErrRestricted):
			return fmt.Errorf("%s: %w", v.sub, err)
		}
	}
	return nil
}

func (g *gang) ensure(p *process, r *rand.Rand) error {
	v := g.pick(r)
	erased := v.erased.Load()
	ctx, cancel := context.WithTimeout(p.c.ctx, time.Second)
	defer cancel()
	ks, err := p.store.Ensure(ctx, nil, []string{"", fmt.Sprint("purpose ", r.IntN(3))}, v.sub)
	if err != nil {
		time.Sleep(time.Millisecond)
		if g.passes(err) {
			return nil
		}
		return err
	}
	if erased && ks[0].WriteErr() == nil && keystore.Fresh(ks[0]) {
		return fmt.Errorf("%s may be written after its erasure had returned", v.sub)
	}
	return nil
}

// change erases, restricts and releases, rotates, or advances.
func (g *gang) change(p *process, r *rand.Rand) error {
	g.waiting.RLock()
	defer g.waiting.RUnlock()
	ctx, cancel := context.WithTimeout(p.c.ctx, time.Second)
	defer cancel()
	v := g.pick(r)
	switch r.IntN(6) {
	case 0, 5:
		es, err := p.store.Erase(ctx, keystore.Request{Subject: v.sub})
		if err == nil && es[0].Err == nil {
			if !v.erased.Swap(true) {
				g.erased.Add(1)
			}
		} else if !g.passes(err) {
			return err
		}
	case 1, 2:
		g.hands <- struct{}{}
		defer func() { <-g.hands }()
		err := joined(p.store.Restrict(ctx, nil, v.sub))
		if errors.Is(err, keystore.ErrErased) {
			return nil
		}
		if !g.passes(err) {
			return err
		}
		if err == nil && g.end.Err() == nil {
			v.barred.Store(true)
			g.barred.Add(1)
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		}
		v.barred.Store(false)
		err = joined(p.store.Release(ctx, v.sub))
		for try := 0; try < 20 && err != nil && !errors.Is(err, keystore.ErrErased); try++ {
			p.heal()
			err = joined(p.store.Release(p.c.ctx, v.sub))
		}
		if err != nil && !errors.Is(err, keystore.ErrErased) {
			return err
		}
	case 3:
		errs, err := p.store.Rotate(ctx, v.sub)
		if !g.passes(err) {
			return err
		}
		if err == nil && errs[0] != nil && !errors.Is(errs[0], keystore.ErrErased) {
			return errs[0]
		}
	case 4:
		if err := p.store.Advance(ctx); !g.passes(err) {
			return err
		}
	}
	return nil
}

// disturb cuts a process off for a while, or lets its clocks jump.
func (g *gang) disturb(p *process, r *rand.Rand) error {
	switch r.IntN(6) {
	case 0:
		p.through(hang)
	case 1:
		p.through(refuse)
	case 2:
		g.waiting.Lock()
		p.pass(time.Hour) // stopped
		g.waiting.Unlock()
	case 3:
		p.wall.Add(int64(time.Duration(r.IntN(200)-100) * time.Millisecond))
	}
	time.Sleep(time.Duration(20+r.IntN(150)) * time.Millisecond)
	p.heal()
	time.Sleep(time.Duration(20+r.IntN(100)) * time.Millisecond)
	return nil
}
