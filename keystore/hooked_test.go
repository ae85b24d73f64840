package keystore_test

import (
	"context"

	"github.com/oubli/oubli/keystore"
)

// hook sees every call before it is made; do makes it.
type hook func(name string, do func() error) error

func passOn(_ string, do func() error) error { return do() }

// hookedBackend passes each call on through a hook.
type hookedBackend struct {
	inner keystore.Backend
	call  hook
}

func (h *hookedBackend) Get(ctx context.Context, keys [][]byte) (recs []keystore.Record, err error) {
	err = h.call("Get", func() (err error) { recs, err = h.inner.Get(ctx, keys); return err })
	return recs, err
}

func (h *hookedBackend) Scan(ctx context.Context, from, to []byte, limit int) (recs []keystore.Record, err error) {
	err = h.call("Scan", func() (err error) { recs, err = h.inner.Scan(ctx, from, to, limit); return err })
	return recs, err
}

func (h *hookedBackend) Commit(ctx context.Context, groups []keystore.Group) (done int, err error) {
	err = h.call("Commit", func() (err error) { done, err = h.inner.Commit(ctx, groups); return err })
	return done, err
}

func (h *hookedBackend) Name() string { return h.inner.Name() }
func (h *hookedBackend) Close() error { return h.inner.Close() }

// hookedRoots does the same for a root store, and reports every root that is to live.
type hookedRoots struct {
	inner keystore.RootStore
	call  hook
	learn func(keystore.Root)
}

func (h *hookedRoots) Create(ctx context.Context, c keystore.RootContents) error {
	for _, r := range c.Living {
		h.learn(r)
	}
	return h.call("Create", func() error { return h.inner.Create(ctx, c) })
}

func (h *hookedRoots) Load(ctx context.Context, keys ...keystore.RootID) (c keystore.RootContents, err error) {
	err = h.call("Load", func() (err error) { c, err = h.inner.Load(ctx, keys...); return err })
	return c, err
}

func (h *hookedRoots) Add(ctx context.Context, r keystore.Root) error {
	h.learn(r)
	return h.call("Add", func() error { return h.inner.Add(ctx, r) })
}

func (h *hookedRoots) Destroy(ctx context.Context, ids []keystore.RootID) error {
	return h.call("Destroy", func() error { return h.inner.Destroy(ctx, ids) })
}

func (h *hookedRoots) Raise(ctx context.Context, a keystore.Anchor, ts []keystore.Tombstone) error {
	return h.call("Raise", func() error { return h.inner.Raise(ctx, a, ts) })
}

func (h *hookedRoots) Trim(ctx context.Context, final func(keystore.Tombstone) bool) error {
	return h.call("Trim", func() error { return h.inner.Trim(ctx, final) })
}

func (h *hookedRoots) Remove(ctx context.Context) error {
	return h.call("Remove", func() error { return h.inner.Remove(ctx) })
}

func (h *hookedRoots) Place() keystore.Place { return h.inner.Place() }
