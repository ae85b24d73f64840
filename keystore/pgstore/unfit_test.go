package pgstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
)

// Tables that are ours, and would lose or hide records as they are.
func TestTablesThatMustNotBeUsed(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, nil)
	t.Run("no primary key", func(t *testing.T) {
		dsn := server.Database(t)
		create(t, dsn, nil)
		exec(t, dsn, "alter table oubli.records drop constraint records_pkey")
		err := open(t, dsn, nil)
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorContains(t, err, "no primary key")
		exec(t, dsn, "alter table oubli.records add primary key (key, page)")
		require.ErrorContains(t, open(t, dsn, nil), "no primary key")
	})
	t.Run("unlogged", func(t *testing.T) {
		dsn := server.Database(t)
		create(t, dsn, nil)
		exec(t, dsn, "alter table oubli.records set unlogged")
		require.ErrorContains(t, open(t, dsn, nil), "is unlogged, and empty after a crash")
		exec(t, dsn, "alter table oubli.records set logged")
		require.NoError(t, open(t, dsn, nil))
	})
	t.Run("row-level security", func(t *testing.T) {
		dsn := server.Database(t)
		create(t, dsn, nil)
		clerk := as(t, dsn, "guarded")
		exec(t, dsn, "grant usage on schema oubli to guarded", "grant all on all tables in schema oubli to guarded")
		require.NoError(t, open(t, clerk, nil))
		exec(t, dsn, "alter table oubli.records enable row level security")
		err := open(t, clerk, &pgstore.Options{})
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorContains(t, err, "row-level security applies")
		require.NoError(t, open(t, dsn, nil), "it does not apply to the owner")
	})
}

// Standbys that nobody named apart bear the same name. The one that lags could be promoted
// as well, without the root that its pages are under.
func TestEachStandbyOfANameMustHaveReplayed(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, nil)
	one, two := primary.Standby(t, "twin"), primary.Standby(t, "twin")
	for _, lagging := range []*pgtest.Server{one, two} {
		s := create(t, primary.DSN(), &pgstore.Options{Standbys: []string{"twin"}, Schema: freshSchema()})
		require.NoError(t, s.Replicated(t.Context()))
		exec(t, lagging.DSN(), "select pg_wal_replay_pause()")
		require.Eventually(t, func() bool {
			_, err := s.Commit(t.Context(), []keystore.Group{{put("x", 0, 1, "X")}, {{Op: keystore.Delete, Key: []byte("x"), If: 1}}})
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			return s.Replicated(ctx) != nil
		}, 5*time.Second, time.Millisecond)
		exec(t, lagging.DSN(), "select pg_wal_replay_resume()")
	}
}

// Whoever may make functions in a schema of the search_path must not have them run by the
// keystore's role: PostgreSQL prefers one that fits the arguments exactly to its own that
// fits any array (CVE-2018-1058).
func TestFunctionsOfOthersAreNotCalled(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Start(t, nil).DSN()
	const body = " language plpgsql as $$ begin raise exception 'caught'; end $$"
	exec(t, dsn, "create function public.unnest(smallint[]) returns setof smallint"+body,
		"create function public.unnest(bytea[]) returns setof bytea"+body,
		"create function public.unnest(bigint[]) returns setof bigint"+body,
		"create function public.array_length(smallint[], integer) returns integer"+body)
	s := create(t, dsn, nil)
	_, err := s.Commit(t.Context(), []keystore.Group{{put("a", 0, 1, "A"), put("b", 0, 2, "B")}})
	require.NoError(t, err)
	_, err = s.Commit(t.Context(), []keystore.Group{{{Op: keystore.Guard, Key: []byte("a"), If: 1}, put("b", 2, 3, "C")}})
	require.NoError(t, err)
	_, err = s.Commit(t.Context(), []keystore.Group{{{Op: keystore.Delete, Key: []byte("b"), If: 3}}})
	require.NoError(t, err)
	holds(t, s, map[string]string{"a": "A"})
}
