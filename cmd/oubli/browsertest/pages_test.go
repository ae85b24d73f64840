package browsertest

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// TestPages looks at every page in every state that matters.
func TestPages(t *testing.T) {
	t.Run("people", lookAtPeople)
	t.Run("confirm", lookAtConfirm)
	t.Run("batch", lookAtBatch)
	t.Run("health", lookAtHealth)
	t.Run("errors", lookAtErrors)
}

// see opens a page and looks at it.
func (b *tab) see(name, page string, pairs ...string) {
	b.t.Helper()
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	require.Equal(b.t, http.StatusOK, b.open(where+page+"?"+v.Encode()), name)
	b.look(name)
}

// past makes some people erased, restricted and held before anybody looks.
func (s *shop) past() *shop {
	s.t.Helper()
	require.NoError(s.t, s.GivePast(context.Background()))
	return s
}

func lookAtPeople(t *testing.T) {
	s := openShop(t).past()
	s.site.self = customer(t, 3)
	b := s.site.signIn("officer")
	b.see("list", "")
	b.see("found", "", "q", "customer/3 37 2 5 59")
	b.see("missing", "", "q", "customer/12 customer/9999 Gordon")
	b.see("restricted", "", "state", "restricted")
	b.see("erased", "", "state", "erased")
	b.see("none", "", "state", "erasing")
	b.open(where)
	b.follow("button", words("action.erase")) // nobody is ticked
	require.Contains(t, b.text(), words("people.problem.none"))
	b.look("nobody-ticked")
	b.see("person", "person", "s", "customer/12")
	b.click("DisclosureTriangle|button", words("action.export"))
	b.look("person-menu")
	b.see("person-own", "person", "s", "customer/3")
	b.see("person-erased", "person", "s", "customer/37")
	b.see("person-kept", "person", "s", "customer/2")
	b.see("person-restricted", "person", "s", "customer/59")
	b.see("person-held", "person", "s", "customer/5")
	b.allow(http.StatusNotFound)
	require.Equal(t, http.StatusNotFound, b.open(where+"person?s=customer/9999"))
	b.look("person-unknown")
	b.see("activity-none", "batches")

	clerk := s.site.signIn("clerk")
	clerk.look("list-masked")
	clerk.see("person-masked", "person", "s", "customer/12")
}

func lookAtConfirm(t *testing.T) {
	s := openShop(t).past()
	s.site.self = customer(t, 3)
	b := s.site.signIn("officer")
	confirm := func(name, action string, subjects ...string) {
		pairs := []string{"action", action}
		for _, c := range subjects {
			pairs = append(pairs, "s", c)
		}
		b.see(name, "confirm", pairs...)
	}
	confirm("several-refused", "erase", "customer/12", "customer/3", "customer/5", "customer/37", "customer/2", "customer/9999", "employee/1")
	confirm("nobody", "erase", "customer/3", "customer/37")
	confirm("restrict", "restrict", "customer/12", "customer/23")
	confirm("release", "release", "customer/59", "customer/5", "customer/2", "customer/12")
	confirm("one", "erase", "customer/12")
	b.tick("tax")
	require.Equal(t, http.StatusOK, b.follow("button", words("confirm.keep.apply")))
	b.look("keeps")
	field, _ := toType([]string{"12"})
	b.fill(field, "21")
	b.allow(http.StatusUnprocessableEntity, http.StatusConflict)
	require.Equal(t, http.StatusUnprocessableEntity, b.follow("button", eraseButton(1)))
	b.look("wrong")
	require.Equal(t, keystore.StateActive, s.state(12))

	b.fill(field, "12")
	_, err := s.Keys.Restrict(context.Background(), &keystore.RestrictOptions{Purposes: []string{"dispute"}}, customer(t, 12))
	require.NoError(t, err)
	require.Equal(t, http.StatusConflict, b.follow("button", eraseButton(1)))
	b.look("stale")
	require.Equal(t, keystore.StateRestricted, s.state(12), "a confirmation that was stale was carried out")
}

func lookAtBatch(t *testing.T) {
	s := openShop(t).past()
	b := s.site.signIn("officer")
	second := work(t, s.Eraser) // one waits for the one who hangs
	s.hang.Store(23)
	s.refuse.Store(12)
	b.open(where + "confirm?action=erase&s=customer/12&s=customer/23&s=customer/45&s=customer/5")
	b.erase("12", "23", "45")
	b.until("one that is worked on, and one that stopped", func() bool {
		return s.Eraser.Attempt(customer(t, 23)).Now != "" && s.Eraser.Attempt(customer(t, 12)).Err != nil
	})
	b.reload()
	b.look("running")
	clerk := s.site.signIn("clerk")
	clerk.open(b.address())
	clerk.look("running-masked")
	plain := newTab(t, s.site.origin)
	plain.withoutScripts()
	plain.open("/login?as=officer")
	plain.open(b.address())
	plain.look("running-without-scripts")
	b.see("person-erasing", "person", "s", "customer/12")
	b.see("erasing", "", "state", "erasing")
	b.see("health-erasing", "health")

	s.hang.Store(0)
	second()
	s.restart() // which lets the one that hangs go on
	b.follow("link", words("frame.batches"))
	b.look("activity")
	b.follow("link", words("action.done.erase"))
	b.until("failure", func() bool {
		return s.Eraser.Attempt(customer(t, 12)).Err != nil && s.state(45) == keystore.StateErased
	})
	b.reload()
	b.look("failed")
	require.Equal(t, http.StatusOK, b.follow("button", words("action.cancel")+" customer/12"))
	require.Equal(t, keystore.StateActive, s.state(12))
	b.look("cancelled")

	b.open(where + "confirm?action=restrict&s=customer/40&s=customer/41")
	b.fill(words("confirm.purpose"), "dispute, tax")
	b.fill(words("confirm.hold"), "dispute 2026-118")
	require.Equal(t, http.StatusOK, b.follow("button", words("confirm.do.restrict.other", "2")))
	b.look("restricted")
}

func lookAtHealth(t *testing.T) {
	s := openShop(t).past()
	b := s.site.signIn("officer")
	b.see("well", "health")
	s.stop() // nobody works on erasures any more
	b.open(where + "confirm?action=erase&s=customer/12")
	b.erase("12")
	b.look("idle")
	b.see("problems", "health")
}

func lookAtErrors(t *testing.T) {
	s := openShop(t)
	b := s.site.signIn("clerk")
	b.allow(http.StatusForbidden, http.StatusNotFound, http.StatusBadRequest, http.StatusUnauthorized, http.StatusServiceUnavailable)
	for _, e := range []struct {
		name, at string
		status   int
	}{
		{"forbidden", where + "confirm?action=erase&s=customer/12", http.StatusForbidden},
		{"not-found", where + "nothing", http.StatusNotFound},
		{"no-batch", where + "batch?id=00000000000000000000000000000001", http.StatusNotFound},
		{"bad-request", where + "person?s=nobody", http.StatusBadRequest},
		{"nobody", "/login?as=", http.StatusUnauthorized},
	} {
		require.Equal(t, e.status, b.open(e.at), e.name)
		b.look(e.name)
	}
	require.True(t, s.site.log.has("permission=anonymize"))
	b.open("/login?as=officer")
	s.end()
	for _, page := range []string{"", "?q=customer/12", "person?s=customer/12", "health", "batches"} {
		require.Equal(t, http.StatusServiceUnavailable, b.open(where+page), page)
		said := strings.Replace(b.text(), words("frame.utc"), "", 1)
		require.Contains(t, said, words("error.text.unavailable"))
		require.NotContains(t, strings.Replace(said, words("error.text.unavailable"), "", 1), "rased", "of %q", page)
	}
	b.look("unavailable")
}
