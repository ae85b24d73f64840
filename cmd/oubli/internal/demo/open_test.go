package demo

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// Two customers are erased in the shop: the newsletter and another receiver hear of it,
// the numbers stay.
func TestShopErases(t *testing.T) {
	ctx := t.Context()
	s, err := Open(ctx, t.TempDir(), &anonymize.Options{Actor: "test"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	t.Cleanup(func() { keystoretest.Check(t, s.Keys) })
	before, err := s.Turnover(ctx)
	require.NoError(t, err)
	require.Len(t, before, 24)
	require.Equal(t, 59, subscribers(t, s))

	broken := true
	s.Customers.PreAnonymize("crm", func(_ context.Context, e anonymize.Erasure, c Customer) error {
		require.Contains(t, c.Email, "@", "it is opened")
		if broken && e.Subject.ID() == "3" {
			return errors.New("out of order")
		}
		return nil
	})
	var subjects []keystore.Subject
	for _, text := range []string{"customer/2", "customer/3"} {
		s, err := keystore.ParseSubject(text)
		require.NoError(t, err)
		subjects = append(subjects, s)
	}
	results, err := s.Eraser.Anonymize(ctx, subjects...)
	require.Error(t, err)
	require.NoError(t, results[0].Err)
	require.ErrorContains(t, results[1].Err, "out of order")
	broken = false
	_, err = s.Eraser.Anonymize(ctx, subjects...)
	require.NoError(t, err)
	require.Equal(t, 57, subscribers(t, s))

	after, err := s.Turnover(ctx)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// While the newsletter is stopped, nobody is erased.
func TestShopWithTheNewsletterStopped(t *testing.T) {
	ctx := t.Context()
	s, err := Open(ctx, t.TempDir(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	who, err := keystore.ParseSubject("customer/37")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.Stop(), nil, 0o600))
	_, err = s.Eraser.Anonymize(ctx, who)
	require.ErrorContains(t, err, "1 of 1")
	require.Equal(t, 59, subscribers(t, s))
	require.NoError(t, os.Remove(s.Stop()))
	_, err = s.Eraser.Anonymize(ctx, who)
	require.NoError(t, err)
	require.Equal(t, 58, subscribers(t, s))
}

func subscribers(t *testing.T, s *Shop) int {
	text, err := os.ReadFile(s.list.file())
	require.NoError(t, err)
	return strings.Count(string(text), "\n")
}
