package browsertest

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/anonymize/admin"
)

// element is something on the page as a screen reader tells of it.
type element struct {
	node cdp.BackendNodeID
	role string
	name string
}

// all lists what there is of a role.
func (b *tab) all(role string) (list []element) {
	b.t.Helper()
	for _, r := range strings.Split(role, "|") {
		list = append(list, b.ofRole(r)...)
	}
	return list
}

func (b *tab) ofRole(role string) (list []element) {
	b.t.Helper()
	document, err := onThePage(b, evaluateObject("document"))
	require.NoError(b.t, err)
	r, err := chromedp.Call(b.ctx, accessibility.QueryAXTree, accessibility.QueryAXTreeParams{ObjectID: document, Role: role})
	if err != nil {
		return nil // the page is about to be another one
	}
	for _, n := range r.Nodes {
		if !n.Ignored && n.BackendDOMNodeID != 0 {
			list = append(list, element{n.BackendDOMNodeID, role, strings.TrimSpace(axText(n.Name))})
		}
	}
	return list
}

// named finds what has this name, or else this name in it, ending where a word does.
func (b *tab) named(role, name string) []element {
	b.t.Helper()
	all := b.all(role)
	exact := slices.DeleteFunc(slices.Clone(all), func(e element) bool { return e.name != name })
	if len(exact) > 0 {
		return exact
	}
	part := regexp.MustCompile(`(^|[\s(:,])` + regexp.QuoteMeta(name) + `($|[\s),.:…])`)
	return slices.DeleteFunc(all, func(e element) bool { return !part.MatchString(e.name) })
}

// find waits for the one that has this name.
func (b *tab) find(role, name string) element {
	b.t.Helper()
	var found []element
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if found = b.named(role, name); len(found) == 1 {
			return found[0]
		}
		if time.Now().After(end) || len(found) > 1 {
			var names []string
			for _, e := range b.all(role) {
				names = append(names, fmt.Sprintf("%q", e.name))
			}
			b.t.Fatalf("there are %d of role %s named %q; of that role there are: %s\nthe page says:\n%s",
				len(found), role, name, strings.Join(names, ", "), b.text())
		}
	}
}

// hit clicks in the middle of an element, as a mouse does.
func (b *tab) hit(ctx context.Context, e element) error {
	if _, err := chromedp.Call(ctx, dom.ScrollIntoViewIfNeeded, dom.ScrollIntoViewIfNeededParams{BackendNodeID: e.node}); err != nil {
		return err
	}
	r, err := chromedp.Call(ctx, dom.GetContentQuads, dom.GetContentQuadsParams{BackendNodeID: e.node})
	if err != nil {
		return err
	}
	if len(r.Quads) == 0 {
		return fmt.Errorf("%s %q has no place on the page", e.role, e.name)
	}
	q := r.Quads[0]
	return chromedp.Do(ctx, chromedp.MouseClickXY((q[0]+q[4])/2, (q[1]+q[5])/2))
}

// click clicks what stays on the page.
func (b *tab) click(role, name string) {
	b.t.Helper()
	b.do(b.hit(b.ctx, b.find(role, name)))
}

// follow clicks what leads to another page, and returns that one's status.
func (b *tab) follow(role, name string) int {
	b.t.Helper()
	e := b.find(role, name)
	return b.goes(func(ctx context.Context) error { return b.hit(ctx, e) })
}

// tick ticks a box, which was not ticked.
func (b *tab) tick(name string) {
	b.t.Helper()
	b.click("checkbox", name)
	require.True(b.t, b.ticked(name), "the box %q stays as it was", name)
}

func (b *tab) ticked(name string) bool {
	b.t.Helper()
	return b.is(b.find("checkbox", name), `this.checked`)
}

// is asks an element whether something holds.
func (b *tab) is(e element, expression string) bool {
	b.t.Helper()
	return ask[bool](b, e, expression)
}

// fill puts text into a field, in the place of what is there.
func (b *tab) fill(name, text string) {
	b.t.Helper()
	e := b.find("textbox|searchbox", name)
	b.do(b.hit(b.ctx, e))
	ask[bool](b, e, `(this.select(), true)`)
	if text == "" {
		b.press("Delete")
		return
	}
	b.write(text)
}

// write writes into what has the focus.
func (b *tab) write(text string) {
	b.t.Helper()
	call(b, input.InsertText, input.InsertTextParams{Text: text})
}

// words is a text of the page, with values put in.
func words(key string, values ...string) string {
	text := admin.English()[key]
	for _, v := range values {
		text = strings.Replace(text, "%s", v, 1)
	}
	return text
}

// toType is the name of the field of a confirmation, and what is to be typed: the id of one,
// or the number of several.
func toType(ids []string) (field, typed string) {
	if len(ids) == 1 {
		return words("confirm.type.one", oneLine(ids[0])), ids[0]
	}
	n := strconv.Itoa(len(ids))
	return words("confirm.type.many", n), n
}

// eraseButton is the name of the button that erases so many.
func eraseButton(n int) string {
	if n == 1 {
		return words("confirm.do.one.erase")
	}
	return words("confirm.do.erase.other", strconv.Itoa(n))
}

// erase types what a confirmation asks for, and presses its button.
func (b *tab) erase(ids ...string) {
	b.t.Helper()
	field, typed := toType(ids)
	b.fill(field, typed)
	require.Equal(b.t, http.StatusOK, b.follow("button", eraseButton(len(ids))))
}

// keys that have no character.
var keys = map[string]struct {
	code  int64
	text  string
	shift bool
}{
	"Tab": {9, "", false}, "Shift+Tab": {9, "", true}, "Enter": {13, "\r", false}, "Space": {32, " ", false},
	"Escape": {27, "", false}, "ArrowDown": {40, "", false}, "ArrowUp": {38, "", false}, "Delete": {46, "", false},
}

// press presses keys, one after the other.
func (b *tab) press(names ...string) {
	b.t.Helper()
	for _, name := range names {
		b.do(b.strike(b.ctx, name))
	}
}

// send presses a key that leads to another page, and returns that one's status.
func (b *tab) send(name string) int {
	b.t.Helper()
	return b.goes(func(ctx context.Context) error { return b.strike(ctx, name) })
}

func (b *tab) strike(ctx context.Context, name string) error {
	k, ok := keys[name]
	if !ok {
		return fmt.Errorf("no key is named %s", name)
	}
	name = strings.TrimPrefix(name, "Shift+")
	p := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeRawKeyDown, Key: name, Code: name, WindowsVirtualKeyCode: k.code}
	if name == "Space" {
		p.Key = " "
	}
	if k.shift {
		p.Modifiers = 8
	}
	if k.text != "" {
		p.Type, p.Text, p.UnmodifiedText = input.DispatchKeyEventTypeKeyDown, k.text, k.text
	}
	if _, err := chromedp.Call(ctx, input.DispatchKeyEvent, p); err != nil {
		return err
	}
	p.Type, p.Text, p.UnmodifiedText = input.DispatchKeyEventTypeKeyUp, "", ""
	_, err := chromedp.Call(ctx, input.DispatchKeyEvent, p)
	return err
}
