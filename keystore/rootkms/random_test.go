package rootkms_test

import (
	"errors"
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// Three processes over one service and one shelf, either of which may fail at any call, and
// an administrator who takes back what can be, and restores a snapshot of the service now
// and then while the Store was told that such are kept. What was added and is not to be
// destroyed can be had after every step; what counts as destroyed nobody gets, not even
// from the snapshots that are still there.
//
// go test -rapid.checks=10000 runs more of them.
func TestHistories(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		require.NoError(t, f.Value.Set("20"))
		defer func() { require.NoError(t, f.Value.Set(f.DefValue)) }()
	}
	eachKind(t, func(t *testing.T, kind kmstest.Kind) {
		rapid.Check(t, func(rt *rapid.T) {
			h := &history{world: newWorld(rt, t.Context(), kind)}
			if rapid.Bool().Draw(rt, "copies") {
				h.copies = 5 * 24 * time.Hour
			}
			h.create(2)
			h.living = slices.Clone(h.roots)
			for range 3 {
				h.stores = append(h.stores, h.open(h.call, h.copies))
			}
			rt.Repeat(h.actions())
			h.finish()
		})
	})
}

type history struct {
	*world
	copies    time.Duration
	stores    []*rootkms.Store
	living    []keystore.Root // added, and nobody asked for their destruction
	dying     []keystore.Root // somebody asked
	anchor    uint64
	fails     int // the calls that go well until one does not
	mode      string
	snapshots []snapshot
}

type snapshot struct {
	svc *kmstest.Service
	at  time.Time
}

// call lets calls fail as was drawn.
func (h *history) call(_ string, do func() error) error {
	h.fails--
	switch {
	case h.fails >= 0 || h.mode == "none":
		return do()
	case h.mode == "outage":
		return errAway
	}
	mode := h.mode
	h.mode = "none"
	if mode == "unanswered" {
		return errors.Join(errAway, ignore(do()))
	}
	return errAway
}

func (h *history) actions() map[string]func(*rapid.T) {
	store := func(t *rapid.T) *rootkms.Store {
		h.t = t
		h.mode = rapid.SampledFrom([]string{"none", "none", "none", "lost", "unanswered", "outage"}).Draw(t, "mode")
		h.fails = rapid.IntRange(0, 12).Draw(t, "calls")
		return rapid.SampledFrom(h.stores).Draw(t, "store")
	}
	fine := func(t *rapid.T, err error) bool {
		if err != nil {
			require.ErrorIs(t, err, keystore.ErrUnavailable)
		}
		return err == nil
	}
	return map[string]func(*rapid.T){
		"": func(t *rapid.T) { h.t = t; h.check() },
		"add": func(t *rapid.T) {
			s, r := store(t), h.root()
			if fine(t, s.Add(h.ctx, r)) {
				h.living = append(h.living, r)
			}
		},
		"destroy": func(t *rapid.T) {
			if len(h.living) == 0 {
				return
			}
			i := rapid.IntRange(0, len(h.living)-1).Draw(t, "which")
			r := h.living[i]
			h.living = slices.Delete(h.living, i, i+1)
			h.dying = append(h.dying, r)
			fine(t, store(t).Destroy(h.ctx, []keystore.RootID{r.ID}))
		},
		"go on": func(t *rapid.T) { fine(t, store(t).Destroy(h.ctx, nil)) },
		"raise": func(t *rapid.T) {
			if fine(t, store(t).Raise(h.ctx, keystore.Anchor{Epoch: h.anchor + 1}, nil)) {
				h.anchor++
			}
		},
		"rehearse": func(t *rapid.T) {
			r, err := store(t).Rehearse(h.ctx)
			fine(t, err)
			for _, step := range r.Steps {
				require.True(t, step.OK, step.What)
			}
		},
		"time passes": func(t *rapid.T) {
			h.pass(rapid.SampledFrom([]time.Duration{time.Hour, 24 * time.Hour, delay}).Draw(t, "time"))
		},
		"an administrator takes back": func(t *rapid.T) { h.svc.Cancel() },
		"a snapshot": func(t *rapid.T) {
			h.snapshots = append(h.snapshots, snapshot{h.svc.Snapshot(), h.clock()})
		},
	}
}

// kept are the snapshots that are not too old.
func (h *history) kept() []*kmstest.Service {
	all := []*kmstest.Service{h.svc}
	for _, s := range h.snapshots {
		if s.at.Add(h.copies).After(h.clock()) {
			all = append(all, s.svc)
		}
	}
	return all
}

func (h *history) check() {
	h.mode = "none"
	require.NoError(h.t, h.world.living(h.living...))
	c, err := h.open(passOn, h.copies).Load(h.ctx)
	require.NoError(h.t, err)
	require.GreaterOrEqual(h.t, c.Anchor.Epoch, h.anchor)
	for _, svc := range h.kept() {
		reached := h.reached(svc)
		for _, r := range h.roots {
			if slices.Contains(c.Destroyed, r.ID) {
				require.False(h.t, reached[r.Key], "root %s of epoch %d counts as destroyed, and can be had", r.ID, r.Epoch)
			}
		}
	}
	for _, r := range h.living {
		require.NotContains(h.t, c.Destroyed, r.ID)
	}
}

// finish lets everything come to its end.
func (h *history) finish() {
	h.mode = "none"
	var ids []keystore.RootID
	for _, r := range h.dying {
		ids = append(ids, r.ID)
	}
	for range 3 {
		require.NoError(h.t, h.stores[0].Destroy(h.ctx, ids))
		h.pass(delay + h.copies)
	}
	h.check()
	h.dead(h.dying...)
}
