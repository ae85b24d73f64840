//go:build cgo

package pkcs11

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore/rootkms"
)

// While other processes make and destroy keys on the token, a living one never seems gone.
func TestSeveralProcesses(t *testing.T) {
	c := newToken(t)
	k := openKeys(t, c, nil)
	w := makeWrapped(t, k, "root")
	const processes, rounds = 3, 20
	said := make(chan string, processes)
	for range processes {
		cmd, out := startChurn(t, c, rounds)
		go func() {
			s, err := io.ReadAll(out)
			if err := errors.Join(err, cmd.Wait()); err != nil {
				t.Error(err)
			}
			said <- string(s)
		}()
	}
	var stories []string
	looks := 0
	for ; len(stories) < processes; looks++ {
		select {
		case s := <-said:
			stories = append(stories, s)
		default:
		}
		states, err := k.State(t.Context(), []string{w.name})
		require.NoError(t, err)
		require.Equal(t, rootkms.Living, states[0].Fate, "look %d", looks)
		w.requireOpens(t, k)
	}
	t.Logf("looked %d times", looks)
	for _, s := range stories {
		living, gone := story(s)
		require.Len(t, living, rounds/2)
		require.Len(t, gone, rounds/2)
		for _, w := range living {
			w.requireOpens(t, k)
		}
		for _, w := range gone {
			w.requireGone(t, k)
		}
	}
}

// A process that is killed while it makes and destroys keys loses none that lives, and what
// it destroyed is gone.
func TestKilled(t *testing.T) {
	c := newToken(t)
	k := openKeys(t, c, nil)
	w := makeWrapped(t, k, "root")
	var living, gone []wrapped
	for range 12 {
		cmd, out := startChurn(t, c, 1000000)
		var said strings.Builder
		for range 2 + rand.N(8) {
			line, err := out.ReadString('\n')
			require.NoError(t, err)
			said.WriteString(line)
		}
		time.Sleep(rand.N(10 * time.Millisecond))
		require.NoError(t, cmd.Process.Signal(os.Kill))
		_, err := io.Copy(&said, out)
		require.NoError(t, err)
		l, g := story(said.String())
		require.Error(t, cmd.Wait())
		living, gone = append(living, l...), append(gone, g...)
		w.requireOpens(t, k)
	}
	require.NotEmpty(t, living)
	require.NotEmpty(t, gone)
	t.Logf("%d living, %d gone", len(living), len(gone))
	for _, w := range living {
		w.requireOpens(t, k)
	}
	for _, w := range gone {
		w.requireGone(t, k)
	}
	require.NoError(t, k.Check(t.Context()), "the token goes on")
}

// A copy of the token's storage from after a destruction does not have the key. One from
// before has it, for whoever has the PIN: that is what rootkms.Options.Copies is about.
func TestCopiesOfTheStorage(t *testing.T) {
	c := newToken(t)
	k := openKeys(t, c, nil)
	dies, lives := makeWrapped(t, k, "one root"), makeWrapped(t, k, "another")
	before := copyTokens(t)
	require.NoError(t, k.Destroy(t.Context(), []string{dies.name}))
	after := copyTokens(t)
	require.Equal(t, []string{"opens", "opens"}, elsewhere(t, before, c, dies, lives))
	require.Equal(t, []string{"gone", "opens"}, elsewhere(t, after, c, dies, lives))
}
