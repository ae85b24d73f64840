package anonymize

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

func TestPausesGrowAndEnd(t *testing.T) {
	s, err := keystore.ParseSubject("customer/1")
	require.NoError(t, err)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var r retries
	require.True(t, r.due(s, now))
	require.Equal(t, longestBackoff, r.next(now))
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		r.failed(s, errors.New("down"), now, time.Second)
		require.Equal(t, pause*time.Second, r.next(now))
		require.False(t, r.due(s, now.Add(pause*time.Second-1)))
		now = now.Add(pause * time.Second)
		require.True(t, r.due(s, now))
	}
	r.later(s, now, time.Second) // another has it: no failure
	require.False(t, r.due(s, now))
	r.prune(func(keystore.Subject) bool { return true })
	require.False(t, r.due(s, now))
	r.prune(func(keystore.Subject) bool { return false })
	require.True(t, r.due(s, now))
	r.failed(s, errors.New("down"), now, time.Second)
	require.Equal(t, time.Second, r.next(now), "what was forgotten begins anew")
	r.clear(s)
	require.True(t, r.due(s, now))
}

// Run does not look all the time for what others have, or what has no time.
func TestPausesOfWhatIsNotTried(t *testing.T) {
	s, err := keystore.ParseSubject("customer/1")
	require.NoError(t, err)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var r retries
	r.taken(s, now, time.Second)
	require.Empty(t, r.m, "it never failed here")
	r.aside(s, errors.New("down"))
	require.True(t, r.due(s, now))
	require.Equal(t, longestBackoff, r.next(now))
	r.failed(s, errors.New("down"), now, time.Second)
	now = now.Add(time.Second)
	require.Zero(t, r.next(now))
	r.taken(s, now, 3*time.Second)
	require.Equal(t, 3*time.Second, r.next(now))
	r.hurryAll()
	require.True(t, r.due(s, now))
	require.Equal(t, 2, r.get(s).failures)
	r.failed(s, errors.New("down"), now, time.Second)
	require.Equal(t, time.Second, r.next(now), "its pauses begin anew")
}

func TestFailuresOutsideRunAreBounded(t *testing.T) {
	var r retries
	for i := range maxAside + 100 {
		s, err := keystore.NewSubject("customer", i+1)
		require.NoError(t, err)
		r.aside(s, errors.New("down"))
		r.aside(s, errors.New("down"))
	}
	require.Len(t, r.m, maxAside)
}

// Where nobody prunes, trying again leaves nothing behind for those that never failed here.
func TestTryingAgainWhereNobodyWorks(t *testing.T) {
	s, err := keystore.ParseSubject("customer/1")
	require.NoError(t, err)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var r retries
	r.hurry(s, false)
	require.Empty(t, r.m)
	r.failed(s, errors.New("down"), now, time.Second)
	r.hurry(s, false)
	require.True(t, r.due(s, now))
	r.clear(s)
	r.hurry(s, true) // while it is tried
	r.failed(s, errors.New("down"), now, time.Second)
	require.True(t, r.due(s, now), "and again at once")
}

// What another worker has, or what was taken back, did not fail outside Run either.
func TestWhatIsNoFailureOutsideRun(t *testing.T) {
	s, err := keystore.ParseSubject("customer/1")
	require.NoError(t, err)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	down, e := errors.New("down"), &Eraser{}
	for _, c := range []struct {
		ctx      context.Context
		err      error
		failures int
	}{
		{t.Context(), errBusy, 0}, {t.Context(), down, 1}, {t.Context(), errBusy, 1}, {over, down, 1},
		{t.Context(), down, 2}, {t.Context(), cancelled(s), 0}, {t.Context(), down, 1}, {t.Context(), nil, 0},
	} {
		e.remember(c.ctx, map[keystore.Subject]Result{s: {State: keystore.StateErasing.String(), Err: c.err}})
		require.Equal(t, c.failures, e.Attempt(s).Failures, c.err)
	}
}
