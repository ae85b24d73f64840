package admin

import (
	"bytes"
	"crypto/rand"
	"html"
	"html/template"
	"strings"
	"sync"

	"github.com/oubli/oubli/keystore"
)

// Drawing the list by its templates costs several times what reading its people does, and
// most of it comes out the same each time. So what the templates make of a page is kept,
// cut where the page's own values stand, and the next page like it is put together from
// the pieces. Templates and rows stay the only places that know HTML.

// likeness is all that the templates of the list depend on, but for the values in holes.
// Filters and columns are the same where they are the same slices, which nobody changes.
type likeness struct {
	frame                     frame // with holes
	query, after, next, first string
	filters                   *filter
	columns                   *Column
	width                     int
	state                     keystore.State
	people                    bool
	may                       actions
}

// maxSkeletons bounds what is kept. There are some dozens: states, permissions, first and
// later pages.
const maxSkeletons = 500

// skeletons are the pieces of lists that were drawn, by their likeness.
type skeletons struct {
	mark  string // a text that is in no page, for holes
	mu    sync.RWMutex
	known map[likeness][]string // pieces, each after the first with its hole's letter
}

func newSkeletons() *skeletons {
	return &skeletons{mark: "hole" + rand.Text()[:14], known: map[likeness][]string{}}
}

// holes are what a list has in the templates' HTML, as text: of one that is empty there is
// no hole. One more, behind them, is for the rows.
var holes = [...]func(*peoplePage) *string{
	func(p *peoplePage) *string { return &p.Actor },
	func(p *peoplePage) *string { return &p.URL },
	func(p *peoplePage) *string { return &p.Query },
	func(p *peoplePage) *string { return &p.After },
	func(p *peoplePage) *string { return &p.Next },
	func(p *peoplePage) *string { return &p.First },
}

// hole is what the templates are given for the i-th hole: a piece begins with its letter.
func (s *skeletons) hole(i int) string { return s.mark + string(rune('A'+i)) }

// list draws the list. Pages that say something of their own are drawn by the templates
// alone, and those of an actor whose name they break.
func (t *renderer) list(buf *bytes.Buffer, p *peoplePage) error {
	if unbroken(p.Actor) || p.Problem != "" || p.Notice != "" || p.Hidden > 0 || len(p.Missing) > 0 {
		return t.pages["people"].Execute(buf, p)
	}
	pieces, err := t.pieces(p)
	if err != nil {
		return err
	}
	buf.WriteString(pieces[0])
	for _, piece := range pieces[1:] {
		if i := int(piece[0] - 'A'); i < len(holes) {
			buf.WriteString(html.EscapeString(*holes[i](p)))
		} else {
			buf.WriteString(string(t.rows(p)))
		}
		buf.WriteString(piece[1:])
	}
	return nil
}

// pieces returns what the templates make of lists like p.
func (t *renderer) pieces(p *peoplePage) ([]string, error) {
	s, holed := t.lists, *p
	for i, of := range holes {
		if text := of(&holed); *text != "" {
			*text = s.hole(i)
		}
	}
	k := likeness{frame: holed.frame, query: holed.Query, after: holed.After, next: holed.Next, first: holed.First,
		width: len(p.Columns), state: p.State, people: len(p.People) > 0, may: p.May}
	if len(p.Filters) > 0 {
		k.filters = &p.Filters[0]
	}
	if len(p.Columns) > 0 {
		k.columns = &p.Columns[0]
	}
	s.mu.RLock()
	pieces, full := s.known[k], len(s.known) >= maxSkeletons
	s.mu.RUnlock()
	if pieces != nil {
		return pieces, nil
	}
	if k.people {
		holed.drawn = template.HTML(s.hole(len(holes)))
	}
	var b bytes.Buffer
	if err := t.pages["people"].Execute(&b, &holed); err != nil {
		return nil, err
	}
	pieces = strings.Split(b.String(), s.mark)
	if !full {
		s.mu.Lock()
		s.known[k] = pieces
		s.mu.Unlock()
	}
	return pieces, nil
}
