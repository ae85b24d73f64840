package keystore_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// slowRoots is a root store as a service is: it gives no key that is not named, destroys
// after a delay, and has administrators who can take that back and make it unreachable.
type slowRoots struct {
	url   string
	delay time.Duration
	clock func() time.Time

	mu      sync.Mutex
	inner   *memstore.Roots // what stands in its storage, dying ones included
	dying   []keystore.Dying
	saved   map[keystore.RootID]bool // taken back
	barred  map[keystore.RootID]bool // its key can't be had
	leaving bool
	away    bool
	pause   time.Duration     // that a Load takes
	ever    []keystore.RootID // all that ever stood here
	calls   map[string]int    // by method; "key" counts the keys that were fetched
}

func newSlowRoots(url string, delay time.Duration, clock func() time.Time) *slowRoots {
	return &slowRoots{url: url, delay: delay, clock: clock, inner: memstore.NewRoots(),
		saved: map[keystore.RootID]bool{}, barred: map[keystore.RootID]bool{}, calls: map[string]int{}}
}

func (r *slowRoots) Place() keystore.Place {
	return keystore.Place{URL: r.url, Class: keystore.ClassScheduled, Delay: r.delay}
}

func (r *slowRoots) do(name string, f func() error) error {
	r.mu.Lock()
	pause := r.pause
	r.mu.Unlock()
	if name == "Load" {
		time.Sleep(pause)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls[name]++
	if r.away {
		return fmt.Errorf("%w: %s does not answer", keystore.ErrUnavailable, r.url)
	}
	return f()
}

func (r *slowRoots) isDying(id keystore.RootID) int {
	return slices.IndexFunc(r.dying, func(d keystore.Dying) bool { return d.ID == id })
}

func (r *slowRoots) Create(ctx context.Context, c keystore.RootContents) error {
	return r.do("Create", func() error {
		for _, root := range c.Living {
			if root.Key == (keystore.Secret{}) {
				return fmt.Errorf("%w: a root without its key", keystore.ErrInvalid)
			}
			r.ever = append(r.ever, root.ID)
		}
		r.leaving = false
		return r.inner.Create(ctx, c)
	})
}

func (r *slowRoots) Load(ctx context.Context, keys ...keystore.RootID) (c keystore.RootContents, err error) {
	err = r.do("Load", func() error {
		if c, err = r.inner.Load(ctx); err != nil {
			return err
		}
		c.Dying = slices.Clone(r.dying)
		c.Living = slices.DeleteFunc(c.Living, func(root keystore.Root) bool { return r.isDying(root.ID) >= 0 })
		for i := range c.Living {
			switch id := c.Living[i].ID; {
			case !slices.Contains(keys, id):
				c.Living[i].Key = keystore.Secret{}
			case r.barred[id]:
				return fmt.Errorf("%w: the key of root %s can't be had", keystore.ErrNotFound, id)
			default:
				r.calls["key"]++
			}
		}
		return nil
	})
	return c, err
}

func (r *slowRoots) Add(ctx context.Context, root keystore.Root) error {
	return r.do("Add", func() error {
		if r.leaving {
			return fmt.Errorf("%w: %s is being removed", keystore.ErrUnavailable, r.url)
		}
		r.ever = append(r.ever, root.ID)
		return r.inner.Add(ctx, root)
	})
}

func (r *slowRoots) Destroy(ctx context.Context, ids []keystore.RootID) error {
	return r.do("Destroy", func() error { return r.destroy(ctx, ids) })
}

func (r *slowRoots) destroy(ctx context.Context, ids []keystore.RootID) error {
	c, err := r.inner.Load(ctx)
	if err != nil {
		return err
	}
	now := r.clock()
	for _, id := range ids {
		i := r.isDying(id)
		living := slices.ContainsFunc(c.Living, func(root keystore.Root) bool { return root.ID == id })
		switch {
		case i >= 0 && r.saved[id]:
			delete(r.saved, id)
			r.dying[i].Until = now.Add(r.delay)
		case i >= 0 && r.dying[i].Until.After(now):
		case i < 0 && living && r.delay > 0:
			r.dying = append(r.dying, keystore.Dying{ID: id, Until: now.Add(r.delay)})
		default:
			if err := r.inner.Destroy(ctx, []keystore.RootID{id}); err != nil {
				return err
			}
			if i >= 0 {
				r.dying = slices.Delete(r.dying, i, i+1)
			}
		}
	}
	return nil
}

func (r *slowRoots) Raise(ctx context.Context, a keystore.Anchor, ts []keystore.Tombstone) error {
	return r.do("Raise", func() error { return r.inner.Raise(ctx, a, ts) })
}

func (r *slowRoots) Trim(ctx context.Context, final func(keystore.Tombstone) bool) error {
	return r.do("Trim", func() error { return r.inner.Trim(ctx, final) })
}

func (r *slowRoots) Remove(ctx context.Context) error {
	return r.do("Remove", func() error {
		r.leaving = true
		c, err := r.inner.Load(ctx)
		if err != nil {
			return err
		}
		var ids []keystore.RootID
		for _, root := range c.Living {
			ids = append(ids, root.ID)
		}
		if err := r.destroy(ctx, ids); err != nil {
			return err
		}
		if len(r.dying) > 0 {
			return fmt.Errorf("%w: %s destroys its last root at %s", keystore.ErrUnavailable, r.url, r.dying[len(r.dying)-1].Until)
		}
		return r.inner.Remove(ctx)
	})
}

// saveRoots is an administrator who takes back every destruction.
func (r *slowRoots) saveRoots() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.dying {
		r.saved[d.ID] = true
	}
}

// reach is what an attacker with the service's administrators can still get.
func (r *slowRoots) reach(ctx context.Context) (ids []keystore.RootID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, _ := r.inner.Load(ctx)
	for _, root := range c.Living {
		ids = append(ids, root.ID)
	}
	return ids
}

func (r *slowRoots) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// counted returns how often each method was called since it was asked last.
func (r *slowRoots) counted() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.calls
	r.calls = map[string]int{}
	return c
}
