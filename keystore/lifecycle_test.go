package keystore_test

import (
	"context"
	"testing"
	"time"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/stretchr/testify/require"
)

func subject(t testing.TB, id any) keystore.Subject {
	t.Helper()
	s, err := keystore.NewSubject("customer", id)
	require.NoError(t, err)
	return s
}

func seal(t testing.TB, s *keystore.Store, sub keystore.Subject, purpose, text string) (id uint32, sealed []byte) {
	t.Helper()
	k, err := s.Ensure(context.Background(), nil, []string{purpose}, sub)
	require.NoError(t, err)
	id, key, err := k[0].Primary(purpose)
	require.NoError(t, err)
	return id, key.Seal(nil, make([]byte, 12), []byte(text), nil) // one message a key: the nonce may be zero here
}

func open(ctx context.Context, s *keystore.Store, sub keystore.Subject, id uint32, sealed []byte) (string, error) {
	k, err := s.Lookup(ctx, nil, sub)
	if err != nil {
		return "", err
	}
	_, key, err := k[0].Key(id)
	if err != nil {
		return "", err
	}
	plain, err := key.Open(nil, make([]byte, 12), sealed, nil)
	if err == nil && !keystore.Fresh(k[0]) {
		return "", keystore.ErrUnavailable
	}
	return string(plain), err
}

func TestEraseIsFinalAtGraceZero(t *testing.T) {
	ctx := context.Background()
	s := keystoretest.New(t)
	ann, bob := subject(t, 1), subject(t, 2)
	annID, annText := seal(t, s, ann, "", "Ann")
	bobID, bobText := seal(t, s, bob, "", "Bob")

	es, err := s.Erase(ctx, keystore.Request{Subject: ann})
	require.NoError(t, err)
	require.NoError(t, es[0].Err)
	require.Equal(t, keystore.StateErased, es[0].State)
	require.True(t, es[0].Final)

	_, err = open(ctx, s, ann, annID, annText)
	require.ErrorIs(t, err, keystore.ErrErased)
	text, err := open(ctx, s, bob, bobID, bobText)
	require.NoError(t, err)
	require.Equal(t, "Bob", text)

	h, err := s.Health(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 2, h.Epoch)
	require.Len(t, h.Roots, 1)

	k, err := s.Ensure(ctx, nil, []string{""}, ann)
	require.NoError(t, err)
	require.ErrorIs(t, k[0].WriteErr(), keystore.ErrErased)

	require.NoError(t, s.Readmit(ctx, ann))
	id2, text2 := seal(t, s, ann, "", "New Ann")
	got, err := open(ctx, s, ann, id2, text2)
	require.NoError(t, err)
	require.Equal(t, "New Ann", got)
	_, err = open(ctx, s, ann, annID, annText)
	require.ErrorIs(t, err, keystore.ErrErased)
}

func TestGraceKeepsTheOldRootUntilItIsDue(t *testing.T) {
	ctx := context.Background()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	backend, roots := memstore.New(), memstore.NewRoots()
	require.NoError(t, keystore.Create(ctx, backend, roots, &keystore.CreateOptions{Grace: time.Hour, Shards: 4}))
	s, err := keystore.Open(ctx, backend, roots, &keystore.Options{Clock: clock})
	require.NoError(t, err)
	ann, bob := subject(t, 1), subject(t, 2)
	annID, annText := seal(t, s, ann, "", "Ann")
	bobID, bobText := seal(t, s, bob, "", "Bob")
	copied := backend.Snapshot()

	es, err := s.Erase(ctx, keystore.Request{Subject: ann})
	require.NoError(t, err)
	require.False(t, es[0].Final)
	require.Equal(t, now.Add(time.Hour), es[0].FinalAt)
	require.NoError(t, s.Close())

	_, err = keystore.Open(ctx, copied.Snapshot(), roots, &keystore.Options{Clock: clock})
	require.ErrorIs(t, err, keystore.ErrBehind)

	restored := copied.Snapshot()
	report, err := keystore.Restore(ctx, restored, roots, &keystore.Options{Clock: clock})
	require.NoError(t, err)
	require.Equal(t, []keystore.Subject{ann}, report.Replayed)
	s, err = keystore.Open(ctx, restored, roots, &keystore.Options{Clock: clock})
	require.NoError(t, err)
	_, err = open(ctx, s, ann, annID, annText)
	require.ErrorIs(t, err, keystore.ErrErased)
	text, err := open(ctx, s, bob, bobID, bobText)
	require.NoError(t, err)
	require.Equal(t, "Bob", text)

	now = now.Add(time.Hour)
	require.NoError(t, s.Advance(ctx))
	st, err := s.Status(ctx, ann)
	require.NoError(t, err)
	require.True(t, st[0].Final)
	c, err := roots.Load(ctx)
	require.NoError(t, err)
	require.Len(t, c.Living, 1)
	require.Empty(t, c.Tombstones)
	keystoretest.Check(t, s)
}
