package kmstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// ShelfSuite says how to get at the Shelf under test. Only New is required.
type ShelfSuite struct {
	// New returns an empty shelf.
	New func() (rootkms.Shelf, error)

	// Again returns another client of the place that s is a client of, as another process
	// has, or the same one after it was started again.
	Again func(s rootkms.Shelf) (rootkms.Shelf, error)

	// Away returns shelves that can't be reached, or refuse this client.
	Away func() ([]rootkms.Shelf, error)
}

// RunShelf runs each case as a subtest, as Run does. T is *testing.T.
func RunShelf[T tester[T]](t T, s *ShelfSuite) {
	for _, c := range shelfCases {
		t.Run(c.name, func(t T) {
			if err := s.run(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Check runs all cases and returns what failed, joined; nil if the shelf keeps its promises.
func (s *ShelfSuite) Check(ctx context.Context) error {
	var errs []error
	for _, c := range shelfCases {
		if err := s.run(ctx, c); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

// shelfCase is one promise of rootkms.Shelf.
type shelfCase struct {
	name  string
	check func(ctx context.Context, h *shelf) error
}

var shelfCases = []shelfCase{
	{"absent", checkDocAbsent},
	{"put and get", checkDocPut},
	{"conflicts", checkDocConflicts},
	{"delete", checkDocDelete},
	{"revisions never come back", checkDocRevisions},
	{"large and binary documents", checkDocValues},
	{"names", checkDocNames},
	{"another client", checkDocAgain},
	{"racing writers", checkDocRace},
	{"canceled context", checkDocCanceled},
	{"away", checkDocAway},
	{"name", checkShelfName},
}

func (s *ShelfSuite) run(ctx context.Context, c shelfCase) error {
	sh, err := s.New()
	if err != nil {
		return fmt.Errorf("new shelf: %w", err)
	}
	return c.check(ctx, &shelf{Shelf: sh, suite: s})
}

// shelf is the shelf of one case.
type shelf struct {
	rootkms.Shelf
	suite *ShelfSuite
}

// put writes a document, which must succeed.
func (h *shelf) put(ctx context.Context, name, value, rev string) (string, error) {
	b := []byte(value)
	next, err := h.Put(ctx, name, b, rev)
	switch {
	case err != nil:
		return "", fmt.Errorf("put %s at revision %q: %w", name, rev, err)
	case next == "" || next == rev:
		return "", fmt.Errorf("put %s at revision %q returns revision %q", name, rev, next)
	case string(b) != value:
		return "", fmt.Errorf("put %s changed what it was given", name)
	}
	return next, h.want(ctx, name, value, next)
}

// want checks what stands under a name; rev "": nothing.
func (h *shelf) want(ctx context.Context, name, value, rev string) error {
	got, is, err := h.Get(ctx, name)
	if err != nil {
		return fmt.Errorf("get %s: %w", name, err)
	}
	if is != rev || string(got) != value {
		return fmt.Errorf("get %s: revision %q with %d bytes, want revision %q with %d bytes as written", name, is, len(got), rev, len(value))
	}
	clear(got) // it belongs to the caller
	return nil
}

// refuse writes and deletes at a revision that does not hold.
func (h *shelf) refuse(ctx context.Context, name, rev string) error {
	if _, err := h.Put(ctx, name, []byte("not this"), rev); !errors.Is(err, keystore.ErrConflict) {
		return fmt.Errorf("put %s at revision %q, which does not hold: got %v, want ErrConflict", name, rev, err)
	}
	if rev == "" {
		return nil
	}
	if err := h.Delete(ctx, name, rev); !errors.Is(err, keystore.ErrConflict) {
		return fmt.Errorf("delete %s at revision %q, which does not hold: got %v, want ErrConflict", name, rev, err)
	}
	return nil
}

func checkDocAbsent(ctx context.Context, h *shelf) error { return h.want(ctx, "head", "", "") }

func checkDocPut(ctx context.Context, h *shelf) error {
	rev := ""
	for _, value := range []string{"one", "two", "two", ""} {
		var err error
		if rev, err = h.put(ctx, "head", value, rev); err != nil {
			return err
		}
		if err := h.want(ctx, "head", value, rev); err != nil {
			return fmt.Errorf("again: %w", err)
		}
	}
	return h.want(ctx, "other", "", "")
}

func checkDocConflicts(ctx context.Context, h *shelf) error {
	one, err := h.put(ctx, "head", "one", "")
	if err != nil {
		return err
	}
	if err := h.refuse(ctx, "head", ""); err != nil {
		return err
	}
	two, err := h.put(ctx, "head", "two", one)
	if err != nil {
		return err
	}
	return first(
		func() error { return h.refuse(ctx, "head", one) },
		func() error { return h.refuse(ctx, "other", two) },
		func() error { return h.want(ctx, "head", "two", two) },
		func() error { return h.want(ctx, "other", "", "") },
	)
}

func checkDocDelete(ctx context.Context, h *shelf) error {
	rev, err := h.put(ctx, "head", "one", "")
	if err != nil {
		return err
	}
	other, err := h.put(ctx, "other", "stays", "")
	if err != nil {
		return err
	}
	return first(
		func() error {
			if err := h.Delete(ctx, "head", rev); err != nil {
				return fmt.Errorf("delete: %w", err)
			}
			return nil
		},
		func() error { return h.want(ctx, "head", "", "") },
		func() error { return h.want(ctx, "other", "stays", other) },
		func() error { return h.refuse(ctx, "head", rev) },
		func() error { _, err := h.put(ctx, "head", "new", ""); return err },
	)
}

func checkDocRevisions(ctx context.Context, h *shelf) error {
	seen := map[string]bool{}
	for range 3 {
		rev := ""
		for range 3 {
			var err error
			if rev, err = h.put(ctx, "head", "same", rev); err != nil {
				return err
			}
			if seen[rev] {
				return fmt.Errorf("revision %q came back", rev)
			}
			seen[rev] = true
		}
		if err := h.Delete(ctx, "head", rev); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		for old := range seen {
			if err := h.refuse(ctx, "head", old); err != nil {
				return fmt.Errorf("deleted: %w", err)
			}
		}
	}
	return nil
}

func checkDocValues(ctx context.Context, h *shelf) error {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	rev := ""
	for _, value := range [][]byte{all, bytes.Repeat(all, 1024), {0}, []byte("\xff\xfe \"quoted\"\n")} {
		var err error
		if rev, err = h.put(ctx, "head", string(value), rev); err != nil {
			return err
		}
	}
	return nil
}

func checkDocNames(ctx context.Context, h *shelf) error {
	names := []string{"head", "tombstones-0", "tombstones-10", "tombstones-1", "HEAD2", strings.Repeat("long-", 12)}
	revs := map[string]string{}
	for _, name := range names {
		rev, err := h.put(ctx, name, "value of "+name, "")
		if err != nil {
			return err
		}
		revs[name] = rev
	}
	for _, name := range names {
		if err := h.want(ctx, name, "value of "+name, revs[name]); err != nil {
			return err
		}
	}
	return nil
}

func checkDocAgain(ctx context.Context, h *shelf) error {
	if h.suite.Again == nil {
		return nil
	}
	rev, err := h.put(ctx, "head", "one", "")
	if err != nil {
		return err
	}
	s, err := h.suite.Again(h.Shelf)
	if err != nil {
		return fmt.Errorf("another client: %w", err)
	}
	other := &shelf{Shelf: s, suite: h.suite}
	if err := other.want(ctx, "head", "one", rev); err != nil {
		return err
	}
	two, err := other.put(ctx, "head", "two", rev)
	if err != nil {
		return err
	}
	return first(
		func() error { return h.want(ctx, "head", "two", two) },
		func() error { return h.refuse(ctx, "head", rev) },
		func() error { return other.Delete(ctx, "head", two) },
		func() error { return h.want(ctx, "head", "", "") },
	)
}

// checkDocRace has several write at the same revision; each time one wins.
func checkDocRace(ctx context.Context, h *shelf) error {
	rev := ""
	for round := range 4 {
		var won atomic.Int32
		var next atomic.Value
		err := atOnce(6, func(i int) error {
			r, err := h.Put(ctx, "head", fmt.Appendf(nil, "round %d writer %d", round, i), rev)
			if err == nil {
				won.Add(1)
				next.Store(r)
			} else if errors.Is(err, keystore.ErrConflict) {
				err = nil
			}
			return err
		})
		if err != nil {
			return err
		}
		if won.Load() != 1 {
			return fmt.Errorf("%d of 6 who wrote at the same revision won", won.Load())
		}
		rev = next.Load().(string)
	}
	return nil
}

// eachDoc makes every call of a shelf.
func eachDoc(ctx context.Context, s rootkms.Shelf, rev string) map[string]error {
	errs := map[string]error{}
	_, _, errs["get"] = s.Get(ctx, "head")
	_, errs["put"] = s.Put(ctx, "head", []byte("not this"), rev)
	errs["delete"] = s.Delete(ctx, "head", rev)
	return errs
}

func wantAway(errs map[string]error) error {
	for call, err := range errs {
		if !errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrConflict) || errors.Is(err, keystore.ErrNotFound) {
			return fmt.Errorf("%s: got %v, want an error that wraps ErrUnavailable and nothing else", call, err)
		}
	}
	return nil
}

func checkDocCanceled(ctx context.Context, h *shelf) error {
	rev, err := h.put(ctx, "head", "one", "")
	if err != nil {
		return err
	}
	dead, cancel := context.WithCancel(ctx)
	cancel()
	return first(
		func() error { return wantAway(eachDoc(dead, h.Shelf, rev)) },
		func() error { return h.want(ctx, "head", "one", rev) },
	)
}

func checkDocAway(ctx context.Context, h *shelf) error {
	if h.suite.Away == nil {
		return nil
	}
	rev, err := h.put(ctx, "head", "one", "")
	if err != nil {
		return err
	}
	away, err := h.suite.Away()
	if err != nil {
		return fmt.Errorf("shelves that are away: %w", err)
	}
	for i, s := range away {
		if err := wantAway(eachDoc(ctx, s, rev)); err != nil {
			return fmt.Errorf("shelf %d is away: %w", i, err)
		}
	}
	return nil
}

func checkShelfName(_ context.Context, h *shelf) error {
	name := h.Name()
	if again := h.Name(); name == "" || name != again {
		return fmt.Errorf("the shelf's name is %q, then %q", name, again)
	}
	return nil
}
