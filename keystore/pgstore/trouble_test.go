//go:build linux

package pgstore_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/oubli/oubli/internal/pgtest"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/pgstore"
	"github.com/oubli/oubli/keystore/storetest"
)

// hold locks a record as another session would, until the function is called.
func hold(t *testing.T, dsn, key string) (letGo func()) {
	t.Helper()
	tx, err := connect(t, dsn).Begin(t.Context())
	require.NoError(t, err)
	tag, err := tx.Exec(t.Context(), "select from oubli.records where page = $1 and key = $2 for update", int16(key[0]), []byte(key[1:]))
	require.NoError(t, err)
	require.EqualValues(t, 1, tag.RowsAffected())
	return func() { require.NoError(t, tx.Rollback(context.Background())) }
}

func TestAStatementTimeoutIsNamed(t *testing.T) {
	ctx := t.Context()
	for setting, hint := range map[string]string{"statement_timeout": "statement_timeout", "lock_timeout": "lock_timeout"} {
		dsn := pgtest.Shared(t).Database(t)
		create(t, dsn, nil)
		exec(t, dsn, `do $$ begin execute format('alter database %I set `+setting+` = ''200ms''', current_database()); end $$`)
		s, err := pgstore.Open(ctx, dsn, nil)
		require.NoError(t, err)
		defer s.Close()
		_, err = s.Commit(ctx, []keystore.Group{{put("page", 0, 1, "P")}})
		require.NoError(t, err)
		letGo := hold(t, dsn, "page")
		for _, g := range []keystore.Group{
			{{Op: keystore.Guard, Key: []byte("page"), If: 1}, put("x", 0, 1, "X")},
			{put("page", 1, 2, "Q")},
			{{Op: keystore.Delete, Key: []byte("page"), If: 1}},
		} {
			done, err := s.Commit(ctx, []keystore.Group{g})
			require.Zero(t, done)
			require.ErrorIs(t, err, keystore.ErrUnavailable)
			require.NotErrorIs(t, err, keystore.ErrConflict)
			require.ErrorContains(t, err, hint)
			require.NotContains(t, err.Error(), "not known")
		}
		letGo()
		holds(t, s, map[string]string{"page": "P"})
		_, err = s.Commit(ctx, []keystore.Group{{put("page", 1, 2, "Q")}})
		require.NoError(t, err)
	}
}

func TestAContextEndsAWaitForALock(t *testing.T) {
	dsn := pgtest.Shared(t).Database(t)
	s := create(t, dsn, nil)
	_, err := s.Commit(t.Context(), []keystore.Group{{put("page", 0, 1, "P")}})
	require.NoError(t, err)
	letGo := hold(t, dsn, "page")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = s.Commit(ctx, []keystore.Group{{put("page", 1, 2, "Q")}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.Less(t, time.Since(start), 5*time.Second)
	time.Sleep(200 * time.Millisecond) // until the server has heard that it was canceled
	letGo()
	holds(t, s, map[string]string{"page": "P"})
}

// The database's own isolation may be stricter: what the server then refuses is tried again.
func TestSuiteAtOtherIsolation(t *testing.T) {
	for _, level := range []string{"repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			dsn := pgtest.Shared(t).Database(t)
			exec(t, dsn, `do $$ begin execute format('alter database %I set default_transaction_isolation = ''`+level+`''', current_database()); end $$`)
			storetest.Run(t, suite(t, dsn))
		})
	}
}

// Two commits that lock in opposite orders, which the keystore never does: one is ended by
// the server, and tried again.
func TestDeadlocksAreTriedAgain(t *testing.T) {
	ctx := t.Context()
	dsn := pgtest.Shared(t).Database(t)
	s := create(t, dsn, nil)
	_, err := s.Commit(ctx, []keystore.Group{{put("a", 0, 1, "A"), put("b", 0, 1, "B")}})
	require.NoError(t, err)
	tx, err := connect(t, dsn).Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "select from oubli.records where page = $1 for update", int16('b'))
	require.NoError(t, err)
	result := make(chan error)
	go func() {
		_, err := s.Commit(ctx, []keystore.Group{{put("a", 1, 2, "AA"), put("b", 1, 2, "BB")}}) // has a, waits for b
		result <- err
	}()
	time.Sleep(200 * time.Millisecond)
	_, err = tx.Exec(ctx, "set local deadlock_timeout = '10s'")
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "select from oubli.records where page = $1 for update", int16('a'))
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(ctx))
	require.NoError(t, <-result)
	holds(t, s, map[string]string{"a": "AA", "b": "BB"})
}

func TestNoConnectionLeftIsNamed(t *testing.T) {
	server := pgtest.Start(t, &pgtest.Options{Settings: map[string]string{"max_connections": "6", "superuser_reserved_connections": "0", "max_wal_senders": "0", "autovacuum": "off"}})
	create(t, server.DSN(), nil).Close()
	var err error
	for range 50 {
		var c *pgx.Conn
		if c, err = pgx.Connect(t.Context(), server.DSN()); err != nil {
			break
		}
		defer c.Close(context.Background())
	}
	require.Error(t, err)
	err = open(t, server.DSN(), nil)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "max_connections")
}

// A disk that is full, to the server: its files may not grow beyond a limit.
func TestAFullDiskIsNamedAndNothingIsLost(t *testing.T) {
	ctx := t.Context()
	server := startLimited(t, 17<<20) // a segment of the WAL has 16 MB
	s := create(t, server.DSN(), nil)
	want := map[string]string{}
	fill := func(to int) error {
		for n := len(want); n < to; n++ {
			key, value := fmt.Sprint("key ", n), strings.Repeat(strconv.Itoa(n%10), 300<<10)
			if _, err := s.Commit(ctx, []keystore.Group{{put(key, 0, 1, value)}}); err != nil {
				return err
			}
			want[key] = value
		}
		return nil
	}
	err := fill(500)
	require.Error(t, err)
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.NotErrorIs(t, err, keystore.ErrConflict)
	require.ErrorContains(t, err, "make room")
	require.NotContains(t, err.Error(), "not known")
	require.Greater(t, len(want), 10)
	holds(t, s, want)
	server.Kill()
	server.Up(t) // without the limit
	holds(t, s, want)
	require.NoError(t, fill(len(want)+5))
	holds(t, s, want)
}

// startLimited starts a server whose files may not grow beyond size, until it is started
// again: it inherits the limit of this process, which has it for that moment.
func startLimited(t *testing.T, size uint64) *pgtest.Server {
	t.Helper()
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: old.Max}))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &old)) }()
	return pgtest.Start(t, nil)
}
