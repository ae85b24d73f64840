package admin

import (
	"fmt"
	"html"
	"html/template"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

// markup writes HTML without a template: for the rows of the list, where the templates'
// reflection would cost several times what reading the people costs. What is not a
// constant of this package can only come in as text, which is escaped, or as HTML that was
// made here.
type markup struct{ b strings.Builder }

// literal is HTML that stands in the source. Only a constant becomes one by itself.
type literal string

func (m *markup) raw(l literal)        { m.b.WriteString(string(l)) }
func (m *markup) text(s string)        { m.b.WriteString(html.EscapeString(s)) }
func (m *markup) html(h template.HTML) { m.b.WriteString(string(h)) }
func (m *markup) done() template.HTML  { return template.HTML(m.b.String()) }
func (m *markup) icon(name literal) {
	m.raw(`<svg class="icon" aria-hidden="true"><use href="#i-`)
	m.raw(name)
	m.raw(`"/></svg>`)
}

// funcs are what templates can call.
func (t *renderer) funcs() template.FuncMap {
	w := t.words
	return template.FuncMap{
		"t":        func(key string) string { return w.get(key) }, // left are those that parse did not put in
		"tr":       w.text,
		"n":        w.plural,
		"k":        func(family, key string, args ...any) template.HTML { return w.text(family+key, args...) },
		"number":   w.number,
		"at":       w.time,
		"when":     func(at time.Time) template.HTML { return w.when(at, t.clock()) },
		"ago":      func(at time.Time) template.HTML { return w.relative(at, t.clock()) },
		"duration": w.duration,
		"bdi":      bdi,
		"plain":    plain,
		"where":    where,
		"ids":      ids,
		"any":      func(a actions) bool { return a != actions{} },
		"rows":     t.rows,
		"badge":    t.badge,
		"step":     t.step,
		"stepIcon": func(step string) literal { return stepIcon(step) },
		"final":    t.final,
		"value":    t.field,
		"width":    width,
		"shown":    t.shown,
		"keeps":    t.keeps,
		"keeping": func(list []keepChoice) bool {
			return slices.ContainsFunc(list, func(k keepChoice) bool { return k.Checked })
		},
		"action":  t.action,
		"problem": func(p problem) template.HTML { return w.text("problem."+p.Text, p.Args...) },
		"keyid":   func(id uint32) string { return fmt.Sprintf("%08x", id) },
		"short":   func(id keystore.RootID) string { return id.String()[:8] },
	}
}

// bdi shows a text that comes from elsewhere, isolated from the writing direction around
// it. One that has nowhere to break may break anywhere, and no other word does.
func (m *markup) bdi(s string) {
	if unbroken(s) {
		m.raw(`<bdi class="long">`)
	} else {
		m.raw(`<bdi>`)
	}
	m.text(s)
	m.raw(`</bdi>`)
}

func bdi(s string) template.HTML {
	var m markup
	m.bdi(s)
	return m.done()
}

var tags = regexp.MustCompile(`<[^>]*>`)

// plain is the text of HTML, for the title, where elements can't be.
func plain(h template.HTML) string {
	return html.UnescapeString(tags.ReplaceAllString(string(h), ""))
}

// where is the name alone of what an error names with its kind, as customer "crm".
func where(on string) string {
	if _, quoted, ok := strings.Cut(on, " "); ok {
		if name, err := strconv.Unquote(quoted); err == nil {
			return name
		}
	}
	return on
}

// unbroken tells whether a text has a piece without a space that is too long for a column.
func unbroken(s string) bool {
	const most = 26 // bytes; an e-mail address has about that
	if len(s) <= most {
		return false
	}
	run := 0
	for i := range len(s) {
		if run++; s[i] == ' ' {
			run = 0
		}
		if run > most {
			return true
		}
	}
	return false
}

// width is the class of a table by its columns: those of the application, and further ones.
func width(columns []Column, further int) string {
	switch n := len(columns) + further; {
	case n > 8:
		return " many"
	case n > 4:
		return " some"
	}
	return ""
}

// ids shows several names, each as one piece of text.
func ids(list []string) template.HTML {
	var m markup
	for i, s := range list {
		if i > 0 {
			m.raw(" ")
		}
		m.raw("<span>")
		m.bdi(s)
		m.raw("</span>")
	}
	return m.done()
}

// action names what was asked for.
func (t *renderer) action(a string) template.HTML {
	if _, ok := t.words.texts["action.done."+a]; ok {
		return t.words.text("action.done." + a)
	}
	return bdi(a)
}

// badge shows a person's state by word, colour and shape.
func (t *renderer) badge(p any) template.HTML { return t.badges[stateIcon(personOf(p).State)] }

// personOf returns the person of a line.
func personOf(line any) *person {
	switch p := line.(type) {
	case confirmPerson:
		return &p.person
	case batchPerson:
		return &p.person
	}
	p := line.(person)
	return &p
}

// newBadges draws them once: there are few, and each row of the list has one.
func (t *renderer) newBadges() {
	t.badges = map[literal]template.HTML{}
	for s := keystore.StateUnknown; s <= keystore.StateErased; s++ {
		var m markup
		icon := stateIcon(s)
		m.raw(`<span class="badge `)
		m.raw(icon)
		m.raw(`">`)
		m.icon(icon)
		m.text(t.words.get("state." + string(icon)))
		m.raw(`</span>`)
		t.badges[icon] = m.done()
	}
}

func stateIcon(s keystore.State) literal {
	switch s {
	case keystore.StateActive:
		return "active"
	case keystore.StateRestricted:
		return "restricted"
	case keystore.StateErasing:
		return "erasing"
	case keystore.StateErased:
		return "erased"
	}
	return "unknown"
}

// step shows how far something has come, like badge.
func (t *renderer) step(step string) template.HTML {
	var m markup
	icon := stepIcon(step)
	m.raw(`<span class="badge step-`)
	m.raw(icon)
	m.raw(`">`)
	m.icon(icon)
	m.text(t.words.get("step." + step))
	m.raw(`</span>`)
	return m.done()
}

// stepIcon is the shape and the colour of a step of an erasure or of a receiver.
func stepIcon(step string) literal {
	switch step {
	case "done":
		return "done"
	case "failed":
		return "failed"
	case "refused":
		return "refused"
	case "cancelled":
		return "cancelled"
	case "working":
		return "erasing"
	case "waiting", "missing":
		return "waiting"
	}
	return "open"
}

// final says from when on keystore copies are dead.
func (t *renderer) final(p any) template.HTML {
	var m markup
	t.putFinal(&m, personOf(p))
	return m.done()
}

func (t *renderer) putFinal(m *markup, p *person) {
	switch {
	case p.Final:
		m.text(t.words.get("final.is"))
	case !p.FinalAt.IsZero():
		m.html(t.words.text("final.at", p.FinalAt))
	default:
		m.text(t.words.get("final.notyet"))
	}
}

// rows draws the people of the list: all of its table below the head.
func (t *renderer) rows(p any) template.HTML {
	page, ok := p.(*peoplePage)
	if !ok {
		v := p.(peoplePage)
		page = &v
	}
	if page.drawn != "" {
		return page.drawn
	}
	heads := make([]string, len(page.Columns))
	for i, c := range page.Columns {
		heads[i] = html.EscapeString(c.Name)
	}
	state, tick := html.EscapeString(t.words.get("people.state")), page.May != actions{}
	var m markup
	m.b.Grow((500 + 100*len(heads)) * len(page.People))
	m.raw("<tbody>")
	for i := range page.People {
		t.putRow(&m, &page.People[i], heads, state, tick)
	}
	m.raw("</tbody>")
	return m.done()
}

func (t *renderer) putRow(m *markup, p *person, heads []string, state string, tick bool) {
	subject := html.EscapeString(p.Subject)
	m.raw("<tr>")
	if tick {
		m.raw(`<td class="tick"><label><input type="checkbox" name="s" value="`)
		m.html(template.HTML(subject))
		if p.Selected {
			m.raw(`" checked><span class="vh">`)
		} else {
			m.raw(`"><span class="vh">`)
		}
		m.html(template.HTML(subject))
		m.raw(`</span></label></td>`)
	}
	m.raw(`<th scope="row"><a href="`)
	m.text(p.URL)
	m.raw(`">`)
	m.bdi(p.Subject)
	m.raw(`</a>`)
	if p.Own {
		m.raw(` <span class="tag">`)
		m.text(t.words.get("people.own"))
		m.raw(`</span>`)
	}
	m.raw(`</th>`)
	for i, head := range heads {
		m.raw(`<td data-label="`)
		m.html(template.HTML(head))
		m.raw(`">`)
		if i < len(p.Values) {
			v := &p.Values[i]
			t.putValue(m, v.Text, v.State, v.Masked, false)
		} else {
			t.putValue(m, "", "", false, true)
		}
		m.raw(`</td>`)
	}
	m.raw(`<td class="state" data-label="`)
	m.html(template.HTML(state))
	m.raw(`">`)
	m.html(t.badges[stateIcon(p.State)])
	if p.State == keystore.StateErased || p.Kept {
		m.raw(` <span class="hint">`)
		if p.Kept {
			m.text(t.words.get("state.kept"))
			m.raw(" ")
		}
		t.putFinal(m, p)
		m.raw(`</span>`)
	} else if p.Hold != "" {
		m.raw(` <span class="hint">`)
		m.text(t.words.get("state.hold"))
		m.raw(`</span>`)
	}
	m.raw(`</td></tr>`)
}

// shown shows the value of a column; values are nil where there is no row.
func (t *renderer) shown(values []Value, i int) template.HTML {
	var m markup
	if i < len(values) {
		t.putValue(&m, values[i].Text, values[i].State, values[i].Masked, false)
	} else {
		t.putValue(&m, "", "", false, true)
	}
	return m.done()
}

// keeps says which fields a purpose keeps.
func (t *renderer) keeps(tables []confirmTable, purpose string) template.HTML {
	var m markup
	for _, table := range tables {
		for _, p := range table.ByPurpose {
			if p.Purpose == purpose && len(p.Fields) > 0 {
				if m.b.Len() > 0 {
					m.raw("; ")
				}
				m.html(bdi(table.Table + ": " + strings.Join(p.Fields, ", ")))
			}
		}
	}
	if m.b.Len() == 0 {
		return ""
	}
	return t.words.text("confirm.keep.keeps", m.done())
}

// field shows a field of a person's row.
func (t *renderer) field(f field) template.HTML {
	var m markup
	t.putValue(&m, f.Text, f.State, f.Masked, f.Null)
	return m.done()
}

// putValue shows a value, or in a word why there is none.
func (t *renderer) putValue(m *markup, text string, state fieldcrypt.Status, masked, null bool) {
	switch {
	case masked:
		m.raw(`<span class="masked"><span aria-hidden="true">••••••</span><span class="vh">`)
		m.text(t.words.get("value.masked"))
		m.raw(`</span></span>`)
	case state == fieldcrypt.StatusErased:
		m.raw(`<span class="none">`)
		m.text(t.words.get("value.erased"))
		m.raw(`</span>`)
	case state == fieldcrypt.StatusWithheld:
		m.raw(`<span class="none">`)
		m.text(t.words.get("value.withheld"))
		m.raw(`</span>`)
	case null:
		m.raw(`<span class="none"><span aria-hidden="true">–</span><span class="vh">`)
		m.text(t.words.get("value.null"))
		m.raw(`</span></span>`)
	default:
		m.bdi(text)
	}
}
