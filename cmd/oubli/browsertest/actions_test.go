package browsertest

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// TestDoubleClick asks for one erasure, however impatient somebody is.
func TestDoubleClick(t *testing.T) {
	s := openShop(t)
	s.hang.Store(12)
	b := s.site.signIn("officer")
	b.open(where + "confirm?action=erase&s=customer/12")
	b.fill(toType([]string{"12"}))
	e := b.find("button", eraseButton(1))
	b.do(b.hit(b.ctx, e))
	_ = b.hit(b.ctx, e) // the page may be another one already
	b.until("progress", func() bool { return strings.Contains(b.text(), words("batch.each")) })
	batches, err := s.Keys.Batches(context.Background(), keystore.BatchID{}, 10)
	require.NoError(t, err)
	require.Len(t, batches, 1)
}

// TestBack looks at a person before confirming, and comes back.
func TestBack(t *testing.T) {
	s := openShop(t)
	b := s.site.signIn("officer")
	b.open(where + "?q=customer/12+customer/23")
	b.tick("customer/12")
	b.tick("customer/23")
	b.follow("button", words("action.erase"))
	b.follow("link", "customer/12")
	eval[bool](b, `(history.back(), true)`)
	b.until("confirmation", func() bool { return strings.Contains(b.text(), words("confirm.many.erase.other", "2")) })
	b.erase("12", "23")
}

// TestExport takes away what is held about people.
func TestExport(t *testing.T) {
	s := openShop(t)
	b := s.site.signIn("officer")
	dir := b.downloads()
	b.open(where + "?q=customer/12+customer/23")
	b.tick("customer/12")
	b.tick("customer/23")
	b.click("button", words("action.export.json"))
	var both any
	require.NoError(t, json.Unmarshal(b.downloaded(dir, ".json"), &both))
	for _, name := range []string{"Almeida", "Gordon"} {
		require.Contains(t, string(b.downloaded(dir, ".json")), name)
	}
	b.open(where + "person?s=customer/12")
	b.click("DisclosureTriangle", words("action.export"))
	b.click("button", words("action.export.csv"))
	lines, err := csv.NewReader(strings.NewReader(string(b.downloaded(dir, ".csv")))).ReadAll()
	require.NoError(t, err)
	require.Contains(t, lines, []string{"customers", "1", "last_name", "open", "Almeida"})
	b.open(where + "person?s=customer/12")
	require.Equal(t, 2, strings.Count(b.text(), words("change.exported")))
}

// downloads is a folder into which the tab's downloads go.
func (b *tab) downloads() string {
	b.t.Helper()
	dir := b.t.TempDir()
	c := chromedp.FromContext(b.ctx)
	_, err := chromedp.CallBrowser(b.ctx, cdpbrowser.SetDownloadBehavior, cdpbrowser.SetDownloadBehaviorParams{
		Behavior: cdpbrowser.SetDownloadBehaviorBehaviorAllow, BrowserContextID: c.BrowserContextID, DownloadPath: dir,
	})
	b.do(err)
	return dir
}

// downloaded waits for a file with this ending, and reads it.
func (b *tab) downloaded(dir, ending string) (data []byte) {
	b.t.Helper()
	b.until("file", func() bool {
		found, err := filepath.Glob(filepath.Join(dir, "*"+ending))
		b.do(err)
		if len(found) == 0 {
			return false
		}
		data, err = os.ReadFile(found[0])
		b.do(err)
		return len(data) > 0
	})
	return data
}
