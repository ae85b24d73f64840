package admin_test

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/anonymize/admin"
	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/rootfile"
)

const (
	perPage   = 50
	tableRows = 20_000
)

// scale is a keystore of many subjects, named client/1 and so on, with pages over it.
type scale struct {
	t       testing.TB
	n       int
	keys    *keystore.Store
	clients *anonymize.Table[client] // with rows of the first tableRows of the list

	plain    *admin.Handler // no columns
	masked   *admin.Handler // columns that the viewer may not see
	revealed *admin.Handler // columns that the viewer sees
}

// newScale makes n subjects in an empty backend, read through a cache of some size.
func newScale(t testing.TB, backend keystore.Backend, n, cache int) *scale {
	ctx := context.Background()
	roots, err := rootfile.New([]string{filepath.Join(t.TempDir(), "oubli.root")}, nil)
	require.NoError(t, err)
	require.NoError(t, keystore.Create(ctx, backend, roots, &keystore.CreateOptions{Grace: time.Hour}))
	s := &scale{t: t, n: n}
	s.keys, err = keystore.Open(ctx, backend, roots, &keystore.Options{CacheSize: cache})
	require.NoError(t, err)
	t.Cleanup(func() { s.keys.Close() })
	for from := 0; from < n; from += 10_000 {
		var subjects []keystore.Subject
		for i := range min(10_000, n-from) {
			subjects = append(subjects, subj(t, fmt.Sprintf("client/%d", from+i+1)))
		}
		_, err := s.keys.Ensure(ctx, nil, []string{""}, subjects...)
		require.NoError(t, err)
	}
	eraser, err := anonymize.New(s.keys, nil)
	require.NoError(t, err)
	codec, err := fieldcrypt.NewCodec[client](s.keys, "clients", nil)
	require.NoError(t, err)
	rows := &table[client]{rows: map[string]client{}}
	for st, err := range s.keys.All(ctx) {
		require.NoError(t, err)
		if len(rows.rows) == tableRows {
			break
		}
		rows.rows[st.Subject.ID()], err = codec.Seal(ctx, client{ID: st.Subject.ID(), Name: "Ada", Email: "ada@example.com", Country: "NL"})
		require.NoError(t, err)
	}
	s.clients = anonymize.Register(eraser, codec, rows)
	columns, err := admin.TableColumns(s.clients, "name", "email", "country")
	require.NoError(t, err)
	all := []admin.Permission{admin.View, admin.Anonymize, admin.Restrict, admin.Export}
	s.plain = s.handler(eraser, nil, append(all, admin.Reveal))
	s.masked = s.handler(eraser, columns, all)
	s.revealed = s.handler(eraser, columns, append(all, admin.Reveal))
	return s
}

func (s *scale) handler(eraser *anonymize.Eraser, columns admin.Columns, ps []admin.Permission) *admin.Handler {
	viewer := admin.ViewerFor("officer-7", ps...)
	h, err := admin.New(eraser, &admin.Options{Columns: columns, PageSize: perPage,
		Viewer: func(*http.Request) (admin.Viewer, error) { return viewer, nil }})
	require.NoError(s.t, err)
	return h
}

// get asks for a page of the list.
func (s *scale) get(h *admin.Handler, to string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/"+to, nil))
	if rec.Code != http.StatusOK {
		s.t.Fatalf("%s: %d", to, rec.Code)
	}
	return rec
}

var (
	nextPage = regexp.MustCompile(`rel="next" href="\./([^"]*)"`)
	oneRow   = regexp.MustCompile(`<tr>(?:<td class="tick">.*?</td>)?<th scope="row">`)
)

// all follows the list from its first page to its last, and returns how many there were,
// and how much larger the heap is after the last than it was after the first few.
func (s *scale) all(h *admin.Handler) (pages int, took time.Duration, grown int) {
	people, before := 0, 0
	start := time.Now()
	for to := ""; ; {
		body := s.get(h, to).Body.String()
		people += len(oneRow.FindAllStringIndex(body, -1))
		if pages++; pages == 10 {
			before = heap()
		}
		next := nextPage.FindStringSubmatch(body)
		if next == nil {
			break
		}
		to = html.UnescapeString(next[1])
	}
	took = time.Since(start)
	require.Equal(s.t, s.n, people, "everybody, and nobody twice")
	return pages, took, heap() - before
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Paging through everybody takes no more memory than the first few pages did: what is kept
// is bounded, by the keystore's cache where values are opened.
func TestPagingThroughEverybodyIsFlat(t *testing.T) {
	s := newScale(t, memstore.New(), 20_000, 100)
	for name, h := range map[string]*admin.Handler{"plain": s.plain, "masked": s.masked, "revealed": s.revealed} {
		t.Run(name, func(t *testing.T) {
			pages, _, grown := s.all(h)
			require.Equal(t, 400, pages)
			require.Less(t, grown, 100_000, "bytes, of 20,000 people")
		})
	}
}
