package rootkms_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// hook sees every call before it is made; do makes it.
type hook func(call string, do func() error) error

func passOn(_ string, do func() error) error { return do() }

// hookedKeys passes each call that goes to the service on through a hook.
type hookedKeys struct {
	inner rootkms.Keys
	call  hook
	learn func(secret []byte) // what is wrapped; may be nil
}

func (h *hookedKeys) Make(ctx context.Context, s keystore.StoreID, r keystore.RootID) (name string, err error) {
	err = h.call("Make", func() (err error) { name, err = h.inner.Make(ctx, s, r); return err })
	return name, err
}

func (h *hookedKeys) Wrap(ctx context.Context, name string, secret, ad []byte) (box []byte, err error) {
	if h.learn != nil {
		h.learn(secret)
	}
	err = h.call("Wrap", func() (err error) { box, err = h.inner.Wrap(ctx, name, secret, ad); return err })
	return box, err
}

func (h *hookedKeys) Unwrap(ctx context.Context, name string, box, ad []byte) (secret []byte, err error) {
	err = h.call("Unwrap", func() (err error) { secret, err = h.inner.Unwrap(ctx, name, box, ad); return err })
	return secret, err
}

func (h *hookedKeys) Destroy(ctx context.Context, names []string) error {
	return h.call("Destroy", func() error { return h.inner.Destroy(ctx, names) })
}

func (h *hookedKeys) State(ctx context.Context, names []string) (states []rootkms.KeyState, err error) {
	err = h.call("State", func() (err error) { states, err = h.inner.State(ctx, names); return err })
	return states, err
}

func (h *hookedKeys) Undo(ctx context.Context, names []string) error {
	return h.call("Undo", func() error { return h.inner.Undo(ctx, names) })
}

func (h *hookedKeys) Check(ctx context.Context) error {
	return h.call("Check", func() error { return h.inner.Check(ctx) })
}

func (h *hookedKeys) Before(living, dead []string) []string { return h.inner.Before(living, dead) }
func (h *hookedKeys) Place() keystore.Place                 { return h.inner.Place() }

// hookedShelf does the same for a shelf, and keeps every document that was ever written.
type hookedShelf struct {
	inner rootkms.Shelf
	call  hook
	w     *world
}

func (h *hookedShelf) Get(ctx context.Context, name string) (b []byte, rev string, err error) {
	err = h.call("Get", func() (err error) { b, rev, err = h.inner.Get(ctx, name); return err })
	return b, rev, err
}

func (h *hookedShelf) Put(ctx context.Context, name string, b []byte, rev string) (next string, err error) {
	err = h.call("Put", func() (err error) {
		if next, err = h.inner.Put(ctx, name, b, rev); err == nil {
			h.w.keep(name, b)
		}
		return err
	})
	return next, err
}

func (h *hookedShelf) Delete(ctx context.Context, name, rev string) error {
	return h.call("Delete", func() error { return h.inner.Delete(ctx, name, rev) })
}

func (h *hookedShelf) Name() string { return h.inner.Name() }

// world is a service and a shelf, and what an attacker keeps of the latter.
type world struct {
	t     require.TestingT
	ctx   context.Context
	svc   *kmstest.Service
	shelf *shared
	store keystore.StoreID
	roots []keystore.Root // all that were ever to live

	mu      sync.Mutex
	now     time.Time
	written map[string][][]byte // by document
	blobs   map[string]bool     // the wrapped roots in them
}

const delay = 7 * 24 * time.Hour

func newWorld(t require.TestingT, ctx context.Context, kind kmstest.Kind) *world {
	w := &world{t: t, ctx: ctx, shelf: newShared(), store: keystore.StoreID{7}, now: time.Unix(1_790_000_000, 0), written: map[string][][]byte{}, blobs: map[string]bool{}}
	w.svc = kmstest.NewService(kind, delay, w.clock)
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) keep(name string, b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written[name] = append(w.written[name], slices.Clone(b))
	if name == "head" {
		for _, blob := range rootkms.Wrapped(b) {
			w.blobs[string(blob)] = true
		}
	}
}

// open returns a root store as another process has it, whose calls go through call.
func (w *world) open(call hook, copies time.Duration) *rootkms.Store {
	return rootkms.New(&hookedKeys{w.svc.Keys(), call, nil}, &hookedShelf{w.shelf, call, w}, &rootkms.Options{Copies: copies, Clock: w.clock})
}

// root makes a root, which is not added.
func (w *world) root() keystore.Root {
	r := keystore.Root{Epoch: uint64(len(w.roots) + 1), Created: w.clock().UTC()}
	rand.Read(r.ID[:])
	rand.Read(r.Key[:])
	w.roots = append(w.roots, r)
	return r
}

// create makes a root store of n roots.
func (w *world) create(n int) *rootkms.Store {
	s := w.open(passOn, 0)
	c := keystore.RootContents{Store: w.store, Anchor: keystore.Anchor{Epoch: 1, Counters: []uint64{0}}}
	for range n {
		c.Living = append(c.Living, w.root())
	}
	require.NoError(w.t, s.Create(w.ctx, c))
	return s
}

// lives requires that roots can be had.
func (w *world) lives(roots ...keystore.Root) {
	require.NoError(w.t, w.living(roots...))
}

func (w *world) living(roots ...keystore.Root) error {
	var ids []keystore.RootID
	for _, r := range roots {
		ids = append(ids, r.ID)
	}
	c, err := w.open(passOn, 0).Load(w.ctx, ids...)
	if err != nil {
		return err
	}
	for _, r := range roots {
		i := slices.IndexFunc(c.Living, func(o keystore.Root) bool { return o.ID == r.ID })
		if i < 0 || c.Living[i].Key != r.Key || c.Living[i].Epoch != r.Epoch || !c.Living[i].Created.Equal(r.Created) {
			return fmt.Errorf("root %s of epoch %d does not live", r.ID, r.Epoch)
		}
	}
	return nil
}

// reached are the roots that somebody gets who has all documents ever written, and all
// that the service stores.
func (w *world) reached(svc *kmstest.Service) map[keystore.Secret]bool {
	w.mu.Lock()
	blobs := slices.Collect(maps.Keys(w.blobs))
	w.mu.Unlock()
	out := map[keystore.Secret]bool{}
	for _, blob := range blobs {
		if secret, ok := svc.Plunder([]byte(blob)); ok {
			out[keystore.Secret(secret)] = true
		}
	}
	return out
}

// dead requires that nobody gets roots any more, and that the root store says so.
func (w *world) dead(roots ...keystore.Root) {
	reached := w.reached(w.svc)
	c, err := w.open(passOn, 0).Load(w.ctx)
	require.NoError(w.t, err)
	for _, r := range roots {
		require.False(w.t, reached[r.Key], "root %s of epoch %d was destroyed and can be had", r.ID, r.Epoch)
		require.Contains(w.t, c.Destroyed, r.ID)
	}
}

// eachKind runs f with each kind of service.
func eachKind(t *testing.T, f func(t *testing.T, kind kmstest.Kind)) {
	for name, kind := range map[string]kmstest.Kind{"trimmed": kmstest.Trimmed, "single": kmstest.Single, "scheduled": kmstest.Scheduled} {
		t.Run(name, func(t *testing.T) { f(t, kind) })
	}
}

var errAway = fmt.Errorf("away: %w", keystore.ErrUnavailable)

// failing makes the n-th call fail from 0 on, lost or applied but unanswered, and all after
// it, until it is revived.
type failing struct {
	n          int
	unanswered bool
	dead       bool
	calls      []string
}

func (f *failing) call(name string, do func() error) error {
	f.calls = append(f.calls, name)
	if f.dead {
		return errAway
	}
	if len(f.calls)-1 < f.n {
		return do()
	}
	f.dead = true
	if f.unanswered {
		return errors.Join(errAway, ignore(do()))
	}
	return errAway
}

func ignore(error) error { return nil }
