package pgstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oubli/oubli/keystore"
)

// replicationWait bounds how long standbys are waited for.
const replicationWait = 5 * time.Second

// Replicated implements [keystore.Shared]: it waits until the standbys that the options
// name have replayed all that is committed and flushed now.
func (s *Store) Replicated(ctx context.Context) error {
	if err := s.usable(ctx); err != nil {
		return s.explain("wait for standbys", err)
	}
	if len(s.standbys) == 0 {
		return nil
	}
	return s.explain("wait for standbys", s.replicated(ctx))
}

func (s *Store) replicated(ctx context.Context) error {
	var target string
	if err := s.pool.QueryRow(ctx, "select pg_current_wal_flush_lsn()::text").Scan(&target); err != nil {
		return err
	}
	limit := time.Now().Add(replicationWait)
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		late, err := s.late(ctx, target)
		if err != nil || len(late) == 0 {
			return err
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%w: after %s, %s; the superseded root lives on until they have caught up, or are taken out of the options", keystore.ErrUnavailable, replicationWait, strings.Join(late, ", "))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s: %w", keystore.ErrUnavailable, strings.Join(late, ", "), context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// late says of each standby that has not replayed target what is wrong with it.
func (s *Store) late(ctx context.Context, target string) ([]string, error) {
	rows, err := s.pool.Query(ctx, `
select coalesce(application_name, ''), state is null, coalesce(replay_lsn >= $1::text::pg_lsn, false),
	coalesce(pg_wal_lsn_diff($1::text::pg_lsn, replay_lsn), 0)::bigint
from pg_stat_replication`, target)
	if err != nil {
		return nil, err
	}
	var name string
	var unseen, replayed, anyUnseen bool
	var behind int64
	there, done := map[string]int64{}, map[string]bool{}
	_, err = pgx.ForEachRow(rows, []any{&name, &unseen, &replayed, &behind}, func() error {
		anyUnseen = anyUnseen || unseen
		if slices.Contains(s.standbys, name) && !unseen {
			// Several may bear a name: each of them could be promoted.
			_, twice := there[name]
			there[name] = max(there[name], behind)
			done[name] = replayed && (done[name] || !twice)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var late []string
	for _, name := range s.standbys {
		behind, seen := there[name]
		switch {
		case done[name]:
		case seen:
			late = append(late, fmt.Sprintf("standby %q lags by %d bytes of WAL", name, behind))
		case anyUnseen:
			return nil, fmt.Errorf("%w: this role may not see how far standby %q is: grant pg_monitor to it", keystore.ErrUnavailable, name)
		default:
			late = append(late, fmt.Sprintf("standby %q is not connected", name))
		}
	}
	return late, nil
}
