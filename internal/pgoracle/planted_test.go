package pgoracle_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/oracle"
	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
)

// The attack is tried on keystores that break the promise on purpose. No code of the
// keystore is touched: what is committed is opened with the roots, which the test knows,
// changed, and wrapped again.
func TestPlantedFaultsAreCaught(t *testing.T) {
	server, files := pgtest.Start(t, nil), oracle.NewPGFiles()
	for _, c := range []struct {
		name   string
		plant  func(w *world)
		caught bool
	}{
		{"none: the planting is sound", func(w *world) {
			w.rewrap(func(_, next *oracle.Page) []*oracle.Page { return []*oracle.Page{next} })
		}, false},
		{"a superseded root is kept", func(w *world) { w.roots.hoards = true }, true},
		{"the new root wraps an old generation", func(w *world) {
			w.rewrap(func(old, next *oracle.Page) []*oracle.Page {
				next.Shards = old.Shards
				return []*oracle.Page{next}
			})
		}, true},
		// Nothing of this is left in the database, but it stands in the log.
		{"the new root wraps an old generation for a moment", func(w *world) {
			w.rewrap(func(old, next *oracle.Page) []*oracle.Page {
				moment := *next
				moment.Shards = old.Shards
				return []*oracle.Page{&moment, next}
			})
		}, true},
		{"a shard gets no new key", func(w *world) {
			w.rewrap(func(old, next *oracle.Page) []*oracle.Page {
				next.Shards[0] = old.Shards[0][:1]
				return []*oracle.Page{next}
			})
			rewrap := w.backend.rewrite
			w.backend.rewrite = func(g keystore.Group) keystore.Group {
				if g = rewrap(g); slices.ContainsFunc(g, func(w keystore.Write) bool { return w.Op == keystore.Put && w.Key[1] == 'k' }) {
					// and no ring moves
					g = slices.DeleteFunc(g, func(w keystore.Write) bool { return w.Key[1] == 'r' })
				}
				return g
			}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, server, &keystore.CreateOptions{Lease: lease, Shards: 1})
			w.add(5)
			c.plant(w)
			w.erase(nil, w.people[0])
			w.run("checkpoint")
			require.NoError(t, files.Add(server.Dir()))
			list := w.attack(files.Records()).violations(w.rows(w.pool))
			if !c.caught {
				require.Empty(t, list)
				return
			}
			require.True(t, slices.ContainsFunc(list, func(v string) bool { return strings.Contains(v, withinReach) }), "it was not caught: %q", list)
		})
	}
}

// Deleting the rows of somebody's keys, and having the server forget them, erases nobody.
func TestDeletedRowsAreWithinReach(t *testing.T) {
	server := pgtest.Start(t, &pgtest.Options{Archive: true})
	w := newWorld(t, server, &keystore.CreateOptions{Lease: lease, Shards: 64})
	w.add(20)
	w.run("checkpoint", "delete from oubli.records where substr(key, 4) = 'customer/7'", "vacuum full oubli.records", "checkpoint")
	w.people[6].dead, w.people[6].live = map[uint32]bool{}, map[uint32]string{}
	for _, row := range w.rows(w.pool)[6:7] {
		for _, f := range []string{row.Name, row.VAT, row.Taste} {
			w.people[6].dead[envelopeOf(t, f).keyID()] = true
		}
	}
	server.SwitchWAL(t)
	files := oracle.NewPGFiles()
	require.NoError(t, files.Add(server.ArchiveDir()))
	_, had := w.attack(files.Records()).dead()
	require.Equal(t, 3, had)
}

// rewrap plants a fault where a page is taken to another root: f names the pages that are
// written instead, one after the other. It may change what it is given.
func (w *world) rewrap(f func(old, next *oracle.Page) []*oracle.Page) {
	epoch, err := w.backend.Get(w.t.Context(), [][]byte{{0xff, 'e'}})
	require.NoError(w.t, err)
	layout, err := oracle.ParseLayout(epoch[0].Value)
	require.NoError(w.t, err)
	open := func(number byte, value []byte) (*oracle.Page, keystore.Secret) {
		for _, root := range w.roots.known() {
			if page, err := layout.OpenPage(number, value, root.Key); err == nil {
				return page, root.Key
			}
		}
		require.Fail(w.t, "a page does not open")
		return nil, keystore.Secret{}
	}
	w.backend.rewrite = func(g keystore.Group) keystore.Group {
		for i := range g {
			if g[i].Op != keystore.Put || g[i].Key[1] != 'k' {
				continue
			}
			is, err := w.backend.Get(w.t.Context(), [][]byte{g[i].Key})
			require.NoError(w.t, err)
			old, _ := open(g[i].Key[0], is[0].Value)
			next, root := open(g[i].Key[0], g[i].Value)
			if old.Root == next.Root {
				continue
			}
			pages := f(old, next)
			for _, page := range pages[:len(pages)-1] {
				moment := keystore.Write{Op: keystore.Put, Key: g[i].Key, If: g[i].If, Rev: keystore.Rev(rand.Uint64() | 1), Value: layout.SealPage(page, root)}
				_, err := w.backend.inner.Commit(w.t.Context(), []keystore.Group{{moment}})
				require.NoError(w.t, err)
				g[i].If = moment.Rev
			}
			g[i].Value = layout.SealPage(pages[len(pages)-1], root)
		}
		return g
	}
}
