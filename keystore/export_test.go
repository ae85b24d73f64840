package keystore

import (
	"context"
	"time"
)

// SetMoveBudget lets an advance move no more than n rings in one commit, so that a test
// sees several of them without a hundred thousand subjects. Call it before s is used.
func (s *Store) SetMoveBudget(n int) { s.moveBudget = n }

// SetManyShards has the pages of an advance divided among workers from more than n touched
// shards on. Call it before s is used.
func (s *Store) SetManyShards(n int) { s.manyShards = n }

// CachedKeys tells how many data keys of a subject the cache holds, valid or not.
func (s *Store) CachedKeys(sub Subject) int {
	if e, ok := s.cache.GetIfPresent(sub); ok {
		return len(e.keys)
	}
	return 0
}

// OpenWithClocks is Open for a process whose clocks are the test's.
func OpenWithClocks(ctx context.Context, b Backend, roots RootStore, o *Options, boot func() time.Duration, wall func() time.Time) (*Store, error) {
	s := newStore(b, roots, o)
	s.lease.clocks = clocks{boot: boot, wall: wall}
	return s.open(ctx)
}

// Poll polls now.
func (s *Store) Poll(ctx context.Context) error { return s.poll(ctx) }

// Remembered tells how many roots, and pages under other roots than the current one, a
// process has in its memory.
func (s *Store) Remembered(ctx context.Context) (roots, oldPages int, err error) {
	e, err := s.record(ctx)
	if err != nil {
		return 0, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.pages {
		if p := s.pages[i].Load(); p != nil && p.root != e.current {
			oldPages++
		}
	}
	return len(s.rootAEADs), oldPages, nil
}

// Slow reads the keystore's record now, and returns what somebody does who is slow and
// goes by it later.
func (s *Store) Slow(ctx context.Context) (later func() error) {
	e, err := s.record(ctx)
	return func() error {
		if err == nil {
			_, err = s.rootsOf(e)
		}
		return err
	}
}
