package browsertest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// TestOfficerErasesThree is somebody's work with three letters that came in, of which one is
// not done with at once.
func TestOfficerErasesThree(t *testing.T) {
	t.Run("scripts", func(t *testing.T) { eraseThree(t, true, false) })
	t.Run("no scripts", func(t *testing.T) { eraseThree(t, false, false) })
	t.Run("restart", func(t *testing.T) { eraseThree(t, true, true) })
}

func eraseThree(t *testing.T, scripts, restart bool) {
	s := openShop(t)
	rows, turnover := s.rows(), s.turnover()
	b := newTab(t, s.site.origin)
	if !scripts {
		b.withoutScripts()
	}
	b.open("/login?as=officer")
	three := []int{12, 23, 45} // Roberto Almeida, John Gordon and Ladislav Kovács
	findThree(b, "Active", "Active", "Active")
	for _, name := range []string{"Almeida", "Gordon", "Kovács"} {
		require.Contains(t, b.text(), name)
	}
	for _, id := range three {
		b.tick(fmt.Sprint("customer/", id))
	}
	if scripts {
		require.Contains(t, b.text(), words("people.ticked", "3"))
	}

	require.Equal(t, http.StatusOK, b.follow("button", words("action.erase")))
	said := b.text()
	for _, what := range []string{
		words("confirm.many.erase.other", "3"), "24 hours", // when it is final
		"customers", "first_name", "last_name", "email", "invoices", "billing_address", // what is blanked
		"newsletter", "crm", // who is told
	} {
		require.Contains(t, said, what)
	}
	b.fill(toType([]string{"12", "23", "45"}))

	s.refuse.Store(23)
	if restart {
		s.hang.Store(23)
	}
	require.Equal(t, http.StatusOK, b.follow("button", eraseButton(3)))
	if restart {
		b.until("answer that is waited for", func() bool { return strings.Contains(b.part("customer/23"), "crm "+words("call.working")) })
		s.hang.Store(0)
		s.restart()
	}
	b.watch("two done", scripts, func() bool { return strings.Contains(b.text(), "2 of 3") && strings.Contains(b.text(), refusal) })
	for _, again := range []bool{false, true} {
		if again {
			require.Equal(t, http.StatusOK, b.reload())
		}
		require.Equal(t, []string{"customer/12 " + words("step.done"), "customer/23 " + words("step.failed"), "customer/45 " + words("step.done")}, b.people())
		require.Contains(t, b.part("customer/23"), "crm "+words("call.failed"))
		require.Contains(t, b.part("customer/23"), refusal)
	}
	require.Equal(t, []keystore.State{keystore.StateErased, keystore.StateErasing, keystore.StateErased}, s.states(three))

	s.refuse.Store(0)
	require.Equal(t, http.StatusOK, b.follow("button", words("action.retry")+" customer/23"))
	b.watch("three done", scripts, func() bool { return strings.Contains(b.text(), words("batch.finished")) })
	require.Equal(t, []string{"customer/12 " + words("step.done"), "customer/23 " + words("step.done"), "customer/45 " + words("step.done")}, b.people())

	b.follow("link", words("frame.people"))
	findThree(b, "Erased", "Erased", "Erased")
	for _, name := range []string{"Almeida", "Gordon", "Kovács"} {
		require.NotContains(t, b.text(), name)
	}
	b.follow("link", words("people.filter.erased"))
	require.ElementsMatch(t, []string{"customer/12", "customer/23", "customer/45"}, b.listed())

	require.Equal(t, turnover, s.turnover(), "turnover per country changed")
	now := s.rows()
	for id := 1; id <= customers; id++ {
		if s.state(id) == keystore.StateErased {
			require.NotEmpty(t, open(rows[id]))
			require.Empty(t, open(now[id]), "customer/%d still reads", id)
		} else {
			require.Equal(t, rows[id], now[id], "customer/%d does not read as before", id)
		}
	}
}

// findThree looks for the three, who must be found, and only they, in these states.
func findThree(b *tab, states ...string) {
	b.t.Helper()
	b.fill(words("people.find"), "customer/12, customer/23 45")
	require.Equal(b.t, http.StatusOK, b.follow("button", words("people.find.go")))
	require.Equal(b.t, []string{"customer/12", "customer/23", "customer/45"}, b.listed())
	for i, badge := range eval[[]string](b, `[...document.querySelectorAll("tbody .badge")].map(e => e.innerText.trim())`) {
		require.Equal(b.t, states[i], badge)
	}
}

// watch waits for a page that brings itself up to date, or asks for it again.
func (b *tab) watch(what string, itself bool, so func() bool) {
	b.t.Helper()
	b.until(what, func() bool {
		if !itself {
			b.reload()
		}
		return so()
	})
}

// listed are the people of the list.
func (b *tab) listed() []string {
	b.t.Helper()
	return eval[[]string](b, `[...document.querySelectorAll("#people tbody th")].map(e => e.innerText.trim())`)
}

// people are those of a batch, with how far each has come.
func (b *tab) people() []string {
	b.t.Helper()
	return eval[[]string](b, `[...document.querySelectorAll("ol.each > li")].map(e =>
		e.querySelector("a").innerText.trim() + " " + e.querySelector(".badge").innerText.trim())`)
}

// part is what a batch says of one person.
func (b *tab) part(subject string) string {
	b.t.Helper()
	return eval[string](b, fmt.Sprintf(`[...document.querySelectorAll("ol.each > li")].
		filter(e => e.querySelector("a").innerText.trim() == %q).map(e => e.innerText).join("\n")`, subject))
}
