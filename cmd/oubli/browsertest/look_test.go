package browsertest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// screens are the widths at which a page is looked at.
var screens = []struct {
	name          string
	width, height int64
	axe           bool // a page is laid out either as on a desktop or as on a telephone
}{{"desktop", 1280, 900, true}, {"tablet", 768, 1024, false}, {"phone", 360, 740, true}}

// size makes the window another size. A narrow one is a telephone's.
func (b *tab) size(width, height int64) {
	b.t.Helper()
	var options []chromedp.EmulateViewportOption
	if width < 500 {
		options = append(options, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	b.do(chromedp.Do(b.ctx, chromedp.EmulateViewport(width, height, options...)))
}

// dark tells the page what the viewer prefers.
func (b *tab) dark(dark bool) {
	b.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

// emptied are the folders of pictures that hold none of an earlier run.
var emptied = map[string]bool{}

// look looks at the page as it is, in light and in dark and on each screen: nothing may be
// wider than the screen, axe-core may find nothing, and a picture is kept under this name.
func (b *tab) look(name string) {
	b.t.Helper()
	for _, dark := range []bool{false, true} {
		b.dark(dark)
		scheme := "light"
		if dark {
			scheme = "dark"
		}
		for _, s := range screens {
			b.size(s.width, s.height)
			what := fmt.Sprintf("%s, %s, %s", name, s.name, scheme)
			if wide := b.tooWide(); wide != "" {
				b.t.Errorf("%s: %s", what, wide)
			}
			if s.axe {
				for _, v := range b.violations(dark) {
					b.t.Errorf("%s: axe-core: %s", what, v)
				}
			}
			b.picture(fmt.Sprintf("%s-%d-%s", name, s.width, scheme))
		}
	}
	b.dark(false)
	b.size(1280, 900)
}

// tooWide says what is wider than the window, if anything is.
func (b *tab) tooWide() string {
	b.t.Helper()
	return eval[string](b, `(() => {
		const room = document.documentElement.clientWidth, wide = document.documentElement.scrollWidth
		if (wide <= room) return ""
		const who = [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > room + 0.5)
		return "the page is " + wide + " wide in a window of " + room + ": " +
			who.slice(0, 5).map(e => e.outerHTML.slice(0, 120)).join(" … ")
	})()`)
}

// violations runs all rules of axe-core, or only those that colours matter to.
func (b *tab) violations(colours bool) (list []string) {
	b.t.Helper()
	if b.quiet {
		// axe-core waits for promises, which are not kept while scripts are off. The page's own
		// scripts do not begin now.
		b.scripts(true)
		defer b.scripts(false)
	}
	if !eval[bool](b, `typeof axe == "object"`) {
		eval[bool](b, axe+"; true")
	}
	var found []struct {
		ID, Help string
		Nodes    []struct {
			Target         []any
			HTML           string
			FailureSummary string
		}
	}
	rules := `axe.getRules().map(r => r.ruleId)`
	if colours {
		rules = `["color-contrast", "color-contrast-enhanced", "link-in-text-block"]`
	}
	text := eval[string](b, `axe.run(document, {
		resultTypes: ["violations"],
		runOnly: {type: "rule", values: `+rules+`},
	}).then(r => JSON.stringify(r.violations))`)
	require.NoError(b.t, json.Unmarshal([]byte(text), &found))
	for _, v := range found {
		for _, n := range v.Nodes {
			list = append(list, fmt.Sprintf("%s: %s: %v: %s: %s", v.ID, v.Help, n.Target,
				oneLine(n.HTML), oneLine(n.FailureSummary)))
		}
	}
	return list
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// picture keeps a picture of the whole page.
func (b *tab) picture(name string) {
	b.t.Helper()
	folder := filepath.Join(root, "build", "screenshots", strings.ReplaceAll(b.t.Name(), "/", "-"))
	if !emptied[folder] {
		emptied[folder] = true
		b.do(os.RemoveAll(folder))
		b.do(os.MkdirAll(folder, 0o755))
	}
	layout := call(b, page.GetLayoutMetrics, cdp.Empty{})
	size, view := layout.CSSContentSize, layout.CSSLayoutViewport
	yes := true
	png := call(b, page.CaptureScreenshot, page.CaptureScreenshotParams{
		Format: page.CaptureScreenshotFormatPng, CaptureBeyondViewport: &yes, OptimizeForSpeed: &yes,
		Clip: &page.Viewport{Width: size.Width, Height: max(size.Height, float64(view.ClientHeight)), Scale: 1},
	}).Data
	b.do(os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644))
}
