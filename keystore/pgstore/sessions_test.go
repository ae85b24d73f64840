package pgstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
)

// With one connection, in use by a transaction of the application, a keystore that took
// from the same pool would wait for ever.
func TestACallersPoolIsLeftAlone(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dsn := pgtest.Shared(t).Database(t)
	create(t, dsn, nil)
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(t, err)
	defer pool.Close()
	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)

	s, err := pgstore.OpenPool(ctx, pool, &pgstore.Options{MaxConns: 1})
	require.NoError(t, err)
	_, err = s.Commit(ctx, []keystore.Group{{put("a", 0, 1, "A")}})
	require.NoError(t, err)
	recs, err := s.Get(ctx, [][]byte{[]byte("a")})
	require.NoError(t, err)
	require.Equal(t, "A", string(recs[0].Value))
	require.NoError(t, s.Close())
	require.NoError(t, tx.Commit(ctx), "closing the keystore leaves the pool open")
	require.NoError(t, pool.Ping(ctx))
}

func TestCommitsAreDurableWhateverTheDefaults(t *testing.T) {
	ctx := t.Context()
	for setting, want := range map[string]string{"off": "on", "local": "on", "remote_write": "on", "on": "on", "remote_apply": "remote_apply"} {
		t.Run(setting, func(t *testing.T) {
			server := pgtest.Shared(t)
			dsn := server.Database(t)
			for _, way := range []string{dsn, pgtest.Via(dsn, server.Bouncer(t, "transaction"))} {
				schema := freshSchema()
				create(t, dsn, &pgstore.Options{Schema: schema})
				exec(t, dsn,
					`create or replace function note() returns trigger language plpgsql as $$ begin
						insert into noted values (current_setting('synchronous_commit')); return null; end $$`,
					`create table if not exists noted (setting text)`, `truncate noted`,
					`create constraint trigger at_commit after insert or update or delete on `+quoted(schema)+`.records
						deferrable initially deferred for each row execute function note()`,
					`do $$ begin execute format('alter database %I set synchronous_commit = `+setting+`', current_database()); end $$`)
				s, err := pgstore.Open(ctx, way, &pgstore.Options{Schema: schema})
				require.NoError(t, err)
				defer s.Close()
				_, err = s.Commit(ctx, []keystore.Group{{put("a", 0, 1, "A")}, {put("a", 1, 2, "B")}, {put("b", 0, 1, "C")}})
				require.NoError(t, err)
				_, err = s.Commit(ctx, []keystore.Group{{put("a", 2, 3, "D")}})
				require.NoError(t, err)
				_, err = s.Commit(ctx, []keystore.Group{{{Op: keystore.Delete, Key: []byte("a"), If: 3}}})
				require.NoError(t, err)
				rows, err := connect(t, dsn).Query(ctx, "select setting from noted")
				require.NoError(t, err)
				n := 0
				for ; rows.Next(); n++ {
					var got string
					require.NoError(t, rows.Scan(&got))
					require.Equal(t, want, got)
				}
				require.NoError(t, rows.Err())
				require.Equal(t, 4, n)
			}
		})
	}
}

func TestEveryQueryModeOfTheDSNWorksBehindAPooler(t *testing.T) {
	server := pgtest.Shared(t)
	dsn := server.Database(t)
	create(t, dsn, nil)
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		s, err := pgstore.Open(t.Context(), pgtest.Via(dsn, server.Bouncer(t, "transaction"))+"&default_query_exec_mode="+mode, nil)
		require.NoError(t, err, mode)
		defer s.Close()
		for i := range 20 {
			rev := keystore.Rev(i)
			_, err := s.Commit(t.Context(), []keystore.Group{{put(mode, rev, rev+1, "v")}})
			require.NoError(t, err, mode)
		}
		err = s.Listen(t.Context(), func() {})
		require.ErrorIs(t, err, keystore.ErrUnavailable)
		require.ErrorContains(t, err, "pooler")
	}
}

func TestNotificationsAreHeard(t *testing.T) {
	server := pgtest.Start(t, nil)
	dsn := server.DSN()
	a := create(t, dsn, nil)
	b, err := pgstore.Open(t.Context(), dsn, nil)
	require.NoError(t, err)
	defer b.Close()
	other := create(t, dsn, &pgstore.Options{Schema: "other"})

	heard, ended := make(chan struct{}, 100), make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- b.Listen(ctx, func() { heard <- struct{}{} }) }()
	require.Eventually(t, func() bool { // until it listens
		require.NoError(t, a.Notify(t.Context()))
		return len(heard) > 0
	}, 20*time.Second, 10*time.Millisecond)
	time.Sleep(100 * time.Millisecond)
	for len(heard) > 0 {
		<-heard
	}
	require.NoError(t, other.Notify(t.Context()))
	require.NoError(t, a.Notify(t.Context()))
	<-heard
	time.Sleep(100 * time.Millisecond)
	require.Empty(t, heard, "another schema's notifications are not heard")
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)

	go func() { ended <- b.Listen(t.Context(), func() { heard <- struct{}{} }) }()
	require.Eventually(t, func() bool {
		require.NoError(t, a.Notify(t.Context()))
		return len(heard) > 0
	}, 20*time.Second, 10*time.Millisecond)
	server.Stop(t, "immediate")
	require.ErrorIs(t, <-ended, keystore.ErrUnavailable, "a lost connection ends it")
}

func quoted(schema string) string { return pgx.Identifier{schema}.Sanitize() }
