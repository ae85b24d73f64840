package demo

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/fieldcrypt"
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

// The same folder is the same shop again, with what became of it.
func TestShopIsOpenedAgain(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	for again := range 2 {
		s, err := Open(ctx, dir, nil)
		require.NoError(t, err)
		if again == 0 {
			require.NoError(t, s.GivePast(ctx))
		}
		require.Equal(t, 57, subscribers(t, s))
		columns, err := s.Columns()
		require.NoError(t, err)
		var asks []admin.Ask
		for _, id := range []int64{1, 2, 37, 59, 5} {
			who, err := customer(id)
			require.NoError(t, err)
			asks = append(asks, admin.Ask{Subject: who, Reveal: true})
		}
		values, err := columns.Values(ctx, asks)
		require.NoError(t, err)
		require.Equal(t, []admin.Value{{Text: "Luís", State: fieldcrypt.StatusOpen}, {Text: "Gonçalves", State: fieldcrypt.StatusOpen}, {Text: "Brazil"}}, values[0])
		var states []fieldcrypt.Status
		for _, row := range values {
			states = append(states, row[0].State)
		}
		require.Equal(t, []fieldcrypt.Status{"open", "erased", "erased", "withheld", "withheld"}, states)
		require.Equal(t, "Germany", values[2][2].Text)
		require.NoError(t, s.Close())
	}
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
