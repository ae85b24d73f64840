package browsertest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// focus is what has the keyboard.
type focus struct {
	Role, Name  string
	Shown       bool // something around it says so
	Covered     string
	Top, Bottom float64 // on the page
}

func (b *tab) focus() focus {
	b.t.Helper()
	f := eval[focus](b, `(() => {
		const e = document.activeElement, r = e.getBoundingClientRect(), s = getComputedStyle(e)
		const over = document.elementFromPoint((r.left + r.right) / 2, (r.top + r.bottom) / 2)
		return {
			Shown: s.outlineStyle != "none" && parseFloat(s.outlineWidth) >= 2 || s.boxShadow != "none",
			Covered: over && (e.contains(over) || over.contains(e)) ? "" : over ? over.outerHTML.slice(0, 100) : "the edge of the window",
			Top: r.top + scrollY, Bottom: r.bottom + scrollY,
		}
	})()`)
	active, err := onThePage(b, evaluateObject("document.activeElement"))
	require.NoError(b.t, err)
	no := false
	nodes := call(b, accessibility.GetPartialAXTree, accessibility.GetPartialAXTreeParams{ObjectID: active, FetchRelatives: &no}).Nodes
	require.NotEmpty(b.t, nodes)
	f.Role, f.Name = axText(nodes[0].Role), axText(nodes[0].Name)
	return f
}

// reach presses Tab until the keyboard is at something, and looks at what it passes: each must
// be seen to have the keyboard, lie in view, and stand below or beside the one before.
func (b *tab) reach(role, name string) {
	b.t.Helper()
	var passed []string
	before := focus{Top: -1}
	for range 80 {
		b.press("Tab")
		f := b.focus()
		passed = append(passed, f.Role+" "+f.Name)
		require.True(b.t, f.Shown, "nothing shows that the keyboard is at %s %q", f.Role, f.Name)
		require.Empty(b.t, f.Covered, "%s %q has the keyboard and is not to be seen", f.Role, f.Name)
		require.GreaterOrEqual(b.t, f.Bottom, before.Top, "the keyboard goes back up, from %q to %q", before.Name, f.Name)
		if f.Role == role && oneLine(f.Name) == name {
			return
		}
		before = f
	}
	b.t.Fatalf("Tab does not come to %s %q, but to: %s", role, name, strings.Join(passed, ", "))
}

// TestKeyboardAlone erases three people without a mouse.
func TestKeyboardAlone(t *testing.T) {
	s := openShop(t)
	s.refuse.Store(23)
	b := s.site.signIn("officer")

	b.reach("link", words("frame.skip"))
	b.press("Enter")
	require.Equal(t, "main", eval[string](b, `document.activeElement.id`))
	b.reach("searchbox", words("people.find"))
	b.write("customer/12 customer/23 customer/45")
	require.Equal(t, http.StatusOK, b.send("Enter"))
	for _, who := range []string{"customer/12", "customer/23", "customer/45"} {
		b.reach("checkbox", who)
		b.press("Space")
		require.True(t, b.ticked(who))
	}
	b.reach("button", words("action.erase"))
	require.Equal(t, http.StatusOK, b.send("Enter"))
	field, _ := toType([]string{"12", "23", "45"})
	b.reach("textbox", field)
	b.write("3")
	b.reach("button", eraseButton(3))
	require.Equal(t, http.StatusOK, b.send("Space"))
	b.until("two done", func() bool { return strings.Contains(b.text(), "2 of 3") })

	s.refuse.Store(0)
	b.reload()
	b.reach("button", words("action.retry")+" customer/23")
	require.Equal(t, http.StatusOK, b.send("Enter"))
	b.until("three done", func() bool { return strings.Contains(b.text(), words("batch.finished")) })
	require.Equal(t, []keystore.State{keystore.StateErased, keystore.StateErased, keystore.StateErased}, s.states([]int{12, 23, 45}))

	b.open(where + "person?s=customer/1")
	b.reach("DisclosureTriangle", words("action.export"))
	b.press("Enter")
	b.reach("button", words("action.export.json"))
	b.press("Escape")
	require.Equal(t, words("action.export"), b.focus().Name, "closing the menu loses the keyboard's place")
	require.Empty(t, b.named("button", words("action.export.json")))
}

// TestPollingKeepsFocus sees to it that a page which brings itself up to date takes nothing
// out of somebody's hands.
func TestPollingKeepsFocus(t *testing.T) {
	s := openShop(t)
	s.hang.Store(23)
	b := s.site.signIn("officer")
	b.open(where + "confirm?action=erase&s=customer/23")
	b.erase("23")
	b.reach("button", words("action.cancel")+" customer/23")
	asked := s.site.asked.Load()
	b.until("two more requests", func() bool { return s.site.asked.Load() >= asked+2 })
	b.until("keyboard at the button", func() bool { return oneLine(b.focus().Name) == words("action.cancel")+" customer/23" })
	require.Equal(t, http.StatusOK, b.send("Enter"))
	require.Equal(t, keystore.StateActive, s.state(23))
}

// TestZoom looks at pages that are enlarged to twice their size, which leaves half the room.
func TestZoom(t *testing.T) {
	s := openShop(t).past()
	b := s.site.signIn("officer")
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 640, Height: 450, DeviceScaleFactor: 2})
	for _, page := range []string{"", "?q=customer/3+37+2+5+59", "confirm?action=erase&s=customer/12&s=customer/3&s=customer/5", "person?s=customer/2", "health"} {
		require.Equal(t, http.StatusOK, b.open(where+page))
		require.Empty(t, b.tooWide(), page)
		require.Empty(t, b.violations(false), page)
	}
	b.picture("zoom")
}
