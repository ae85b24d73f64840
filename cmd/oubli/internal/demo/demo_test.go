package demo

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func tell(t *testing.T, h *hooks) (string, error) {
	t.Setenv("TMPDIR", t.TempDir())
	var out strings.Builder
	err := run(context.Background(), &out, h)
	left, readErr := os.ReadDir(os.Getenv("TMPDIR"))
	require.NoError(t, readErr)
	require.Empty(t, left, "the folder is removed")
	return out.String(), err
}

func TestDemoHolds(t *testing.T) {
	out, err := tell(t, &hooks{})
	require.NoError(t, err)
	require.NotContains(t, out, "BROKEN")
	require.Equal(t, 19, strings.Count(out, "   ok      "))
}

// broken returns the claims that were found not to hold.
func broken(out string) string {
	var list []string
	for line := range strings.SplitSeq(out, "\n") {
		if strings.HasPrefix(line, "   BROKEN") {
			list = append(list, line)
		}
	}
	return strings.Join(list, "\n")
}

func TestDemoNoticesThatNobodyWasErased(t *testing.T) {
	out, err := tell(t, &hooks{skip: true})
	require.ErrorContains(t, err, "claims of the demo do not hold")
	for _, claim := range []string{
		"the newsletter's receiver", "live data: nothing of customer/37 opens", "data backup: nothing of customer/37 opens",
		"data backup: of customer/2", "the old keystore copy does not open", "nor for a thief", "live data, for no purpose",
	} {
		require.Contains(t, broken(out), claim)
	}
}

// The root that was destroyed is put back from a copy that somebody kept.
func TestDemoNoticesThatTheRootFileWasPutBack(t *testing.T) {
	var old []byte
	out, err := tell(t, &hooks{
		before: func(w *world) (err error) {
			old, err = os.ReadFile(w.path("root", "oubli.root"))
			return err
		},
		after: func(w *world) error { return os.WriteFile(w.path("root", "oubli.root"), old, 0o600) },
	})
	require.ErrorContains(t, err, "claims of the demo do not hold")
	require.Contains(t, broken(out), "nor for a thief")
	require.Contains(t, out, "it opens")
}

// A row of somebody else is lost, and one is changed.
func TestDemoNoticesThatOthersSuffer(t *testing.T) {
	out, err := tell(t, &hooks{after: func(w *world) error {
		return w.live.invoiceFile.Delete(context.Background(), 100)
	}})
	require.Error(t, err)
	require.Contains(t, broken(out), "live keystore, live data")
	require.Contains(t, broken(out), "turnover per country")

	out, err = tell(t, &hooks{after: func(w *world) error {
		return w.live.customerFile.change(9, func(c *Customer) error { c.Email = c.FirstName; return nil })
	}})
	require.Error(t, err)
	require.Contains(t, broken(out), "live keystore, live data")
	require.NotContains(t, broken(out), "data backup")
}

func TestDemoStopsWhenItCannotGoOn(t *testing.T) {
	_, err := tell(t, &hooks{before: func(*world) error { return errors.New("no luck") }})
	require.ErrorContains(t, err, "the demo came to a stop: no luck")
}
