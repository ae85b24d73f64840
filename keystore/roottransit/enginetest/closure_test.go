package enginetest

import (
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// The closure oracle with the engine's storage in the attacker's hands: random histories, an
// attacker who keeps everything but old copies of that storage, and the promise checked
// after every step. go test -run Histories -rapid.checks=1000 runs more of them.
func TestHistories(t *testing.T) {
	e := startClosed(t)
	before := 0
	for _, c := range []struct {
		name          string
		checks        string
		grace, copies time.Duration
	}{
		{"grace 0", "6", 0, 0},
		{"an hour of grace", "6", time.Hour, 0},
		{"copies are kept for an hour", "4", 0, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			histories(t, c.checks)
			rapid.Check(t, func(t *rapid.T) {
				h := &history{world: newWorld(t, e, c.grace, c.copies, rapid.SampledFrom([]int{1, 4, 64}).Draw(t, "shards"))}
				h.add(5)
				t.Repeat(h.actions())
				h.t = t
				h.finishMove(true)
				h.settle()
				before += len(h.before())
				h.close()
			})
		})
	}
	require.Positive(t, before, "storage from before a trim opens nobody: the attacker sees nothing")
}

// histories sets how many are run, unless the command line does.
func histories(t *testing.T, n string) {
	f := flag.Lookup("rapid.checks")
	if f.Value.String() != f.DefValue {
		return
	}
	require.NoError(t, f.Value.Set(n))
	t.Cleanup(func() { require.NoError(t, f.Value.Set(f.DefValue)) })
}

// history is a world with copies of its keystore.
type history struct {
	*world
	copied []copyOf
}

func (h *history) actions() map[string]func(*rapid.T) {
	some := func(t *rapid.T) []*person {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(h.people), 1, 3, func(p *person) string { return p.sub.String() }).Draw(t, "who")
	}
	step := func(f func(t *rapid.T)) func(t *rapid.T) {
		return func(t *rapid.T) { h.t = t; f(t) }
	}
	return map[string]func(*rapid.T){
		"":      step(func(t *rapid.T) { h.check() }),
		"write": step(func(t *rapid.T) { h.write(some(t)...) }),
		"rotate": step(func(t *rapid.T) {
			_, err := h.store.Rotate(h.ctx, subjects(some(t))...)
			require.NoError(t, err)
			h.sync(nil)
		}),
		"erase": step(func(t *rapid.T) {
			people := some(t)
			if h.leaving == nil {
				h.erased(people...)
				return
			}
			es, err := h.erase(people...)
			require.NoError(t, err)
			for i, e := range es {
				require.False(t, e.Final && len(people[i].live) > 0, "an erasure becomes final before the move is finished")
			}
			h.sync(func(p *person) bool { return slices.Contains(people, p) })
		}),
		"readmit": step(func(t *rapid.T) {
			if err := h.store.Readmit(h.ctx, some(t)[0].sub); !errors.Is(err, keystore.ErrState) && !errors.Is(err, keystore.ErrUnknownSubject) {
				require.NoError(t, err)
			}
			h.sync(nil)
		}),
		"advance": step(func(t *rapid.T) { require.NoError(t, h.store.Advance(h.ctx)) }),
		"reopen":  step(func(t *rapid.T) { h.reopen() }),
		"time passes": step(func(t *rapid.T) {
			h.pass(rapid.SampledFrom([]time.Duration{time.Second, 20 * time.Minute, time.Hour}).Draw(t, "time"))
		}),
		"copy": step(func(t *rapid.T) { h.copied = append(h.copied, h.copy()) }),
		"restore": step(func(t *rapid.T) {
			if len(h.copied) > 0 && h.leaving == nil {
				h.restore(rapid.SampledFrom(h.copied).Draw(t, "copy"))
			}
		}),
		"move":        step(func(t *rapid.T) { h.move(rapid.Bool().Draw(t, "to the engine")) }),
		"finish move": step(func(t *rapid.T) { h.finishMove(false) }),
		"rehearse": step(func(t *rapid.T) {
			r, ok := h.roots.RootStore.(keystore.Rehearser)
			if !ok {
				return // it is in memory
			}
			found, err := r.Rehearse(h.ctx)
			require.NoError(t, err)
			require.Equal(t, h.copies == 0, found.Proven(), "%+v", found)
			for _, s := range found.Steps {
				require.True(t, s.OK, "%+v", s)
			}
		}),
		"crash at a write": step(func(t *rapid.T) {
			people := some(t)
			if rapid.Bool().Draw(t, "in the engine") {
				h.engine.dieAt(rapid.IntRange(1, 14).Draw(t, "request"), rapid.Bool().Draw(t, "unanswered"))
				h.erase(people...)
				h.engine.set(nil)
			} else {
				h.backend.FailAt(rapid.IntRange(1, 8).Draw(t, "write"), rapid.SampledFrom(fault.Modes).Draw(t, "mode"))
				h.erase(people...)
				h.backend.Revive()
			}
			h.reopen()
			_, err := h.erase(people...) // the same again
			require.NoError(t, err)
			h.sync(func(p *person) bool { return slices.Contains(people, p) })
		}),
	}
}

// move moves the roots to another place, in the engine or in memory.
func (h *history) move(toEngine bool) {
	if h.leaving != nil {
		return
	}
	old, to := h.roots, h.learning(memstore.NewRoots())
	if old.Place().URL == to.Place().URL || toEngine {
		to = h.transit()
	}
	err := h.store.MoveRoots(h.ctx, to)
	h.roots = to
	if err != nil {
		require.ErrorIs(h.t, err, keystore.ErrUnavailable)
		require.Positive(h.t, h.copies)
		h.leaving = old
	}
}

// finishMove goes on with a move that has to wait for copies of the engine's storage to go.
func (h *history) finishMove(must bool) {
	if h.leaving == nil {
		return
	}
	if must {
		h.pass(h.copies + time.Second)
	}
	err := h.store.FinishMove(h.ctx, h.leaving)
	if !must && errors.Is(err, keystore.ErrUnavailable) {
		return
	}
	require.NoError(h.t, err)
	h.leaving = nil
}

// dieAt lets the process die at the n-th request from now that changes something or asks
// for a secret: that is lost, or carried out and not answered; later ones are lost.
func (c *closed) dieAt(n int, unanswered bool) {
	dead := false
	c.set(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !dead && r.Method != http.MethodGet {
				n--
			}
			switch {
			case dead:
			case n == 0:
				if dead = true; unanswered {
					next.ServeHTTP(httptest.NewRecorder(), r)
				}
			default:
				next.ServeHTTP(w, r)
				return
			}
			panic(http.ErrAbortHandler)
		})
	})
}
