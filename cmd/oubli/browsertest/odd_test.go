package browsertest

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/keystoretest"
)

// guest is a row about somebody whose id may be anything.
type guest struct {
	ID      string            `oubli:",subject=guest"`
	Name    string            `oubli:"name,replace=Erased"`
	Privacy fieldcrypt.Status `json:"-"`
}

// guests are a table in memory.
type guests struct {
	mu   sync.Mutex
	rows map[string]guest
}

func (g *guests) RowsOf(_ context.Context, s keystore.Subject) iter.Seq2[guest, error] {
	return func(yield func(guest, error) bool) {
		g.mu.Lock()
		row, ok := g.rows[s.ID()]
		g.mu.Unlock()
		if ok {
			yield(row, nil)
		}
	}
}

func (g *guests) SaveFields(_ context.Context, row guest, _ []string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rows[row.ID] = row
	return nil
}

// hotel has guests with these ids, each known as its id.
func hotel(t *testing.T, ids ...string) (*anonymize.Eraser, *anonymize.Table[guest]) {
	ctx := context.Background()
	keys := keystoretest.New(t)
	codec, err := fieldcrypt.NewCodec[guest](keys, "guests", nil)
	require.NoError(t, err)
	eraser, err := anonymize.New(keys, nil)
	require.NoError(t, err)
	g := &guests{rows: map[string]guest{}}
	for _, id := range ids {
		row, err := codec.Seal(ctx, guest{ID: id, Name: "Known as " + id})
		require.NoError(t, err)
		g.rows[id] = row
	}
	return eraser, anonymize.Register(eraser, codec, g)
}

// TestOddSubjects clicks people through whose ids are not made for pages: nothing of them may
// be taken for markup, an address or a command, and everybody must be found and erased.
func TestOddSubjects(t *testing.T) {
	ids := []string{
		"<script>alert(1)</script>",
		`"><img src=x onerror=alert(1)>`,
		"'-alert(1)-'",
		"javascript:alert(1)",
		"{{.}}${7*7}",
		"a/b?c=d&e=f#g%20h+i",
		"..",
		"a  b",
		"naïve-Zoë-Ж-中文-ไทย",
		"شخص-١٢",
		"\u202egpj.exe",
		"👩‍👩‍👧‍👦🏳️‍🌈",
		"\u00e9", // é in one piece and in two are two people
		"e\u0301",
		strings.Repeat("w", keystore.MaxID),
	}
	eraser, table := hotel(t, ids...)
	s := newSite(t)
	columns, err := admin.TableColumns(table, "name")
	require.NoError(t, err)
	s.mount(eraser, columns)
	work(t, eraser)
	b := s.signIn("officer")
	b.look("list")
	for i, id := range ids {
		subject := "guest/" + id
		b.open(where + "?" + url.Values{"q": {subject}}.Encode())
		require.Equal(t, []string{subject}, eval[[]string](b, `[...document.querySelectorAll("#people tbody th")].map(e => e.textContent)`))
		require.Equal(t, "Known as "+id, eval[string](b, `document.querySelector("#people tbody td[data-label=name]").textContent`))
		require.Equal(t, http.StatusOK, b.follow("link", oneLine(subject)))
		require.Equal(t, subject, eval[string](b, `document.querySelector("h1").textContent`))
		if i == 0 {
			b.look("person")
		}
		require.Equal(t, http.StatusOK, b.follow("button", words("action.erase")))
		require.Contains(t, eval[string](b, `document.querySelector("h1").textContent`), subject)
		if i == 0 {
			b.look("confirm")
		}
		b.erase(id)
		require.Equal(t, subject, eval[string](b, `document.querySelector("ol.each a").textContent`))
		b.until("erasure", func() bool { return strings.Contains(b.text(), words("batch.finished")) })
	}
	b.open(where + "?state=erased")
	b.look("erased")
}
