package keystore_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/oracle"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// The oracle is tried against keystores that break the promise on purpose. Each fault is
// planted between the Store and its backend: what is committed is opened with the root,
// which the test knows, changed, and wrapped again. No code of the keystore is touched.

// rewriting is a backend that changes what is committed.
type rewriting struct {
	hookedBackend
	rewrite func(keystore.Group) keystore.Group
}

func (r *rewriting) Commit(ctx context.Context, groups []keystore.Group) (int, error) {
	changed := make([]keystore.Group, len(groups))
	for i, g := range groups {
		changed[i] = r.rewrite(slices.Clone(g))
	}
	return r.hookedBackend.Commit(ctx, changed)
}

// planted is a world of three people in which faults can be planted.
type planted struct {
	*world
	layout oracle.Layout
	keys   map[keystore.RootID]keystore.Secret
}

func plantedWorld(t *testing.T, shards int) *planted {
	p := &planted{keys: map[keystore.RootID]keystore.Secret{}}
	p.world = newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), 0, shards)
	learn := p.roots.learn
	p.roots.learn = func(r keystore.Root) { p.keys[r.ID] = r.Key; learn(r) }
	for _, r := range p.living() {
		p.roots.learn(r)
	}
	value, _ := p.stored([]byte{0xff, 'e'})
	var err error
	p.layout, err = oracle.ParseLayout(value)
	require.NoError(t, err)
	p.add(3)
	return p
}

func (p *planted) stored(key []byte) ([]byte, keystore.Rev) {
	recs, err := p.backend.Get(p.ctx, [][]byte{key})
	require.NoError(p.t, err)
	return recs[0].Value, recs[0].Rev
}

// rewrite plants a fault in all groups from now on.
func (p *planted) rewrite(f func(keystore.Group) keystore.Group) {
	p.plant = func(b keystore.Backend) keystore.Backend {
		return &rewriting{hookedBackend{inner: b, call: passOn}, f}
	}
	p.reopen()
}

// openPage opens the value of a page's record.
func (p *planted) openPage(number uint8, value []byte) (page *oracle.Page, root keystore.Secret) {
	for _, root := range p.keys {
		if page, err := p.layout.OpenPage(number, value, root); err == nil {
			return page, root
		}
	}
	require.Fail(p.t, "a page does not open")
	return nil, root
}

// rewraps finds, in a group, the write that takes a page to another root. It returns
// the page as it stands in the keystore, and as it is to be written.
func (p *planted) rewraps(g keystore.Group) (w *keystore.Write, old, next *oracle.Page) {
	for i := range g {
		if g[i].Op != keystore.Put || g[i].Key[1] != 'k' {
			continue
		}
		value, rev := p.stored(g[i].Key)
		if rev == 0 {
			continue
		}
		old, _ = p.openPage(g[i].Key[0], value)
		next, _ = p.openPage(g[i].Key[0], g[i].Value)
		if old.Root != next.Root {
			return &g[i], old, next
		}
	}
	return nil, nil, nil
}

func (p *planted) eraseFirst() {
	es, err := p.store.Erase(p.ctx, keystore.Request{Subject: p.people[0].sub})
	require.NoError(p.t, err)
	require.NoError(p.t, es[0].Err)
	p.sync(func(q *person, _ uint32, _ string, _ keystore.Status) bool { return q == p.people[0] })
}

// caught requires that the oracle reports what contains text.
func (p *planted) caught(text string) {
	list := p.violations()
	require.True(p.t, slices.ContainsFunc(list, func(v string) bool { return strings.Contains(v, text) }), "it was not caught: %q", list)
}

const withinReach = "is final, and its key"

func TestOracleFindsNothingWithoutFault(t *testing.T) {
	for _, shards := range []int{1, 64} {
		p := plantedWorld(t, shards)
		touched := 0
		p.rewrite(func(g keystore.Group) keystore.Group {
			if w, old, next := p.rewraps(g); w != nil && len(old.Shards[0]) == 2 && len(next.Shards[0]) == 1 {
				w.Value = p.layout.SealPage(next, p.keys[next.Root]) // the planting itself is sound
				touched++
			}
			return g
		})
		p.write(purposes, p.people...)
		p.eraseFirst()
		p.check()
		require.Equal(t, shards == 1, touched == 1)
		require.Empty(t, again(p, plantedWorld(t, 1)))
		p.settle()
	}
}

// hoarder is a root store that says it destroyed, and did not.
type hoarder struct {
	keystore.RootStore
	kept []keystore.Root
}

func (h *hoarder) Load(ctx context.Context, keys ...keystore.RootID) (keystore.RootContents, error) {
	c, err := h.RootStore.Load(ctx, keys...)
	c.Living = append(c.Living, h.kept...)
	return c, err
}

func TestOracleCatchesOldRootKept(t *testing.T) {
	p := plantedWorld(t, 1)
	p.write(purposes, p.people...)
	h := &hoarder{RootStore: p.real}
	p.real = h
	p.roots.call = func(name string, do func() error) error {
		if name == "Destroy" {
			h.kept = p.living()
		}
		return do()
	}
	p.eraseFirst()
	p.caught(withinReach)
}

func TestOracleCatchesShardNotRekeyed(t *testing.T) {
	p := plantedWorld(t, 1)
	p.write(purposes, p.people...)
	p.rewrite(func(g keystore.Group) keystore.Group {
		w, old, next := p.rewraps(g)
		if w == nil || len(old.Shards[0]) < 2 {
			return g
		}
		next.Shards[0] = old.Shards[0][:1]
		w.Value = p.layout.SealPage(next, p.keys[next.Root])
		return keystore.Group{*w} // and no ring moves
	})
	p.eraseFirst()
	p.caught(withinReach)
}

func TestOracleCatchesPageRewrappedWithTwoGenerations(t *testing.T) {
	p := plantedWorld(t, 1)
	p.write(purposes, p.people...)
	p.rewrite(func(g keystore.Group) keystore.Group {
		if w, old, next := p.rewraps(g); w != nil {
			next.Shards = old.Shards
			w.Value = p.layout.SealPage(next, p.keys[next.Root])
		}
		return g
	})
	p.eraseFirst()
	p.caught(withinReach)
}

// A page that stays under the old root goes with it: everybody in it would be lost. Here
// the keystore is even shown the page that it wanted to write, so that its own check
// before the destruction passes.
func TestOracleCatchesPageLeftUnderOldRoot(t *testing.T) {
	p := plantedWorld(t, 1)
	p.write(purposes, p.people...)
	p.rewrite(func(g keystore.Group) keystore.Group {
		if w, old, next := p.rewraps(g); w != nil {
			next.Epoch, next.Root = old.Epoch, old.Root
			w.Value = p.layout.SealPage(next, p.keys[old.Root])
		}
		return g
	})
	_, err := p.store.Erase(p.ctx, keystore.Request{Subject: p.people[0].sub})
	require.Error(t, err, "the keystore itself notices before it destroys the old root")

	p = plantedWorld(t, 1)
	p.write(purposes, p.people...)
	shown := map[keystore.Rev][]byte{}
	p.plant = func(b keystore.Backend) keystore.Backend {
		return &showing{rewriting{hookedBackend{inner: b, call: passOn}, func(g keystore.Group) keystore.Group {
			if w, old, next := p.rewraps(g); w != nil {
				shown[w.Rev] = w.Value
				next.Epoch, next.Root = old.Epoch, old.Root
				w.Value = p.layout.SealPage(next, p.keys[old.Root])
			}
			return g
		}}, shown}
	}
	p.reopen()
	p.eraseFirst()
	p.caught("who lives, can't be reached")
}

// showing is a backend that lost a write and shows it nevertheless.
type showing struct {
	rewriting
	shown map[keystore.Rev][]byte
}

func (s *showing) Get(ctx context.Context, keys [][]byte) ([]keystore.Record, error) {
	recs, err := s.rewriting.Get(ctx, keys)
	for i := range recs {
		if v, ok := s.shown[recs[i].Rev]; ok {
			recs[i].Value = v
		}
	}
	return recs, err
}

// An erasure is made while an advance is under way, and that advance takes it for a
// member: it says that it covers it. Its shard was never re-keyed.
func TestOracleCatchesErasureThatJoinedAfterTheIntent(t *testing.T) {
	p := plantedWorld(t, 64)
	p.write(purposes, p.people...)
	joined := p.people[1]
	p.rewrite(func(g keystore.Group) keystore.Group {
		for i, w := range g {
			if w.Key[0] != 0xff || w.Key[1] != 'e' {
				continue
			}
			e, err := oracle.ParseEpoch(w.Value)
			require.NoError(t, err)
			if e.Advances {
				continue
			}
			// What joined meanwhile is taken in when the advance is completed.
			last := e.Roots[len(e.Roots)-1]
			for page := range last.Covers {
				value, rev := p.stored([]byte{byte(page), 'c'})
				if rev != 0 {
					last.Covers[page], _ = binary.Uvarint(value[1:])
				}
			}
			g[i].Value = e.Seal(p.keys[e.Current])
		}
		return g
	})
	other, err := keystore.Open(p.ctx, p.plant(p.backend), p.roots, p.options())
	require.NoError(t, err)
	met := false
	p.backend.Before(func(groups []keystore.Group) {
		rewraps := slices.ContainsFunc(groups, func(g keystore.Group) bool { w, _, _ := p.rewraps(g); return w != nil })
		if met || !rewraps {
			return
		}
		met = true
		es, err := other.Erase(p.ctx, keystore.Request{Subject: joined.sub})
		require.NoError(t, err)
		require.True(t, es[0].Final, "it was not taken for a member")
	})
	_, err = p.store.Erase(p.ctx, keystore.Request{Subject: p.people[0].sub})
	require.NoError(t, err)
	require.True(t, met)
	p.sync(func(q *person, _ uint32, _ string, _ keystore.Status) bool { return q != p.people[2] })
	p.caught("the erasure of " + joined.sub.String() + " " + withinReach)
}

// derive replaces data keys by what can be computed from the subject's name.
func (p *planted) derive(g keystore.Group) keystore.Group {
	for i, w := range g {
		if w.Op != keystore.Put || w.Key[1] != 'r' {
			continue
		}
		value, _ := p.stored([]byte{w.Key[0], 'k'})
		page, _ := p.openPage(w.Key[0], value)
		for _, gen := range slices.Concat(page.Shards...) {
			r, err := p.layout.OpenRing(w.Key, w.Value, gen.Key)
			if err != nil {
				continue
			}
			for j := range r.Keys {
				r.Keys[j].Key = sha256.Sum256([]byte(r.Subject + "/" + r.Keys[j].Purpose))
			}
			g[i].Value = p.layout.SealRing(r, gen.Key)
		}
	}
	return g
}

func TestOracleCatchesDerivedKey(t *testing.T) {
	p := plantedWorld(t, 1)
	p.rewrite(p.derive)
	p.write(purposes, p.people...)
	p.reopen() // what was sealed so far was sealed with keys that never were written
	for _, q := range p.people {
		q.fields = nil
	}
	p.write(purposes, p.people...)
	p.eraseFirst()
	p.check() // nothing that was stored gives it away,
	own := plantedWorld(t, 1)
	own.rewrite(own.derive)
	require.NotEmpty(t, again(p, own)) // but anybody can make it again

	require.NoError(t, p.store.Readmit(p.ctx, p.people[0].sub))
	p.write(purposes, p.people...)
	p.caught("the same key is")
}

// again lists the destroyed keys that the attacker makes again, in a keystore of its own.
func again(p, own *planted) []string {
	own.write(purposes, own.people...)
	return p.remade(own.world)
}
