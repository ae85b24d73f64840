package enginetest

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// restore puts a copy in the place of the living keystore, which is lost, if any root still
// opens it.
func (w *world) restore(b copyOf) {
	w.feed()
	old, oldFed, oldMemory := w.backend, w.fed, w.memory
	w.attach(b.memory.Snapshot())
	_, err := keystore.Restore(w.ctx, w.backend, w.roots, w.options())
	if errors.Is(err, keystore.ErrMismatch) {
		require.False(w.t, w.now.Before(b.at.Add(w.grace)), "a copy can't be restored within the grace: %v", err)
		w.backend, w.fed, w.memory = old, oldFed, oldMemory
		return
	}
	require.NoError(w.t, err)
	require.NoError(w.t, w.store.Close())
	w.open()
	for i, p := range w.people {
		p.live = map[uint32]bool{} // what was made since the copy is lost with the old keystore
		if i < len(b.live) {
			p.live = maps.Clone(b.live[i])
		}
	}
	w.sync(func(p *person) bool {
		// Erased since; and an erasure on one time line takes the keys of another with it.
		return slices.ContainsFunc(slices.Collect(maps.Keys(p.live)), func(id uint32) bool { return p.dead[id] }) || b.line != w.line && len(p.dead) > 0
	})
	w.line++
	w.leaving = b.leaving // in a copy from amid a move, that is not finished
	if b.roots.Place().URL != w.roots.Place().URL {
		w.leaving = b.roots // in one from before a move, nobody can tell
	}
}

// copyOf is a copy of the keystore, with what it held.
type copyOf struct {
	memory         *memstore.Store
	roots, leaving *learning
	line           int
	at             time.Time
	live           []map[uint32]bool
}

func (w *world) copy() copyOf {
	c := copyOf{memory: w.memory[len(w.memory)-1].Snapshot(), roots: w.roots, leaving: w.leaving, line: w.line, at: w.now}
	for _, p := range w.people {
		c.live = append(c.live, maps.Clone(p.live))
	}
	return c
}
