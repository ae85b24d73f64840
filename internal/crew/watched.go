//go:build linux

package crew

import (
	"context"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oubli/oubli/keystore"
)

// watched is a root store that notes when an advance begins, and that may kill its own
// process with SIGKILL at a random moment of it.
type watched struct {
	roots   keystore.RootStore
	journal *journal
	chance  int // one of so many steps of an advance is the last of the process; 0: none
}

// longest is how long after a step of an advance the kill may come: beyond its end.
const longest = 60 * time.Millisecond

var _ keystore.RootStore = watched{}

func (w watched) step() {
	if w.chance == 0 || rand.IntN(w.chance) > 0 {
		return
	}
	kill := func() { _ = unix.Kill(os.Getpid(), unix.SIGKILL) }
	if rand.IntN(4) == 0 {
		kill()
	}
	time.AfterFunc(rand.N(longest), kill)
}

func (w watched) Add(ctx context.Context, r keystore.Root) error {
	w.journal.write(entry{what: advance})
	w.step()
	return w.roots.Add(ctx, r)
}

func (w watched) Raise(ctx context.Context, a keystore.Anchor, ts []keystore.Tombstone) error {
	w.step()
	return w.roots.Raise(ctx, a, ts)
}

func (w watched) Destroy(ctx context.Context, ids []keystore.RootID) error {
	w.step()
	err := w.roots.Destroy(ctx, ids)
	w.step()
	return err
}

func (w watched) Create(ctx context.Context, c keystore.RootContents) error {
	return w.roots.Create(ctx, c)
}
func (w watched) Load(ctx context.Context, keys ...keystore.RootID) (keystore.RootContents, error) {
	return w.roots.Load(ctx, keys...)
}
func (w watched) Trim(ctx context.Context, final func(keystore.Tombstone) bool) error {
	return w.roots.Trim(ctx, final)
}
func (w watched) Remove(ctx context.Context) error { return w.roots.Remove(ctx) }
func (w watched) Place() keystore.Place            { return w.roots.Place() }
