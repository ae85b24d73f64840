package fault_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/storetest"
)

func TestWithoutFaultItIsTheBackend(t *testing.T) {
	storetest.Run(t, &storetest.Suite{
		New: func() (keystore.Backend, error) { return fault.Wrap(memstore.New()), nil },
	})
}

func group(key string, old, rev keystore.Rev) keystore.Group {
	return keystore.Group{{Op: keystore.Put, Key: []byte(key), If: old, Rev: rev, Value: []byte("value of " + key)}}
}

// stored lists what stands in b, in key order.
func stored(t *testing.T, b keystore.Backend) string {
	rs, err := b.Scan(t.Context(), []byte("a"), []byte("z"), 100)
	require.NoError(t, err)
	return names(rs)
}

func names(rs []keystore.Record) string {
	var out strings.Builder
	for _, r := range rs {
		out.Write(r.Key)
	}
	return out.String()
}

func TestCrash(t *testing.T) {
	for _, c := range []struct {
		mode   fault.Mode
		at     int
		stands string
	}{
		{fault.Lost, 1, ""},
		{fault.Lost, 2, "a"},
		{fault.Lost, 4, "a"},
		{fault.Unanswered, 1, "a"},
		{fault.Unanswered, 3, "abcd"},
		{fault.Torn, 1, ""},
		{fault.Torn, 2, "a"},
		{fault.Torn, 3, "ab"},
		{fault.Torn, 4, "abc"},
		{fault.Torn, 5, "abcd"},
		{fault.Lost, 6, "abcde"},
	} {
		inner := memstore.New()
		b := fault.Wrap(inner)
		b.FailAt(c.at, c.mode)
		for _, groups := range [][]keystore.Group{
			{group("a", 0, 1)},
			{group("b", 0, 2), group("c", 0, 3), group("d", 0, 4)},
			{group("e", 0, 5)},
		} {
			done, err := b.Commit(t.Context(), groups)
			if !b.Died() {
				require.NoError(t, err)
				require.Equal(t, len(groups), done)
				continue
			}
			require.ErrorIs(t, err, fault.ErrDead)
			require.ErrorIs(t, err, keystore.ErrUnavailable)
			require.Zero(t, done)
		}
		require.Equal(t, c.at <= 5, b.Died())
		require.Equal(t, c.stands, stored(t, inner), "%s at %d", c.mode, c.at)
		require.Equal(t, c.stands, names(b.Committed()), "%s at %d", c.mode, c.at)
		require.GreaterOrEqual(t, len(b.Attempted()), len(b.Committed()))
	}
}

func TestDeadUntilRevived(t *testing.T) {
	ctx := t.Context()
	inner := memstore.New()
	b := fault.Wrap(inner)
	b.FailAt(1, fault.Lost)
	_, err := b.Commit(ctx, []keystore.Group{group("a", 0, 1)})
	require.ErrorIs(t, err, fault.ErrDead)

	_, err = b.Get(ctx, [][]byte{[]byte("a")})
	require.ErrorIs(t, err, fault.ErrDead)
	_, err = b.Scan(ctx, []byte("a"), []byte("z"), 1)
	require.ErrorIs(t, err, fault.ErrDead)
	_, err = b.Commit(ctx, []keystore.Group{group("b", 0, 2)})
	require.ErrorIs(t, err, fault.ErrDead)
	require.NoError(t, b.Close())
	require.Equal(t, 1, b.Groups())

	b.Revive()
	_, err = b.Commit(ctx, []keystore.Group{group("c", 0, 3)})
	require.NoError(t, err)
	require.Equal(t, "c", stored(t, b))
	require.Equal(t, 2, b.Groups())
	require.Equal(t, "ac", names(b.Attempted()), "what a dead process never wrote nobody can hold")
	require.Equal(t, "c", names(b.Committed()))
}

func TestRecordsAreCopies(t *testing.T) {
	b := fault.Wrap(memstore.New())
	g := group("a", 0, 1)
	_, err := b.Commit(t.Context(), []keystore.Group{g})
	require.NoError(t, err)
	copy(g[0].Value, "#########")
	require.Equal(t, "value of a", string(b.Attempted()[0].Value))
	require.Equal(t, "value of a", string(b.Committed()[0].Value))
}

func TestConflictsAreAttempts(t *testing.T) {
	b := fault.Wrap(memstore.New())
	done, err := b.Commit(t.Context(), []keystore.Group{group("a", 0, 1), group("b", 9, 2), group("c", 0, 3)})
	require.ErrorIs(t, err, keystore.ErrConflict)
	require.Equal(t, 1, done)
	require.Equal(t, "abc", names(b.Attempted()))
	require.Equal(t, "a", names(b.Committed()))
}

func TestBeforeLetsASecondActorIn(t *testing.T) {
	ctx := context.Background()
	b := fault.Wrap(memstore.New())
	calls := 0
	b.Before(func(groups []keystore.Group) {
		calls++
		require.Equal(t, "a", string(groups[0][0].Key))
		_, err := b.Commit(ctx, []keystore.Group{group("a", 0, 7)}) // gets in first
		require.NoError(t, err)
	})
	_, err := b.Commit(ctx, []keystore.Group{group("a", 0, 1)})
	require.ErrorIs(t, err, keystore.ErrConflict)
	require.Equal(t, 1, calls)

	b.Before(nil)
	_, err = b.Commit(ctx, []keystore.Group{group("b", 0, 2)})
	require.NoError(t, err)
	require.Equal(t, 1, calls)
}
