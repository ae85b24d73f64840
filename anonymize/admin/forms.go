package admin

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/oubli/oubli/anonymize"
	"github.com/oubli/oubli/keystore"
)

// The actions that people can be chosen for.
const (
	actErase    = "erase"
	actRestrict = "restrict"
	actRelease  = "release"
)

// needs is the permission for an action; false if there is no such action.
func needs(action string) (Permission, bool) {
	switch action {
	case actErase:
		return Anonymize, true
	case actRestrict, actRelease:
		return Restrict, true
	}
	return "", false
}

// notices are what a page can be asked to say about what just happened.
var notices = []string{"retried", "cancelled", "toolate", "nothing"}

// link is the address of one of our pages, relative to all of them, from pairs of names
// and values. Values may be anything; empty ones are left out.
func link(page string, pairs ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Add(pairs[i], pairs[i+1])
		}
	}
	if page == "" {
		page = "./"
	}
	if len(v) == 0 {
		return page
	}
	return page + "?" + v.Encode()
}

func personURL(s keystore.Subject) string { // link would do, and cost as much as reading them
	return "person?s=" + s.Kind() + "%2F" + url.QueryEscape(s.ID())
}

func batchURL(id keystore.BatchID) string { return link("batch", "id", id.String()) }

// listURL is the page of the list that a form came from, with more to say.
func (q *request) listURL(more ...string) string {
	return link("", append([]string{"q", q.form.Get("q"), "state", q.form.Get("state"), "after", q.form.Get("after")}, more...)...)
}

// subjects returns those of the form, each once: none is no error.
func (q *request) subjects() ([]keystore.Subject, error) {
	if len(q.form["s"]) > keystore.MaxBatch {
		return nil, &answer{code: http.StatusUnprocessableEntity, text: "toomany", back: q.listURL()}
	}
	var list []keystore.Subject
	seen := map[keystore.Subject]bool{}
	for _, text := range q.form["s"] {
		s, err := keystore.ParseSubject(text, keystore.AllowAt())
		if err != nil {
			return nil, bad("")
		}
		if !seen[s] {
			seen[s] = true
			list = append(list, s)
		}
	}
	return list, nil
}

// list splits a text at commas.
func list(text string) []string {
	var parts []string
	for _, p := range strings.Split(text, ",") {
		if p = strings.TrimSpace(p); p != "" {
			parts = append(parts, p)
		}
	}
	return parts
}

// logged renders an error for the log. The text of an application's own error may hold
// personal values, so it shows types only.
func logged(err error) slog.Value {
	if c := (*anonymize.CallbackError)(nil); errors.As(err, &c) {
		return slog.StringValue(c.Public())
	}
	if o := (*foreign)(nil); errors.As(err, &o) {
		return slog.StringValue(fmt.Sprintf("%s failed with a %T", o.what, o.err))
	}
	return slog.StringValue(err.Error())
}

// foreign is an error of the application's own code.
type foreign struct {
	what string
	err  error
}

func (f *foreign) Error() string { return fmt.Sprintf("%s: %v", f.what, f.err) }
func (f *foreign) Unwrap() error { return f.err }

// keyed are locks by batch. The zero value is ready.
type keyed struct {
	mu sync.Mutex
	m  map[keystore.BatchID]*held
}

type held struct {
	sync.Mutex
	users int
}

// lock waits for the batch, and returns what frees it.
func (k *keyed) lock(id keystore.BatchID) (unlock func()) {
	k.mu.Lock()
	if k.m == nil {
		k.m = map[keystore.BatchID]*held{}
	}
	h := k.m[id]
	if h == nil {
		h = &held{}
		k.m[id] = h
	}
	h.users++
	k.mu.Unlock()
	h.Lock()
	return func() {
		h.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if h.users--; h.users == 0 {
			delete(k.m, id)
		}
	}
}
