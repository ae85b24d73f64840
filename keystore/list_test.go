package keystore_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
)

// pages lists everybody of a state, limit at a time.
func pages(ctx context.Context, s *keystore.Store, state keystore.State, limit int) (list []keystore.Status, err error) {
	q := keystore.ListQuery{State: state, Limit: limit}
	for {
		some, next, err := s.List(ctx, q)
		if err != nil {
			return list, err
		}
		if len(some) > limit || next != "" && len(some) < limit {
			return list, fmt.Errorf("a page of %d has %d, and goes on at %q", limit, len(some), next)
		}
		list = append(list, some...)
		if q.After = next; next == "" {
			return list, nil
		}
	}
}

// unlisted says what is wrong with the lists, where statuses are everybody's. It reads them
// in pages of another size each time.
func (w *world) unlisted(statuses []keystore.Status) (wrong []string) {
	h, err := w.store.Health(w.ctx)
	require.NoError(w.t, err)
	limits := []int{1, 1000, 3, 2}
	limit := limits[w.listed%len(limits)]
	w.listed++
	for _, state := range []keystore.State{keystore.StateUnknown, keystore.StateErasing, keystore.StateRestricted, keystore.StateErased} {
		want := map[keystore.Subject]keystore.Status{}
		for _, st := range statuses {
			st.Keys, st.Dropped, st.Gone = nil, nil, nil
			listed := st.State == state
			switch state {
			case keystore.StateUnknown: // everybody who is known
				listed = !listed
			case keystore.StateErased:
				// What was final before a restore may not be for a while after it, and has no
				// tombstone any more.
				listed = listed && !st.Final && slices.ContainsFunc(h.NotFinal, func(t keystore.Tombstone) bool { return t.Subject == st.Subject })
			}
			if listed {
				want[st.Subject] = st
			}
		}
		list, err := pages(w.ctx, w.store, state, limit)
		if err != nil || len(list) != len(want) {
			wrong = append(wrong, fmt.Sprintf("%d are listed as %s, and %d are: %v", len(list), state, len(want), err))
		}
		for _, st := range list {
			if st.State != state && state != keystore.StateUnknown || !reflect.DeepEqual(st, want[st.Subject]) {
				wrong = append(wrong, fmt.Sprintf("of those who are %s, %s is listed as %+v, and is %+v", state, st.Subject, st, want[st.Subject]))
			}
			delete(want, st.Subject) // or it comes twice
		}
	}
	return wrong
}

func names(list []keystore.Status) (texts []string) {
	for _, st := range list {
		texts = append(texts, st.Subject.ID())
	}
	return texts
}

// everywhere runs a test with a keystore in memory and one in a file.
func everywhere(t *testing.T, grace time.Duration, test func(t *testing.T, w *world)) {
	t.Run("memory", func(t *testing.T) {
		test(t, newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), grace, 64))
	})
	t.Run("file", func(t *testing.T) {
		m, err := newInFile(t.TempDir())
		require.NoError(t, err)
		w := newWorld(t, m, memstore.NewRoots(), grace, 64)
		t.Cleanup(func() { w.store.Close() })
		test(t, w)
	})
}

// request makes people erasing.
func (w *world) request(people ...*person) {
	for _, p := range people {
		errs, err := w.store.RequestErasure(w.ctx, keystore.Request{Subject: p.sub})
		require.NoError(w.t, joined(errs, err))
	}
}

func TestLists(t *testing.T) {
	everywhere(t, time.Hour, func(t *testing.T, w *world) {
		w.check() // nobody at all
		w.add(60)
		w.write([]string{"", "tax"}, w.people[:55]...)
		w.check()
		require.NoError(t, joined(w.store.Restrict(w.ctx, &keystore.RestrictOptions{Hold: "case 7"}, subjects(w.people[5:15])...)))
		w.request(w.people[15:25]...)
		require.NoError(t, erase(&scene{world: w}, nil, w.people[25:35]...))
		w.sync(only(w.people[25:35]...))
		require.NoError(t, erase(&scene{world: w}, []string{"tax"}, w.people[35:40]...))
		w.sync(func(p *person, _ uint32, purpose string, _ keystore.Status) bool {
			return purpose == "" && slices.Contains(w.people[35:40], p)
		})
		w.check()
		require.NoError(t, joined(w.store.Release(w.ctx, subjects(w.people[5:8])...)))
		require.NoError(t, w.store.Cancel(w.ctx, w.people[16].sub))
		require.NoError(t, w.store.Readmit(w.ctx, w.people[25].sub))
		w.check()
		w.reopen()
		w.check()
		w.settle()
	})
}

// The worklists keep the order in which people came onto them, within a page of the key
// tree, and everybody comes in the order of the shards.
func TestListsHaveTheOrderOfTheWorklists(t *testing.T) {
	w := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), 0, 1)
	w.add(9)
	w.write([]string{""}, w.people...)
	for _, i := range []int{4, 2, 7, 5} {
		w.request(w.people[i])
	}
	require.NoError(t, w.store.Cancel(w.ctx, w.people[2].sub))
	w.request(w.people[2])
	for _, limit := range []int{1, 2, 3, 9} {
		list, err := pages(w.ctx, w.store, keystore.StateErasing, limit)
		require.NoError(t, err)
		require.Equal(t, []string{"5", "8", "6", "3"}, names(list))
		list, err = pages(w.ctx, w.store, keystore.StateUnknown, limit)
		require.NoError(t, err)
		require.Equal(t, []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}, names(list))
	}
}

// Who is erased and not final stands beside the root once an advance is over, and on the
// worklists before.
func TestListOfErasuresThatAreNotFinal(t *testing.T) {
	everywhere(t, time.Hour, func(t *testing.T, w *world) {
		s := &scene{world: w}
		w.add(8)
		w.write([]string{""}, w.people...)
		list := func() []string {
			var got []string
			for _, limit := range []int{1, 3, 100} {
				list, err := pages(w.ctx, w.store, keystore.StateErased, limit)
				require.NoError(t, err)
				if limit > 1 {
					require.Equal(t, got, names(list))
				}
				got = names(list)
			}
			slices.Sort(got)
			return got
		}
		require.Empty(t, list())
		require.NoError(t, erase(s, nil, w.people[:3]...))
		w.sync(only(w.people[:3]...))
		h, err := w.store.Health(w.ctx)
		require.NoError(t, err)
		require.Zero(t, h.Unadvanced, "the worklists were drained")
		require.Equal(t, []string{"1", "2", "3"}, list())
		s.destroyOnly(w.people[3:5]...)
		h, err = w.store.Health(w.ctx)
		require.NoError(t, err)
		require.Equal(t, 2, h.Unadvanced)
		require.Equal(t, []string{"1", "2", "3", "4", "5"}, list())

		// An advance between two pages makes nobody come twice, or not at all.
		first, next, err := w.store.List(w.ctx, keystore.ListQuery{State: keystore.StateErased, Limit: 2})
		require.NoError(t, err)
		require.NoError(t, w.store.Advance(w.ctx))
		rest, next, err := w.store.List(w.ctx, keystore.ListQuery{State: keystore.StateErased, Limit: 100, After: next})
		require.NoError(t, err)
		require.Empty(t, next)
		all := names(append(first, rest...))
		slices.Sort(all)
		require.Equal(t, []string{"1", "2", "3", "4", "5"}, all)

		// Who was readmitted is not erased any more, and erased again comes once.
		require.NoError(t, w.store.Readmit(w.ctx, w.people[0].sub))
		require.Equal(t, []string{"2", "3", "4", "5"}, list())
		w.write([]string{""}, w.people[0])
		require.NoError(t, erase(s, nil, w.people[0]))
		w.sync(only(w.people[0]))
		require.Equal(t, []string{"1", "2", "3", "4", "5"}, list())
		w.check()
		w.roots.call = func(name string, do func() error) error {
			if name == "Trim" { // tombstones stay that nobody needs
				return keystore.ErrUnavailable
			}
			return do()
		}
		w.finalize()
		require.Empty(t, list())
	})
}

// Somebody is erased twice: the last time counts.
func TestListOfThoseErasedAgain(t *testing.T) {
	w := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), time.Hour, 1)
	s := &scene{world: w}
	w.add(2)
	w.write([]string{""}, w.people...)
	ann, bob := w.people[0], w.people[1]
	erased := func(after string, limit int) (got []string, next string) {
		list, next, err := w.store.List(w.ctx, keystore.ListQuery{State: keystore.StateErased, Limit: limit, After: after})
		require.NoError(t, err)
		return names(list), next
	}
	again := func() {
		require.NoError(t, w.store.Readmit(w.ctx, ann.sub))
		w.write([]string{""}, ann)
		s.destroyOnly(ann)
	}
	require.NoError(t, erase(s, nil, ann, bob))
	w.sync(only(ann, bob))
	again()
	again() // two entries on the worklist, and a tombstone beside the root
	got, next := erased("", 1)
	require.Equal(t, []string{"2"}, got)
	got, _ = erased("", 10)
	require.Equal(t, []string{"2", "1"}, got)
	require.NoError(t, w.store.Advance(w.ctx))
	got, _ = erased(next, 10)
	require.Equal(t, []string{"1"}, got, "though an advance came between")
	got, _ = erased("", 10)
	require.Equal(t, []string{"2", "1"}, got)
	w.check()
}

// Between two pages people come and go: nobody comes twice who stays, and the list ends.
func TestListsWhilePeopleChange(t *testing.T) {
	for _, state := range []keystore.State{keystore.StateUnknown, keystore.StateErasing, keystore.StateRestricted} {
		t.Run(state.String(), func(t *testing.T) {
			w := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), 0, 4)
			w.add(40)
			w.write([]string{""}, w.people...)
			to, back := func(p *person) { w.request(p) }, func(p *person) { require.NoError(t, w.store.Cancel(w.ctx, p.sub)) }
			if state == keystore.StateRestricted {
				to = func(p *person) { require.NoError(t, joined(w.store.Restrict(w.ctx, nil, p.sub))) }
				back = func(p *person) { require.NoError(t, joined(w.store.Release(w.ctx, p.sub))) }
			}
			stay := w.people[:20]
			for _, p := range w.people[:30] {
				to(p)
			}
			seen := map[keystore.Subject]int{}
			q := keystore.ListQuery{State: state, Limit: 1}
			for n := 0; ; n++ {
				list, next, err := w.store.List(w.ctx, q)
				require.NoError(t, err)
				for _, st := range list {
					seen[st.Subject]++
				}
				if q.After = next; next == "" {
					break
				}
				if n < 10 {
					back(w.people[20+n])
					to(w.people[30+n])
				}
			}
			for _, p := range stay {
				require.Equal(t, 1, seen[p.sub], p.sub)
			}
			for _, p := range w.people {
				require.LessOrEqual(t, seen[p.sub], 1, p.sub)
			}
		})
	}
}

// somebodyElse opens the keystore of w once more, through a hook.
func somebodyElse(w *world, call hook) *keystore.Store {
	s, err := keystore.Open(w.ctx, &hookedBackend{inner: w.backend, call: call}, w.roots, w.readOnly())
	require.NoError(w.t, err)
	return s
}

// An entry of a worklist is read, and then its subject moves on.
func TestListLeavesOutWhoMovedOn(t *testing.T) {
	w := newWorld(t, &inMemory{memstore.New()}, memstore.NewRoots(), 0, 1)
	w.add(5)
	w.write([]string{""}, w.people...)
	w.request(w.people...)
	meanwhile := func() {}
	reader := somebodyElse(w, func(name string, do func() error) error {
		if name == "Get" {
			meanwhile()
		}
		return do()
	})
	for _, again := range []bool{false, true} {
		meanwhile = func() {
			meanwhile = func() {}
			require.NoError(t, w.store.Cancel(w.ctx, w.people[0].sub))
			if again { // it has another entry then, further on
				w.request(w.people[0])
			}
		}
		list, next, err := reader.List(w.ctx, keystore.ListQuery{State: keystore.StateErasing, Limit: 2})
		require.NoError(t, err)
		require.Equal(t, []string{"2", "3"}, names(list))
		require.NotEmpty(t, next)
		list, next, err = reader.List(w.ctx, keystore.ListQuery{State: keystore.StateErasing, Limit: 100, After: next})
		require.NoError(t, err)
		require.Empty(t, next)
		if again {
			require.Equal(t, []string{"4", "5", "1"}, names(list))
		} else {
			require.Equal(t, []string{"4", "5"}, names(list))
			w.request(w.people[0])
			for _, p := range w.people[1:] {
				require.NoError(t, w.store.Cancel(w.ctx, p.sub))
				w.request(p)
			}
		}
	}
}
