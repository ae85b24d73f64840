package admin

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// nasty are texts that would do harm where they are not escaped.
var nasty = []string{"", "", "a", `"><script>alert(1)</script>`, `' onfocus=alert(1) x='`, "{{.}}", "&lt;", "a+b", "א\u202eb", "%22%3E", strings.Repeat("long", 9)}

// anyList is a list with something of everything that a list can have.
func anyList(r *rand.Rand, columns [][]Column) *peoplePage {
	text := func() string { return nasty[r.IntN(len(nasty))] }
	maybe := func(url string) string { return []string{"", url}[r.IntN(2)] }
	i := r.IntN(len(filters))
	p := &peoplePage{Query: text(), After: text(), State: filters[i], Filters: choices[r.IntN(len(choices))], Columns: columns[r.IntN(len(columns))],
		Next: maybe(link("", "after", text()+"1")), First: maybe(link("", "state", text())), MaxBatch: keystore.MaxBatch,
		May: actions{r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(2) == 0}}
	p.frame = frame{Here: "people", Actor: text(), Busy: r.IntN(2) == 0, Idle: r.IntN(2) == 0, URL: link("", "q", text())}
	switch r.IntN(20) {
	case 0:
		p.Problem = "damaged"
	case 1:
		p.Hidden = 3
	case 2:
		p.Missing = []string{text()}
	case 3:
		p.Notice = "nothing"
	}
	for n := range r.IntN(4) {
		who := person{Subject: "client/" + text(), URL: link("person", "s", text()), State: keystore.State(r.IntN(5)), Kept: r.IntN(2) == 0, Hold: text(),
			Final: r.IntN(2) == 0, Own: n == 1, Selected: r.IntN(2) == 0}
		for range p.Columns {
			who.Values = append(who.Values, Value{Text: text(), State: fieldcrypt.StatusOpen, Masked: r.IntN(4) == 0})
		}
		p.People = append(p.People, who)
	}
	return p
}

// What is put together from pieces is what the templates make.
func TestListsAreDrawnAsByTemplates(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	drawn := newTestRenderer(t, nil)
	columns := [][]Column{nil, {{Name: "name", Personal: true}, {Name: "country"}}, {{Name: "<b>"}}, {{Name: "b"}}}
	for range 300 {
		p := anyList(r, columns)
		for hidden := range 2 {
			p.Hidden += hidden
			var want, got bytes.Buffer
			require.NoError(t, drawn.pages["people"].Execute(&want, p))
			require.NoError(t, drawn.draw(&got, p))
			plus := strings.NewReplacer("&#43;", "+") // html/template escapes it, for very old browsers
			require.Equal(t, plus.Replace(want.String()), plus.Replace(got.String()))
		}
	}
	require.NotEmpty(t, drawn.lists.known)
	require.LessOrEqual(t, len(drawn.lists.known), maxSkeletons)
}

func TestListsAreDrawnByManyAtOnce(t *testing.T) {
	drawn := newTestRenderer(t, nil)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				p := &peoplePage{Query: fmt.Sprint("query", i, "-", j), Filters: choices[j%5], People: []person{{Subject: fmt.Sprint("client/", i, j)}}}
				var b bytes.Buffer
				if err := drawn.draw(&b, p); err != nil || !strings.Contains(b.String(), p.People[0].Subject) || strings.Count(b.String(), p.Query) != 2 {
					t.Errorf("%s: %v", p.Query, err)
				}
			}
		})
	}
	wg.Wait()
}
