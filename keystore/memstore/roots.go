package memstore

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/oubli/oubli/keystore"
)

// Roots is a root store in memory, for tests: roots that are destroyed are gone, and
// everything is gone with the process. It is safe for concurrent use.
type Roots struct {
	mu   sync.Mutex
	made bool
	c    keystore.RootContents
}

// NewRoots returns an empty root store.
func NewRoots() *Roots { return &Roots{} }

func clone(c keystore.RootContents) keystore.RootContents {
	c.Living, c.Destroyed, c.Tombstones = slices.Clone(c.Living), slices.Clone(c.Destroyed), slices.Clone(c.Tombstones)
	c.Anchor.Counters = slices.Clone(c.Anchor.Counters)
	return c
}

// Create implements [keystore.RootStore].
func (r *Roots) Create(ctx context.Context, c keystore.RootContents) error {
	return r.do(ctx, false, func() error {
		if r.made {
			return fmt.Errorf("%w: a root in memory", keystore.ErrExists)
		}
		r.made, r.c = true, clone(c)
		return nil
	})
}

// Load implements [keystore.RootStore].
func (r *Roots) Load(ctx context.Context, _ ...keystore.RootID) (c keystore.RootContents, err error) {
	err = r.do(ctx, true, func() error {
		c = clone(r.c)
		return nil
	})
	return c, err
}

// Add implements [keystore.RootStore].
func (r *Roots) Add(ctx context.Context, root keystore.Root) error {
	return r.do(ctx, true, func() error {
		if slices.Contains(r.c.Destroyed, root.ID) {
			return fmt.Errorf("%w: root %s was destroyed", keystore.ErrMismatch, root.ID)
		}
		r.c.Living = append(r.c.Living, root)
		return nil
	})
}

// Destroy implements [keystore.RootStore].
func (r *Roots) Destroy(ctx context.Context, ids []keystore.RootID) error {
	return r.do(ctx, true, func() error {
		r.c.Living = slices.DeleteFunc(r.c.Living, func(root keystore.Root) bool { return slices.Contains(ids, root.ID) })
		for _, id := range ids {
			if !slices.Contains(r.c.Destroyed, id) {
				r.c.Destroyed = append(r.c.Destroyed, id)
			}
		}
		return nil
	})
}

// Raise implements [keystore.RootStore].
func (r *Roots) Raise(ctx context.Context, a keystore.Anchor, ts []keystore.Tombstone) error {
	return r.do(ctx, true, func() error {
		r.c.Anchor = r.c.Anchor.Higher(a)
		for _, t := range ts {
			if !slices.ContainsFunc(r.c.Tombstones, func(o keystore.Tombstone) bool { return o.Event == t.Event }) {
				r.c.Tombstones = append(r.c.Tombstones, t)
			}
		}
		return nil
	})
}

// Trim implements [keystore.RootStore].
func (r *Roots) Trim(ctx context.Context, final func(keystore.Tombstone) bool) error {
	return r.do(ctx, true, func() error {
		r.c.Tombstones = slices.DeleteFunc(r.c.Tombstones, final)
		return nil
	})
}

// Remove implements [keystore.RootStore].
func (r *Roots) Remove(ctx context.Context) error {
	return r.do(ctx, true, func() error {
		r.made, r.c = false, keystore.RootContents{}
		return nil
	})
}

// Place implements [keystore.RootStore].
func (r *Roots) Place() keystore.Place { return keystore.Place{URL: "memory:", Class: "memory"} }

func (r *Roots) do(ctx context.Context, need bool, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if need && !r.made {
		return fmt.Errorf("%w: no root in memory", keystore.ErrNotFound)
	}
	return f()
}
