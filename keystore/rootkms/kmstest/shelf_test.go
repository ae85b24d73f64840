package kmstest_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
	"github.com/oubli/oubli/keystore/rootkms/kmstest"
)

// table is a shelf in memory, right but for its faults.
type table struct {
	shelfFaults
	mu   *sync.Mutex
	docs map[string]doc
	last *int
}

type doc struct {
	value []byte
	rev   int
}

type shelfFaults struct {
	blind      bool // Put does not look at the revision
	absent     bool // nor when there must be none
	blindDrop  bool // Delete does not look
	keeps      bool // Delete does nothing
	counts     bool // revisions begin anew after a delete
	sameRev    bool // writing the same value keeps the revision
	shares     bool // slices
	cuts       bool // long documents
	folds      bool // the case of names
	deaf       bool
	awayIsVoid bool // an outage reads as an absent document
	unlocked   bool // another writer may come between the look and the write
	private    bool // each client has its own documents
	nameless   bool
}

func (s *table) usable(ctx context.Context) error {
	if ctx.Err() != nil && !s.deaf {
		return fmt.Errorf("%w: %w", keystore.ErrUnavailable, ctx.Err())
	}
	return nil
}

func (s *table) key(name string) string {
	if s.folds && len(name) > 4 {
		return name[:12%len(name)]
	}
	return name
}

func (s *table) Get(ctx context.Context, name string) ([]byte, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		if s.awayIsVoid {
			return nil, "", nil
		}
		return nil, "", err
	}
	d, ok := s.docs[s.key(name)]
	if !ok {
		return nil, "", nil
	}
	if !s.shares {
		d.value = append([]byte(nil), d.value...)
	}
	return d.value, strconv.Itoa(d.rev), nil
}

func (s *table) holds(name, rev string) bool {
	d, ok := s.docs[s.key(name)]
	return !ok && rev == "" || ok && rev == strconv.Itoa(d.rev)
}

func (s *table) Put(ctx context.Context, name string, value []byte, rev string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return "", err
	}
	if !s.holds(name, rev) && !s.blind && !(s.absent && rev == "") {
		return "", keystore.ErrConflict
	}
	if s.unlocked {
		s.mu.Unlock()
		time.Sleep(time.Millisecond)
		s.mu.Lock()
	}
	old := s.docs[s.key(name)]
	if s.sameRev && rev != "" && string(old.value) == string(value) {
		return rev, nil
	}
	*s.last++
	d := doc{value: append([]byte(nil), value...), rev: *s.last}
	if s.counts {
		d.rev = old.rev + 1
	}
	if s.cuts {
		d.value = d.value[:min(len(d.value), 64<<10)]
	}
	s.docs[s.key(name)] = d
	return strconv.Itoa(d.rev), nil
}

func (s *table) Delete(ctx context.Context, name, rev string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	if !s.holds(name, rev) && !s.blindDrop {
		return keystore.ErrConflict
	}
	if !s.keeps {
		delete(s.docs, s.key(name))
	}
	return nil
}

func (s *table) Name() string {
	if s.nameless {
		return ""
	}
	return "table:"
}

func shelfSuite(f shelfFaults) *kmstest.ShelfSuite {
	fresh := func() *table {
		return &table{shelfFaults: f, mu: new(sync.Mutex), docs: map[string]doc{}, last: new(int)}
	}
	return &kmstest.ShelfSuite{
		New: func() (rootkms.Shelf, error) { return fresh(), nil },
		Again: func(s rootkms.Shelf) (rootkms.Shelf, error) {
			if f.private {
				return fresh(), nil
			}
			again := *s.(*table)
			return &again, nil
		},
		Away: func() ([]rootkms.Shelf, error) { return []rootkms.Shelf{&closed{fresh()}}, nil },
	}
}

// closed is a shelf that can't be reached.
type closed struct{ *table }

func gone(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

func (c *closed) Get(ctx context.Context, name string) ([]byte, string, error) {
	return c.table.Get(gone(ctx), name)
}

func (c *closed) Put(ctx context.Context, name string, value []byte, rev string) (string, error) {
	return c.table.Put(gone(ctx), name, value, rev)
}

func (c *closed) Delete(ctx context.Context, name, rev string) error {
	return c.table.Delete(gone(ctx), name, rev)
}

func TestShelf(t *testing.T) { kmstest.RunShelf(t, shelfSuite(shelfFaults{})) }

func TestShelfSuiteCatches(t *testing.T) {
	for name, c := range map[string]struct {
		faults shelfFaults
		want   string
	}{
		"blind":               {shelfFaults{blind: true}, "conflicts"},
		"blind for absence":   {shelfFaults{absent: true}, "conflicts"},
		"blind delete":        {shelfFaults{blindDrop: true}, "conflicts"},
		"nothing is deleted":  {shelfFaults{keeps: true}, "delete"},
		"counts anew":         {shelfFaults{counts: true}, "revisions never come back"},
		"same revision":       {shelfFaults{sameRev: true}, "put and get"},
		"shared slices":       {shelfFaults{shares: true}, "put and get"},
		"cut":                 {shelfFaults{cuts: true}, "large and binary documents"},
		"names run together":  {shelfFaults{folds: true}, "names"},
		"deaf":                {shelfFaults{deaf: true}, "canceled context"},
		"an outage is a void": {shelfFaults{awayIsVoid: true}, "away"},
		"unlocked":            {shelfFaults{unlocked: true}, "racing writers"},
		"private":             {shelfFaults{private: true}, "another client"},
		"nameless":            {shelfFaults{nameless: true}, "name"},
	} {
		t.Run(name, func(t *testing.T) {
			err := shelfSuite(c.faults).Check(t.Context())
			require.Error(t, err, "the suite passes a shelf with this fault")
			require.Contains(t, "\n"+err.Error(), "\n"+c.want+": ", "another case was meant to catch it")
		})
	}
}
