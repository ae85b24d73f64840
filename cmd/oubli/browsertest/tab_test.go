package browsertest

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// patience is how long something that is about to happen may take.
const patience = 30 * time.Second

// tab is a tab of the browser, which watches the page in it.
type tab struct {
	t      testing.TB
	ctx    context.Context
	origin string
	quiet  bool // scripts are off

	mu       sync.Mutex
	problems []string
	allowed  []int // statuses that pages may have besides 200
	kinds    map[network.RequestID]network.ResourceType
	requests []string
}

// newTab opens a tab for the pages of an origin. The test fails if they do what no page may.
func newTab(t testing.TB, origin string) *tab {
	b := openTab(t, origin)
	t.Cleanup(func() {
		for _, p := range b.found() {
			t.Errorf("the browser: %s", p)
		}
	})
	return b
}

// openTab opens a tab and leaves it to the caller to look at what was found.
func openTab(t testing.TB, origin string) *tab {
	t.Helper()
	b := &tab{t: t, origin: origin, kinds: map[network.RequestID]network.ResourceType{}}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(b.hear))
	t.Cleanup(cancel)
	b.ctx = ctx
	b.do(chromedp.Do(ctx))
	go b.answerDialogs(chromedp.Events(ctx, page.JavascriptDialogOpening))
	call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `
		document.addEventListener("securitypolicyviolation", e =>
			console.error("the policy forbids", e.effectiveDirective, e.blockedURI))`})
	b.size(1280, 900)
	b.dark(false)
	return b
}

// hear takes note of what the page does. It runs on the goroutine that reads the browser's
// messages.
func (b *tab) hear(event any) {
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		b.mu.Lock()
		b.kinds[e.RequestID] = e.Type
		b.requests = append(b.requests, e.Request.URL)
		b.mu.Unlock()
		if u, err := url.Parse(e.Request.URL); err != nil || u.Scheme+"://"+u.Host != b.origin && u.Scheme != "about" {
			b.note("a request leaves the origin: %s", e.Request.URL)
		}
	case *log.EventEntryAdded:
		if e.Entry.Level != log.EntryLevelVerbose && e.Entry.Level != log.EntryLevelInfo && !b.allows(e.Entry) {
			b.note("the log has %s: %s (%s)", e.Entry.Level, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		var said []string
		for _, a := range e.Args {
			said = append(said, strings.Trim(string(a.Value), `"`)+a.Description)
		}
		b.note("the console has %s: %s", e.Type, strings.Join(said, " "))
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			text += " " + x.Description
		}
		b.note("an exception: %s", text)
	case *page.EventJavascriptDialogOpening:
		b.note("a dialog: %s", e.Message)
	}
}

// allows says whether an entry is only about the status of a page that may have it.
func (b *tab) allows(e *log.Entry) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return e.Source == log.EntrySourceNetwork && b.kinds[e.NetworkRequestID] == network.ResourceTypeDocument &&
		slices.ContainsFunc(b.allowed, func(status int) bool {
			return strings.Contains(e.Text, fmt.Sprintf("status of %d ", status))
		})
}

// allow lets pages have these statuses.
func (b *tab) allow(statuses ...int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allowed = append(b.allowed, statuses...)
}

func (b *tab) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, fmt.Sprintf(format, args...))
}

// found is what the pages did that they may not.
func (b *tab) found() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.problems)
}

// answerDialogs keeps a dialog from holding everything up.
func (b *tab) answerDialogs(dialogs func(func(page.EventJavascriptDialogOpening, error) bool)) {
	for _, err := range dialogs {
		if err != nil {
			return
		}
		if _, err := chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{}); err != nil {
			b.note("the dialog can't be closed: %v", err)
		}
	}
}

// withoutScripts turns scripts off, for the pages that are opened from now on.
func (b *tab) withoutScripts() {
	b.t.Helper()
	b.quiet = true
	b.scripts(false)
}

func (b *tab) scripts(on bool) {
	b.t.Helper()
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
}

// open goes to a page, below the origin, and returns its status.
func (b *tab) open(path string) int {
	b.t.Helper()
	return b.goes(func(ctx context.Context) error { return chromedp.Do(ctx, navigate(b.origin+path)) })
}

// reload asks for the page again.
func (b *tab) reload() int {
	b.t.Helper()
	return b.goes(func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, page.Reload, page.ReloadParams{})
		return err
	})
}

// goes does something that leads to another page, waits for that, and returns its status.
func (b *tab) goes(do func(context.Context) error) int {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	r, err := chromedp.RunResponse(ctx, func(ctx context.Context, _ *chromedp.Target) (chromedp.Void, error) {
		return chromedp.Void{}, do(ctx)
	})
	require.NoError(b.t, err, "no other page came")
	require.NotNil(b.t, r)
	return int(r.Status)
}

func navigate(to string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		r, err := chromedp.Call(ctx, page.Navigate, page.NavigateParams{URL: to})
		if err == nil && r.ErrorText != "" {
			err = fmt.Errorf("%s: %s", to, r.ErrorText)
		}
		return chromedp.Void{}, err
	}
}

// until waits for something to become so.
func (b *tab) until(what string, so func() bool) {
	b.t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("after %v there is still no %s; the page says:\n%s", patience, what, b.text())
		}
	}
}

// do fails the test at an error.
func (b *tab) do(err error) {
	b.t.Helper()
	require.NoError(b.t, err)
}
