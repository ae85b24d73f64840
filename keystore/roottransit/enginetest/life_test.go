package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/roottransit"
)

// customers makes subjects with ids from the first on, each with a key.
func customers(t *testing.T, ks *keystore.Store, from, n int) []keystore.Subject {
	t.Helper()
	list := make([]keystore.Subject, n)
	for i := range list {
		s, err := keystore.NewSubject("customer", from+i)
		require.NoError(t, err)
		list[i] = s
	}
	_, err := ks.Ensure(t.Context(), nil, []string{""}, list...)
	require.NoError(t, err)
	return list
}

// erase erases subjects in one advance.
func erase(t *testing.T, ks *keystore.Store, list ...keystore.Subject) []keystore.Erasure {
	t.Helper()
	rs := make([]keystore.Request, len(list))
	for i, s := range list {
		rs[i].Subject = s
	}
	es, err := ks.Erase(t.Context(), rs...)
	require.NoError(t, err)
	for _, e := range es {
		require.NoError(t, e.Err)
	}
	return es
}

// keyed opens a keystore with roots.
func keyed(t *testing.T, b keystore.Backend, roots keystore.RootStore, clock func() time.Time) *keystore.Store {
	t.Helper()
	ks, err := keystore.Open(t.Context(), b, roots, &keystore.Options{Clock: clock})
	require.NoError(t, err)
	t.Cleanup(func() { ks.Close() })
	return ks
}

// total counts requests; each is told in the log, as the figures of the documentation.
func total(t *testing.T, e *Engine, what string) int {
	calls, n := e.Calls(), 0
	for _, c := range calls {
		n += c
	}
	t.Logf("%s: %d requests: %v", what, n, calls)
	return n
}

// TestLife leads the whole life of a keystore with a token that has the generated policy
// and nothing else, and counts what it asks of the server.
func TestLife(t *testing.T) {
	e := start(t, nil)
	c, roots := made(t, e)
	clock := time.Now()
	now := func() time.Time { return clock }
	b := memstore.New()
	e.Calls()
	require.NoError(t, keystore.Create(t.Context(), b, roots, &keystore.CreateOptions{Shards: 64, Grace: time.Hour}))
	total(t, e, "create")
	ks := keyed(t, b, roots, now)
	total(t, e, "open in the process that created")

	list := customers(t, ks, 1, 2000)
	_, err := ks.Lookup(t.Context(), nil, list...)
	require.NoError(t, err)
	require.Zero(t, total(t, e, "make 2,000 keys and read them"), "fields cost no request")

	other := open(t, e, c)
	ks2 := keyed(t, b, other, now)
	require.LessOrEqual(t, total(t, e, "open in another process"), 6)
	_, err = ks2.Lookup(t.Context(), nil, list[1999])
	require.NoError(t, err)
	require.Zero(t, total(t, e, "read there"))

	require.False(t, erase(t, ks, list[:1000]...)[0].Final)
	require.LessOrEqual(t, total(t, e, "erase 1,000 in one advance"), 40)
	_, err = ks2.Lookup(t.Context(), nil, list[1999])
	require.NoError(t, err)
	total(t, e, "the other process meets the new epoch")

	// The grace is over: the superseded root is destroyed, and only then.
	key := func() map[string]any {
		s, err := e.Admin().Logical().Read("transit/keys/oubli")
		require.NoError(t, err)
		return s.Data
	}
	require.EqualValues(t, "0", key()["min_available_version"].(json.Number).String())
	e.Calls()
	clock = clock.Add(2 * time.Hour)
	require.NoError(t, ks.Advance(t.Context()))
	total(t, e, "advance with nothing to erase, and destroy the superseded root")
	require.NotEqual(t, "0", key()["min_available_version"].(json.Number).String())
	st, err := ks.Status(t.Context(), list[0])
	require.NoError(t, err)
	require.True(t, st[0].Final)

	e.Calls()
	r, err := roots.Rehearse(t.Context())
	require.NoError(t, err)
	for _, step := range r.Steps {
		t.Logf("rehearsal: %v %s (%s)", step.OK, step.What, step.Note)
	}
	require.True(t, r.Proven())
	total(t, e, "rehearse")

	// Away and back.
	elsewhere := memstore.NewRoots()
	require.NoError(t, ks.MoveRoots(t.Context(), elsewhere))
	total(t, e, "move away")
	clock = clock.Add(2 * time.Hour)
	require.NoError(t, ks.MoveRoots(t.Context(), open(t, e, c)))
	total(t, e, "move back")
	report, err := ks.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, report.Problems)
	_, err = ks.Lookup(t.Context(), nil, list[1000:]...)
	require.NoError(t, err)
}

// TestSeveralAtOnce has clients add and destroy roots side by side. Each root that none of
// them destroyed opens afterwards.
func TestSeveralAtOnce(t *testing.T) {
	e := start(t, nil)
	c, first := made(t, e)
	require.NoError(t, first.Create(t.Context(), keystore.RootContents{Store: keystore.StoreID{1}}))
	stores := []*roottransit.Store{first, open(t, e, c), open(t, e, c)}
	var wg sync.WaitGroup
	errs := make([]error, len(stores))
	for i, s := range stores {
		wg.Go(func() {
			for n := range 4 {
				keep, drop := root(byte(i), byte(n), 0), root(byte(i), byte(n), 1)
				for _, f := range []func() error{
					func() error { return s.Add(context.Background(), drop) },
					func() error { return s.Add(context.Background(), keep) },
					func() error { return s.Destroy(context.Background(), []keystore.RootID{drop.ID}) },
				} {
					if errs[i] = f(); errs[i] != nil {
						return
					}
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	got, err := stores[2].Load(t.Context(), ids(func(k byte) bool { return k == 0 })...)
	require.NoError(t, err)
	require.Len(t, got.Living, 12)
	for _, r := range got.Living {
		require.Equal(t, root(r.ID[1], r.ID[2], 0).Key, r.Key)
	}
	require.Empty(t, got.Dying)
	require.ElementsMatch(t, ids(func(k byte) bool { return k == 1 }), got.Destroyed)
}

// root is a root with an id and a key of its own.
func root(i, n, kind byte) keystore.Root {
	return keystore.Root{ID: keystore.RootID{1, i, n, kind}, Epoch: uint64(n) + 1, Created: time.Unix(1763800000, 0).UTC(), Key: keystore.Secret{9, i, n, kind}}
}

func ids(want func(kind byte) bool) (list []keystore.RootID) {
	for i := range byte(3) {
		for n := range byte(4) {
			for kind := range byte(2) {
				if want(kind) {
					list = append(list, root(i, n, kind).ID)
				}
			}
		}
	}
	return list
}

// TestEachFault loses each request of adding and destroying a root in turn: once before it
// was done, once after. Nothing living is lost, and the same call again does the rest.
func TestEachFault(t *testing.T) {
	var at, seen int
	var applied, failed bool
	var mu sync.Mutex
	e := start(t, &Options{Wrap: func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			seen++
			hit := seen == at
			failed = failed || hit
			mu.Unlock()
			if !hit {
				h.ServeHTTP(w, r)
				return
			}
			if applied {
				h.ServeHTTP(nowhere{http.Header{}}, r)
			}
			panic(http.ErrAbortHandler)
		})
	}})
	run := func(t *testing.T, n int, kind bool) (more bool) {
		mu.Lock()
		at, seen, applied, failed = 0, 0, kind, false
		mu.Unlock()
		c := e.Config()
		c.Key = fmt.Sprintf("oubli-%d-%v", n, kind)
		c.Path = c.Key
		_, err := e.Setup(c)
		require.NoError(t, err)
		s := open(t, e, c)
		old, next := root(0, 0, 0), root(0, 1, 0)
		require.NoError(t, s.Create(t.Context(), keystore.RootContents{Store: keystore.StoreID{1}, Living: []keystore.Root{old}}))
		mu.Lock()
		at, seen = n, 0
		mu.Unlock()
		again := func(f func() error) {
			if f() != nil {
				require.NoError(t, f())
			}
		}
		again(func() error { return s.Add(t.Context(), next) })
		// The one that stays is the older one, and has to be wrapped anew.
		again(func() error { return s.Destroy(t.Context(), []keystore.RootID{next.ID}) })
		got, err := s.Load(t.Context(), old.ID)
		if err != nil {
			got, err = s.Load(t.Context(), old.ID)
		}
		require.NoError(t, err)
		require.Equal(t, []keystore.Root{old}, got.Living)
		require.Equal(t, []keystore.RootID{next.ID}, got.Destroyed)
		mu.Lock()
		defer mu.Unlock()
		return failed
	}
	for _, kind := range []bool{false, true} {
		n := 1
		for run(t, n, kind) {
			n++
			require.Less(t, n, 100)
		}
		require.Greater(t, n, 10)
		t.Logf("%d requests, applied %v", n-1, kind)
	}
}

// nowhere is an answer that nobody gets.
type nowhere struct{ h http.Header }

func (n nowhere) Header() http.Header         { return n.h }
func (n nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n nowhere) WriteHeader(int)             {}
