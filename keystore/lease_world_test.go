package keystore_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
)

// cluster is a database that several processes share.
type cluster struct {
	t     testing.TB
	ctx   context.Context
	roots keystore.RootStore

	mu   sync.Mutex
	db   *memstore.Store
	ears map[*process]func()
	mute bool // notifications are lost
}

// long is a lease that no test sees the end of, but by its own clocks. The poll in the
// background, twice in it, does not happen either.
const long = time.Minute

func newCluster(t testing.TB, o *keystore.CreateOptions) *cluster {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	c := &cluster{t: t, ctx: ctx, roots: memstore.NewRoots(), db: memstore.New(), ears: map[*process]func(){}, mute: true}
	require.NoError(t, keystore.Create(ctx, &process{c: c}, c.roots, o))
	return c
}

func leaseOf(l time.Duration) *keystore.CreateOptions {
	return &keystore.CreateOptions{Shards: 64, Lease: l}
}

func (c *cluster) current() *memstore.Store {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.db
}

// goBack puts an earlier state of the database in place.
func (c *cluster) goBack(to *memstore.Store) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.db = to
}

func (c *cluster) notifications(heard bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mute = !heard
}

// process is one of those that share the database: its connection, its clocks, its Store.
type process struct {
	c     *cluster
	store *keystore.Store

	wire                 atomic.Pointer[wire]
	boot, wall           atomic.Int64 // how far its clocks are ahead
	gets, polls, commits atomic.Int64
	told                 atomic.Bool
	line                 atomic.Value // a string: the line of history that it says it is on
}

// wire stands between a process and the database. Get is told from Poll.
type wire func(ctx context.Context, name string, do func() error) error

func (c *cluster) process() *process {
	p := c.closed()
	var err error
	p.store, err = p.open()
	require.NoError(c.t, err)
	c.t.Cleanup(func() { p.store.Close() })
	return p
}

func (c *cluster) closed() *process { return &process{c: c} }

func (p *process) open() (*keystore.Store, error) { return p.openWith(p.c.roots, nil) }

func (p *process) openWith(roots keystore.RootStore, o *keystore.Options) (*keystore.Store, error) {
	return keystore.OpenWithClocks(p.c.ctx, p, roots, o,
		func() time.Duration { return time.Since(began) + time.Duration(p.boot.Load()) },
		func() time.Time { return time.Now().Round(0).Add(time.Duration(p.wall.Load())) })
}

var began = time.Now()

// pass lets time pass for a process alone, by both clocks.
func (p *process) pass(d time.Duration) {
	p.boot.Add(int64(d))
	p.wall.Add(int64(d))
}

func (p *process) through(w wire) { p.wire.Store(&w) }
func (p *process) heal()          { p.wire.Store(nil) }

// hang is a network that swallows everything, refuse one that answers at once.
func hang(ctx context.Context, _ string, _ func() error) error {
	<-ctx.Done()
	return fmt.Errorf("no answer: %w: %w", keystore.ErrUnavailable, ctx.Err())
}

func refuse(context.Context, string, func() error) error {
	return fmt.Errorf("refused: %w", keystore.ErrUnavailable)
}

// hurried is the wire of a process for which a lease is over by the time it advances, so
// that it does not wait.
func (p *process) hurried(_ context.Context, name string, do func() error) error {
	switch name {
	case "Notify":
		p.told.Store(true)
	case "Get":
		if p.told.Swap(false) {
			p.pass(2 * long)
		}
	}
	return do()
}

func (p *process) do(ctx context.Context, name string, do func() error) error {
	if w := p.wire.Load(); w != nil {
		return (*w)(ctx, name, do)
	}
	return do()
}

func (p *process) Get(ctx context.Context, keys [][]byte) (recs []keystore.Record, err error) {
	name := "Get"
	if len(keys) > 1 && bytes.Equal(keys[len(keys)-1], []byte{0xff, 'e'}) {
		name = "Poll"
		p.polls.Add(1)
	} else {
		p.gets.Add(1)
	}
	err = p.do(ctx, name, func() (err error) { recs, err = p.c.current().Get(ctx, keys); return err })
	return recs, err
}

func (p *process) Scan(ctx context.Context, from, to []byte, limit int) (recs []keystore.Record, err error) {
	err = p.do(ctx, "Scan", func() (err error) { recs, err = p.c.current().Scan(ctx, from, to, limit); return err })
	return recs, err
}

func (p *process) Commit(ctx context.Context, groups []keystore.Group) (done int, err error) {
	p.commits.Add(1)
	err = p.do(ctx, "Commit", func() (err error) { done, err = p.c.current().Commit(ctx, groups); return err })
	return done, err
}

func (p *process) Line(context.Context) string {
	line, _ := p.line.Load().(string)
	return line
}

func (p *process) Replicated(ctx context.Context) error {
	return p.do(ctx, "Replicated", func() error { return nil })
}

func (p *process) Notify(ctx context.Context) error {
	return p.do(ctx, "Notify", func() error {
		p.c.mu.Lock()
		defer p.c.mu.Unlock()
		for _, hear := range p.c.ears {
			if !p.c.mute {
				hear()
			}
		}
		return nil
	})
}

// Listen hears what is told, whatever the wire.
func (p *process) Listen(ctx context.Context, changed func()) error {
	p.c.mu.Lock()
	p.c.ears[p] = changed
	p.c.mu.Unlock()
	<-ctx.Done()
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	delete(p.c.ears, p)
	return ctx.Err()
}

func (p *process) Name() string { return "memory:shared" }
func (p *process) Close() error { return nil } // the database stays

// keys looks a subject up, which must succeed.
func (p *process) keys(sub keystore.Subject) keystore.Keys {
	p.c.t.Helper()
	ks, err := p.store.Lookup(p.c.ctx, nil, sub)
	require.NoError(p.c.t, err)
	return ks[0]
}

// state is what a process takes a subject's state to be, from its memory if it can.
func (p *process) state(sub keystore.Subject) keystore.State {
	p.c.t.Helper()
	return p.keys(sub).State()
}

func (p *process) request(subs ...keystore.Subject) {
	p.c.t.Helper()
	var rs []keystore.Request
	for _, sub := range subs {
		rs = append(rs, keystore.Request{Subject: sub})
	}
	errs, err := p.store.RequestErasure(p.c.ctx, rs...)
	require.NoError(p.c.t, err)
	for _, err := range errs {
		require.NoError(p.c.t, err)
	}
}

func (p *process) erase(subs ...keystore.Subject) ([]keystore.Erasure, error) {
	var rs []keystore.Request
	for _, sub := range subs {
		rs = append(rs, keystore.Request{Subject: sub})
	}
	return p.store.Erase(p.c.ctx, rs...)
}

// must is erase where nothing may go wrong.
func (p *process) must(subs ...keystore.Subject) {
	p.c.t.Helper()
	es, err := p.erase(subs...)
	require.NoError(p.c.t, err)
	for _, e := range es {
		require.NoError(p.c.t, e.Err)
		require.Equal(p.c.t, keystore.StateErased, e.State)
		require.True(p.c.t, e.Final, e.Subject)
	}
}

func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// check verifies the keystore as a process that starts now finds it.
func (c *cluster) check() {
	c.t.Helper()
	keystoretest.Check(c.t, c.process().store)
}
