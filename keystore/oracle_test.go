package keystore_test

import (
	"flag"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

// The closure oracle: random histories, an attacker who keeps everything, and the
// promise checked after every step. go test -rapid.checks=10000 runs more of them.
func TestHistories(t *testing.T) {
	for _, c := range []struct {
		name   string
		checks string
		grace  time.Duration
		file   bool
	}{
		{"memory, grace 0", "25", 0, false},
		{"memory, an hour of grace", "40", time.Hour, false},
		{"bolt, grace 0", "4", 0, true},
		{"bolt, an hour of grace", "4", time.Hour, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			histories(t, c.checks)
			rapid.Check(t, func(t *rapid.T) {
				dir, err := os.MkdirTemp("", "oubli-history-")
				require.NoError(t, err)
				defer os.RemoveAll(dir)
				h := &history{}
				var m medium = &inMemory{memstore.New()}
				var roots keystore.RootStore = memstore.NewRoots()
				if c.file {
					m, err = newInFile(dir)
					require.NoError(t, err)
					roots, err = rootfile.New([]string{dir + "/root", dir + "/mirror"}, nil)
					require.NoError(t, err)
				}
				shards := rapid.SampledFrom([]int{1, 4, 64}).Draw(t, "shards")
				h.world = newWorld(t, m, roots, c.grace, shards)
				h.add(6)
				t.Repeat(h.actions())
				h.finish(t, dir)
			})
		})
	}
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

// history is a world with backups of it.
type history struct {
	*world
	backups []backup
	line    int // restores so far: each begins a new time line
}

type backup struct {
	medium medium
	line   int
	at     time.Time
	live   []map[uint32]string // by person: the keys that it holds
}

var purposes = []string{"", "tax", "ads"}

func (h *history) actions() map[string]func(*rapid.T) {
	one := func(t *rapid.T) *person { return rapid.SampledFrom(h.people).Draw(t, "who") }
	some := func(t *rapid.T) []*person {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(h.people), 1, 3, func(p *person) string { return p.sub.String() }).Draw(t, "who")
	}
	which := func(t *rapid.T, least int) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(purposes), least, 2, rapid.ID[string]).Draw(t, "purposes")
	}
	refusals := []error{keystore.ErrState, keystore.ErrErased, keystore.ErrErasing, keystore.ErrHeld, keystore.ErrUnknownSubject, keystore.ErrRestricted}
	step := func(f func(t *rapid.T)) func(t *rapid.T) {
		return func(t *rapid.T) { h.t = t; f(t) }
	}
	return map[string]func(*rapid.T){
		"": step(func(t *rapid.T) { h.check() }),
		"write": step(func(t *rapid.T) {
			h.write(which(t, 1), some(t)...)
		}),
		"rotate": step(func(t *rapid.T) {
			errs, err := h.store.Rotate(h.ctx, subjects(some(t))...)
			require.NoError(t, err)
			for _, err := range errs {
				oneOf(t, err, refusals...)
			}
			h.sync(nil)
		}),
		"restrict": step(func(t *rapid.T) {
			hold := rapid.SampledFrom([]string{"", "", "a law suit"}).Draw(t, "hold")
			oneOf(t, joined(h.store.Restrict(h.ctx, &keystore.RestrictOptions{Purposes: which(t, 0), Hold: hold}, one(t).sub)), refusals...)
			h.sync(nil)
		}),
		"release": step(func(t *rapid.T) { oneOf(t, joined(h.store.Release(h.ctx, one(t).sub)), refusals...); h.sync(nil) }),
		"request": step(func(t *rapid.T) {
			errs, err := h.store.RequestErasure(h.ctx, keystore.Request{Subject: one(t).sub, Keep: which(t, 0)})
			require.NoError(t, err)
			oneOf(t, errs[0], refusals...)
			h.sync(nil)
		}),
		"cancel":  step(func(t *rapid.T) { oneOf(t, h.store.Cancel(h.ctx, one(t).sub), refusals...); h.sync(nil) }),
		"readmit": step(func(t *rapid.T) { oneOf(t, h.store.Readmit(h.ctx, one(t).sub), refusals...); h.sync(nil) }),
		"erase": step(func(t *rapid.T) {
			h.erase(some(t), rapid.SampledFrom([][]string{nil, nil, {"tax"}}).Draw(t, "keep"), rapid.Bool().Draw(t, "unknown"), refusals)
		}),
		"withdraw": step(func(t *rapid.T) {
			p, gone := one(t), which(t, 1)
			_, err := h.store.Withdraw(h.ctx, p.sub, gone...)
			oneOf(t, err, refusals...)
			h.sync(func(q *person, _ uint32, purpose string, _ keystore.Status) bool {
				return q == p && err == nil && slices.Contains(gone, purpose)
			})
		}),
		"back up": step(func(t *rapid.T) {
			m, err := h.medium.copy()
			require.NoError(t, err)
			b := backup{medium: m, line: h.line, at: h.now}
			for _, p := range h.people {
				b.live = append(b.live, maps.Clone(p.live))
			}
			h.backups = append(h.backups, b)
		}),
		"restore": step(func(t *rapid.T) {
			if len(h.backups) == 0 {
				return
			}
			h.restore(rapid.SampledFrom(h.backups).Draw(t, "backup"))
		}),
		"reopen":  step(func(t *rapid.T) { h.reopen() }),
		"advance": step(func(t *rapid.T) { require.NoError(t, h.store.Advance(h.ctx)) }),
		"time passes": step(func(t *rapid.T) {
			h.now = h.now.Add(rapid.SampledFrom([]time.Duration{time.Second, 20 * time.Minute, time.Hour}).Draw(t, "time"))
		}),
	}
}

func subjects(people []*person) (list []keystore.Subject) {
	for _, p := range people {
		list = append(list, p.sub)
	}
	return list
}

func (h *history) erase(people []*person, keep []string, unknown bool, refusals []error) {
	var rs []keystore.Request
	for _, p := range people {
		rs = append(rs, keystore.Request{Subject: p.sub, Keep: keep, Unknown: unknown})
	}
	es, err := h.store.Erase(h.ctx, rs...)
	require.NoError(h.t, err)
	for i, e := range es {
		oneOf(h.t, e.Err, refusals...)
		if e.Err == nil && h.grace == 0 {
			require.True(h.t, e.Final, "the erasure of %s, who is %s, is not final at once", people[i].sub, e.State)
		}
	}
	h.sync(func(p *person, _ uint32, purpose string, st keystore.Status) bool {
		i := slices.Index(people, p)
		// An earlier request may have named other purposes to keep than this one.
		return i >= 0 && es[i].Err == nil && !slices.Contains(st.Journal.Keep, purpose)
	})
}

// restore puts a backup in the place of the living keystore, which is lost, if any root
// still opens it.
func (h *history) restore(b backup) {
	m, err := b.medium.copy()
	require.NoError(h.t, err)
	h.feed()
	old, oldBackend, oldFed := h.medium, h.backend, h.fed
	h.medium = m
	h.attach()
	records := stored(h.t, h.backend)
	opens := len(h.attacker.Reach(h.living(), records...).Keys) > len(h.living())
	_, err = keystore.Restore(h.ctx, h.backend, h.roots, h.options())
	if h.now.Before(b.at.Add(h.grace)) {
		require.True(h.t, opens, "a backup can't be restored within the grace")
	}
	if !opens {
		require.ErrorIs(h.t, err, keystore.ErrMismatch)
		require.NoError(h.t, h.backend.Close())
		h.medium, h.backend, h.fed = old, oldBackend, oldFed
		return
	}
	require.NoError(h.t, err)
	require.NoError(h.t, h.store.Close())
	h.open()
	for i, p := range h.people {
		p.live = map[uint32]string{} // what was made since the backup is lost with the old keystore
		if i < len(b.live) {
			p.live = maps.Clone(b.live[i])
		}
	}
	h.sync(func(p *person, id uint32, _ string, _ keystore.Status) bool {
		if p.dead[id] {
			return true
		}
		// An erasure on one time line takes the subject's keys of another with it.
		return b.line != h.line && slices.ContainsFunc(slices.Collect(maps.Keys(p.live)), func(id uint32) bool { return p.dead[id] })
	})
	h.line++
}

// finish ends a history: all grace passes, and nobody gets at what was erased, by no copy
// that was ever made, by no byte on the disk, and by no key that can be made again.
func (h *history) finish(t *rapid.T, dir string) {
	h.t = t
	h.settle()
	living := h.living()
	require.Len(t, living, 1)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		raw, err := os.ReadFile(dir + "/" + f.Name())
		require.NoError(t, err)
		leaks := h.attacker.Leaks(raw, func(k keystore.Secret) bool {
			return !slices.ContainsFunc(living, func(r keystore.Root) bool { return r.Key == k })
		})
		require.Empty(t, leaks, "in %s", f.Name())
	}
	own := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), 0, 1)
	own.add(len(h.people))
	own.write(purposes, own.people...)
	require.Empty(t, h.remade(own))
	require.NoError(t, h.store.Close())
}

// A copy that was made after a subject was readmitted has the tombstones from before
// behind it: replaying them must not take the keys that the subject has now.
func TestRestoreLeavesReadmittedKeysAlone(t *testing.T) {
	h := &history{world: newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), time.Hour, 1)}
	h.add(2)
	ann := h.people[0]
	h.write([]string{"", "tax"}, ann)
	_, err := h.store.Withdraw(h.ctx, ann.sub, "tax")
	require.NoError(t, err)
	h.sync(func(_ *person, _ uint32, purpose string, _ keystore.Status) bool { return purpose == "tax" })
	h.erase([]*person{ann}, nil, false, nil)
	require.NoError(t, h.store.Readmit(h.ctx, ann.sub))
	h.write([]string{"", "tax"}, ann)
	m, err := h.medium.copy()
	require.NoError(t, err)
	h.restore(backup{medium: m, at: h.now, live: []map[uint32]string{maps.Clone(ann.live)}})
	h.check()
	require.Len(t, ann.live, 2)
	require.Equal(t, keystore.StateActive, h.statuses()[0].State)
	h.settle()
}
