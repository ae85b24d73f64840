package enginetest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/internal/oracle"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/roottransit"
)

// person is a subject with what the test knows about its keys.
type person struct {
	sub  keystore.Subject
	live map[uint32]bool // must be reachable
	dead map[uint32]bool // destroyed on purpose: must never come back
}

// world is a keystore whose root is in the engine, with its people, and an attacker who has
// every record that was ever written to it, every document that was ever written to the
// shelf, and the storage of the engine as it is in the end.
type world struct {
	t        require.TestingT
	ctx      context.Context
	now      time.Time
	grace    time.Duration
	copies   time.Duration // how long copies of the engine's storage are kept
	engine   *closed
	place    int // of the roots: each move makes another
	memory   []*memstore.Store
	backend  *fault.Backend
	fed      int
	roots    *learning
	leaving  *learning // the place that a move has left and not emptied
	store    *keystore.Store
	attacker *oracle.Attacker
	learned  map[keystore.Secret]bool // all roots; the attacker knows one when it sees it
	opened   []*roottransit.Store
	seen     *seen
	taken    int // documents of the shelf that are in loot
	loot     *loot
	people   []*person
	line     int // restores so far: each begins a new time line
}

// closed is the engine of a run of histories: one Vault with many mounts, and a place for
// faults in what it answers.
type closed struct {
	*Engine
	mu     sync.Mutex
	meddle func(next http.Handler) http.Handler
	worlds int
}

func startClosed(t testingT) *closed {
	c := &closed{}
	e, err := Start(&Options{Wrap: c.wrap})
	require.NoError(t, err)
	c.Engine = e
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return c
}

type testingT interface {
	require.TestingT
	Cleanup(func())
}

func (c *closed) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		if c.meddle == nil {
			c.mu.Unlock()
			next.ServeHTTP(w, r)
			return
		}
		defer c.mu.Unlock() // a fault is for one request at a time
		c.meddle(next).ServeHTTP(w, r)
	})
}

// set puts f around the engine's handler; nil takes it away.
func (c *closed) set(f func(next http.Handler) http.Handler) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.meddle = f
}

// learning is a root store that tells the attacker's bookkeeping of every root that is to
// live. The attacker does not get them.
type learning struct {
	keystore.RootStore
	learn func(keystore.Root)
}

func (l *learning) Create(ctx context.Context, c keystore.RootContents) error {
	for _, r := range c.Living {
		l.learn(r)
	}
	return l.RootStore.Create(ctx, c)
}

func (l *learning) Add(ctx context.Context, r keystore.Root) error {
	l.learn(r)
	return l.RootStore.Add(ctx, r)
}

// Remove removes what is there. A root store in memory minds if nothing is, others don't.
func (l *learning) Remove(ctx context.Context) error {
	if err := l.RootStore.Remove(ctx); !errors.Is(err, keystore.ErrNotFound) {
		return err
	}
	return nil
}

func newWorld(t require.TestingT, e *closed, grace, copies time.Duration, shards int) *world {
	e.set(nil)
	e.worlds++
	w := &world{t: t, ctx: context.Background(), now: time.Now().Truncate(time.Second), grace: grace, copies: copies, engine: e,
		attacker: oracle.NewAttacker(), learned: map[keystore.Secret]bool{}, loot: newLoot()}
	number := e.worlds
	w.seen = &seen{record: e.Record(), latest: map[string]*stored{}, mount: func(mount string) bool {
		return mount == transitMount(number)+"/" || mount == kvMount(number)+"/"
	}}
	w.seen.update(w.now)
	w.attach(memstore.New())
	w.roots = w.transit()
	require.NoError(t, keystore.Create(w.ctx, w.backend, w.roots, &keystore.CreateOptions{Grace: grace, Shards: shards}))
	w.open()
	return w
}

func transitMount(n int) string { return fmt.Sprintf("transit%d", n) }
func kvMount(n int) string      { return fmt.Sprintf("kv%d", n) }

// transit is a root store in the engine, under a key and a path of its own.
func (w *world) transit() *learning {
	w.place++
	name := fmt.Sprintf("oubli%d", w.place)
	c := &roottransit.Config{Address: w.engine.URL(), Mount: transitMount(w.engine.worlds), Key: name, KV: kvMount(w.engine.worlds), Path: name, Copies: w.copies}
	token, err := w.engine.Setup(c)
	require.NoError(w.t, err)
	s, err := roottransit.Open(w.engine.Client(token), c, &roottransit.Options{Clock: w.clock})
	require.NoError(w.t, err)
	w.opened = append(w.opened, s)
	return w.learning(s)
}

// learning has the bookkeeping see every root of a root store.
func (w *world) learning(s keystore.RootStore) *learning {
	return &learning{s, func(r keystore.Root) {
		w.learned[r.Key] = true
		w.attacker.Root(r)
	}}
}

// close ends the world.
func (w *world) close() {
	require.NoError(w.t, w.store.Close())
	for _, s := range w.opened {
		require.NoError(w.t, s.Close())
	}
}

func (w *world) clock() time.Time { return w.now }

func (w *world) attach(m *memstore.Store) {
	w.backend, w.fed = fault.Wrap(m), 0
	w.memory = append(w.memory, m)
}

func (w *world) options() *keystore.Options { return &keystore.Options{Clock: w.clock} }

func (w *world) open() {
	var err error
	w.store, err = keystore.Open(w.ctx, w.backend, w.roots, w.options())
	require.NoError(w.t, err)
}

// reopen is what a new process does.
func (w *world) reopen() {
	w.feed()
	require.NoError(w.t, w.store.Close())
	w.attach(w.memory[len(w.memory)-1].Snapshot())
	w.open()
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	w.seen.update(w.now)
	w.now = w.now.Add(d)
}

// add brings in people, without keys yet.
func (w *world) add(n int) {
	for range n {
		sub, err := keystore.NewSubject("customer", len(w.people)+1)
		require.NoError(w.t, err)
		w.people = append(w.people, &person{sub: sub, live: map[uint32]bool{}, dead: map[uint32]bool{}})
	}
}

func subjects(people []*person) (list []keystore.Subject) {
	for _, p := range people {
		list = append(list, p.sub)
	}
	return list
}

// write makes keys for those who may be written for.
func (w *world) write(people ...*person) {
	_, err := w.store.Ensure(w.ctx, nil, []string{""}, subjects(people)...)
	require.NoError(w.t, err)
	w.sync(nil)
}

// sync takes over what the store says of everybody's keys. A key may be gone only where
// lose says so; what was destroyed must not be back.
func (w *world) sync(lose func(p *person) bool) {
	list, err := w.store.Status(w.ctx, subjects(w.people)...)
	require.NoError(w.t, err)
	for i, st := range list {
		p := w.people[i]
		have := map[uint32]bool{}
		for _, k := range st.Keys {
			require.False(w.t, p.dead[k.ID], "key %08x of %s was destroyed and is back", k.ID, p.sub)
			have[k.ID] = true
		}
		for id := range p.live {
			if !have[id] {
				require.True(w.t, lose != nil && lose(p), "key %08x of %s is lost, in state %s", id, p.sub, st.State)
				p.dead[id] = true
			}
		}
		p.live = have
	}
}

// erase erases people, and returns what the keystore says of it.
func (w *world) erase(people ...*person) ([]keystore.Erasure, error) {
	var rs []keystore.Request
	for _, p := range people {
		rs = append(rs, keystore.Request{Subject: p.sub, Unknown: true})
	}
	return w.store.Erase(w.ctx, rs...)
}

// erased erases people and requires that it goes well.
func (w *world) erased(people ...*person) {
	es, err := w.erase(people...)
	require.NoError(w.t, err)
	for i, e := range es {
		require.NoError(w.t, e.Err)
		if w.grace == 0 && w.copies == 0 {
			require.True(w.t, e.Final, "the erasure of %s is not final at once", people[i].sub)
		}
	}
	w.sync(func(p *person) bool { return slices.Contains(people, p) })
}

// feed gives the attacker what was written since.
func (w *world) feed() {
	recs := w.backend.Attempted()
	w.attacker.Write(recs[w.fed:]...)
	for _, rec := range recs[w.fed:] {
		w.loot.take(rec.Value)
	}
	w.fed = len(recs)
	w.seen.update(w.now)
	for _, d := range w.seen.docs[w.taken:] {
		if d.Engine == "kv" {
			w.loot.take(d.Value)
		}
	}
	w.taken = len(w.seen.docs)
}

// open returns the roots that are within reach of whoever has such documents of the engine,
// and everything else there is.
func (w *world) within(which func(*stored) bool) []keystore.Root {
	w.feed()
	roots := w.loot.open(w.seen.transitKeys(which), func(k keystore.Secret) bool { return w.learned[k] })
	if elsewhere, ok := w.roots.RootStore.(*memstore.Roots); ok {
		c, err := elsewhere.Load(w.ctx)
		require.NoError(w.t, err)
		roots = append(roots, c.Living...)
	}
	return roots
}

// violations lists what contradicts the promise at this moment.
func (w *world) violations() []string {
	w.feed()
	list := w.attacker.Faults()
	bad := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	roots := w.within(standing(w.now, w.copies))
	reach := w.attacker.Reach(roots)
	current, err := w.memory[len(w.memory)-1].Scan(w.ctx, []byte{0}, []byte{0xff, 0xff}, 1<<20)
	require.NoError(w.t, err)
	now := w.attacker.Reach(w.within(standing(w.now, 0)), current...)
	statuses, err := w.store.Status(w.ctx, subjects(w.people)...)
	require.NoError(w.t, err)
	for i, st := range statuses {
		p := w.people[i]
		for id := range p.live {
			if !now.Data[oracle.Label{Subject: p.sub.String(), ID: id}] {
				bad("key %08x of %s, who lives, can't be reached", id, p.sub)
			}
		}
		for id := range p.dead {
			secrets := w.attacker.Secrets(oracle.Label{Subject: p.sub.String(), ID: id})
			if len(secrets) == 0 {
				bad("the attacker never saw key %08x of %s", id, p.sub)
			}
			for _, s := range secrets {
				if st.Final && reach.Keys[s] {
					bad("the erasure of %s is final, and its key %08x is within reach", p.sub, id)
				}
			}
		}
	}
	for _, name := range w.loot.unbound() {
		bad("the root in %s is not bound to what the document says", name)
	}
	for _, d := range w.seen.docs {
		if leaks := w.attacker.Leaks(d.Value, nil); len(leaks) > 0 {
			bad("a document of %s has unwrapped keys: %v", d.Mount, leaks)
		}
	}
	return list
}

func (w *world) check() { require.Empty(w.t, w.violations()) }

// settle lets every grace end, and all copies of the engine's storage, and checks that then
// everything destroyed is out of reach.
func (w *world) settle() {
	for range 3 { // an advance may have waited for an older root to die
		w.pass(max(w.grace, w.copies) + time.Second)
		require.NoError(w.t, w.store.Advance(w.ctx))
	}
	statuses, err := w.store.Status(w.ctx, subjects(w.people)...)
	require.NoError(w.t, err)
	for i, st := range statuses {
		if len(w.people[i].dead) > 0 {
			require.True(w.t, st.Final, "the erasure of %s does not become final", w.people[i].sub)
		}
	}
	w.check()
	report, err := w.store.Verify(w.ctx)
	require.NoError(w.t, err)
	require.Empty(w.t, report.Problems)
	c, err := w.roots.Load(w.ctx)
	require.NoError(w.t, err)
	require.Len(w.t, c.Living, 1)
	require.Empty(w.t, c.Dying)
}

// before lists the erased whom the storage opens that the engine ever had. That it does is
// why there are no copies to be kept of it, or not for long, and shows that the attacker
// would see what is within reach.
func (w *world) before() (list []string) {
	reach := w.attacker.Reach(w.within(everOne))
	for _, p := range w.people {
		for id := range p.dead {
			for _, s := range w.attacker.Secrets(oracle.Label{Subject: p.sub.String(), ID: id}) {
				if reach.Keys[s] {
					list = append(list, p.sub.String())
				}
			}
		}
	}
	return slices.Compact(list)
}

// caught requires that the oracle reports what contains text.
func (w *world) caught(text string) {
	list := w.violations()
	require.True(w.t, slices.ContainsFunc(list, func(v string) bool { return strings.Contains(v, text) }), "it was not caught: %q", list)
}
