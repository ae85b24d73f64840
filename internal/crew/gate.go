//go:build linux

package crew

import (
	"context"
	"sync"
	"time"

	"github.com/oubli/oubli/internal/oracle"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
)

// Gate can hold a process at a step that it is about to take, until the test lets it go on:
// so it is certain where it was when it was cut off or killed. It is safe for concurrent
// use; the zero value lets everybody pass.
type Gate struct {
	mu    sync.Mutex
	step  string        // the one that holds; "" if none
	there chan struct{} // closed when somebody came to it
	open  chan struct{} // closed when they may go on
}

// StepIntent is when an advance has begun for good: its intent is committed, and nothing
// was done about it.
const StepIntent = "intent"

// Step is called when the process is about to take a step.
func (g *Gate) Step(step string) {
	g.mu.Lock()
	if g.step != step {
		g.mu.Unlock()
		return
	}
	open := g.open
	g.step = "" // the others go on
	close(g.there)
	g.mu.Unlock()
	<-open
}

// hold makes the next who comes to a step wait there, and tells whether somebody did
// within limit.
func (g *Gate) hold(step string, limit time.Duration) bool {
	g.mu.Lock()
	g.step, g.there, g.open = step, make(chan struct{}), make(chan struct{})
	there := g.there
	g.mu.Unlock()
	select {
	case <-there:
		return true
	case <-time.After(limit):
		g.letGo()
		return false
	}
}

// letGo lets whoever waits, or would have to, go on.
func (g *Gate) letGo() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != nil {
		close(g.open)
	}
	g.step, g.open = "", nil
}

// armed tells whether the next who comes to a step will be held.
func (g *Gate) armed(step string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.step == step
}

// gated is a backend with a gate behind the commit of an intent. It passes on all else, and
// whatever else a pgstore learns to do.
type gated struct {
	*pgstore.Store
	gate *Gate
}

var (
	_ keystore.Traced   = gated{}
	_ keystore.Streamer = gated{}
)

// Commit commits an intent alone if the gate holds behind it.
func (g gated) Commit(ctx context.Context, groups []keystore.Group) (done int, err error) {
	if !g.gate.armed(StepIntent) || len(groups) == 0 || !begins(groups[0]) {
		return g.Store.Commit(ctx, groups)
	}
	if done, err = g.Store.Commit(ctx, groups[:1]); err != nil || done == 0 {
		return done, err
	}
	g.gate.Step(StepIntent)
	if len(groups) == 1 {
		return done, nil
	}
	more, err := g.Store.Commit(ctx, groups[1:])
	return done + more, err
}

// begins tells whether a group writes an intent.
func begins(group keystore.Group) bool {
	for _, w := range group {
		if w.Op == keystore.Put && string(w.Key) == "\xffe" {
			e, err := oracle.ParseEpoch(w.Value)
			return err == nil && e.Advances
		}
	}
	return false
}
