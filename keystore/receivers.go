package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Receivers returns the mandatory receivers that are recorded for a kind, in the order
// in which they were recorded. Every erasure request freezes this list.
func (s *Store) Receivers(ctx context.Context, kind string) ([]string, error) {
	names, _, err := s.receivers(ctx, kind)
	return names, err
}

func (s *Store) receivers(ctx context.Context, kind string) (names []string, rev Rev, err error) {
	recs, err := s.backend.Get(ctx, [][]byte{receiverKey(kind)})
	if err != nil || recs[0].Rev == 0 {
		return nil, 0, err
	}
	r := reader{b: recs[0].Value}
	if r.byte() != 1 {
		r.bad = true
	}
	names = r.strings()
	return names, recs[0].Rev, r.end("the receivers of " + kind)
}

// RecordReceivers makes receivers mandatory for a kind: from now on every erasure of it,
// from whichever process, waits until each has acknowledged. It adds and never removes.
func (s *Store) RecordReceivers(ctx context.Context, kind string, names ...string) error {
	if err := CheckKind(kind); err != nil {
		return err
	}
	for _, n := range names {
		if n == "" || len(n) > MaxID {
			return fmt.Errorf("%w: the name of a receiver has 1 to %d bytes", ErrInvalid, MaxID)
		}
	}
	return s.updateReceivers(ctx, kind, func(have []string) []string {
		for _, n := range names {
			if !slices.Contains(have, n) {
				have = append(have, n)
			}
		}
		return have
	})
}

// Retire makes a receiver no longer mandatory, also for the erasures that wait for it.
func (s *Store) Retire(ctx context.Context, kind, name string) error {
	known := false
	err := s.updateReceivers(ctx, kind, func(have []string) []string {
		known = known || slices.Contains(have, name)
		return slices.DeleteFunc(have, func(n string) bool { return n == name })
	})
	if err != nil {
		return err
	}
	for st, err := range s.Pending(ctx) {
		if err != nil {
			return err
		}
		if st.Subject.Kind() != kind || st.Journal == nil || !slices.Contains(st.Journal.Receivers, name) {
			continue
		}
		known = true
		err := s.changeOne(ctx, "retire a receiver for", st.Subject, func(r *ring) outcome {
			if r.state != StateErasing {
				return outcome{}
			}
			r.journal.Receivers = slices.DeleteFunc(r.journal.Receivers, func(n string) bool { return n == name })
			return outcome{changed: true}
		})
		if err != nil {
			return err
		}
	}
	if !known {
		return fmt.Errorf("%w: %q is no receiver of %s", ErrInvalid, name, kind)
	}
	return nil
}

func (s *Store) updateReceivers(ctx context.Context, kind string, f func([]string) []string) error {
	if err := s.check(true); err != nil {
		return err
	}
	for try := range conflictTries {
		if err := backoff(ctx, try); err != nil {
			return err
		}
		have, rev, err := s.receivers(ctx, kind)
		if err != nil {
			return err
		}
		want := f(slices.Clone(have))
		if slices.Equal(have, want) {
			return nil
		}
		_, err = s.backend.Commit(ctx, []Group{{{Op: Put, Key: receiverKey(kind), If: rev, Rev: newRev(),
			Value: appendStrings([]byte{1}, want)}}})
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("record receivers of %s: %w: %w", kind, ErrUnavailable, ErrConflict)
}
