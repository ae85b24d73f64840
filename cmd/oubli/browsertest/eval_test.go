package browsertest

import (
	"context"
	"encoding/json"
	"regexp"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// call runs a command of the browser's protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	r, err := chromedp.Call(ctx, command, params)
	require.NoError(b.t, err)
	return r
}

// eval asks the page a question in its own language, which the page's policy does not
// concern, nor whether scripts are on.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := onThePage(b, chromedp.Evaluate[T](expression, func(p *runtime.EvaluateParams) {
		yes := true
		p.AwaitPromise = &yes
	}))
	require.NoError(b.t, err, expression)
	return v
}

// onThePage runs an action, and runs it again if another page came just then.
func onThePage[T any](b *tab, action chromedp.Action[T]) (v T, err error) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		v, err = chromedp.Run(ctx, action)
		if err == nil || ctx.Err() != nil || !overtaken.MatchString(err.Error()) {
			return v, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

var overtaken = regexp.MustCompile(`navigated or closed|[Cc]annot find context|context was destroyed`)

// text is what can be read on the page.
func (b *tab) text() string {
	b.t.Helper()
	return eval[string](b, `document.body ? document.body.innerText : ""`)
}

// address is the page's own, below the origin.
func (b *tab) address() string {
	b.t.Helper()
	return eval[string](b, `location.pathname + location.search`)
}

// evaluateObject evaluates to an object that stays in the page.
func evaluateObject(expression string) chromedp.Action[runtime.RemoteObjectID] {
	return func(ctx context.Context, t *chromedp.Target) (runtime.RemoteObjectID, error) {
		o, err := chromedp.Evaluate[*runtime.RemoteObject](expression)(ctx, t)
		if err != nil {
			return "", err
		}
		return o.ObjectID, nil
	}
}

// ask evaluates an expression in which this is an element.
func ask[T any](b *tab, e element, expression string) T {
	b.t.Helper()
	r := call(b, dom.ResolveNode, dom.ResolveNodeParams{BackendNodeID: e.node})
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.CallFunctionOn[T]("function() { return "+expression+" }",
		func(p *runtime.CallFunctionOnParams) { p.ObjectID = r.Object.ObjectID }))
	require.NoError(b.t, err, expression)
	return v
}

// axText is a text of the accessibility tree.
func axText(v *accessibility.Value) string {
	var s string
	if v == nil || json.Unmarshal(v.Value, &s) != nil {
		return ""
	}
	return s
}
