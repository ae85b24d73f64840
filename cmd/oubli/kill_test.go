package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The real program is killed in anonymize at random moments. No living customer is
// lost, no erased one comes back, and the next run finishes.
func killWhileAnonymizing(t *testing.T, grace time.Duration, n int) {
	p := newPeople(t, 3*n, grace)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	erased, begun := map[int]bool{}, map[int]bool{}
	usual := time.Duration(0) // how long a run takes; the first is left alone
	cut, done, midway, gone := 0, 0, 0, 0
	for i := range n {
		// two new people, and the two of the last time, which may not be finished
		args := []string{"anonymize", "--yes"}
		for who := max(1, 2*i-1); who <= 2*i+2; who++ {
			args = append(args, fmt.Sprint("customer/", who))
			begun[who] = true
		}
		c := p.command(args...)
		var out, words bytes.Buffer
		c.Stdout, c.Stderr = &out, &words
		start := time.Now()
		require.NoError(t, c.Start())
		wait := time.Minute
		if usual > 0 {
			wait = usual/5 + time.Duration(rnd.Int64N(int64(usual)))
		}
		timer := time.AfterFunc(wait, func() { c.Process.Kill() })
		err := c.Wait()
		killed := !timer.Stop() && err != nil
		if killed {
			cut++
		} else {
			require.NoError(t, err, "%s", words.String()) // the run after a kill finishes
			usual = time.Since(start)
			done++
		}
		for line := range strings.SplitSeq(out.String(), "\n") {
			var r struct{ Subject, State string }
			if json.Unmarshal([]byte(line), &r) == nil && r.State == "erased" {
				var who int
				fmt.Sscanf(r.Subject, "customer/%d", &who)
				erased[who] = true // it was said; from here on it must hold
			}
		}
		before := gone
		if gone = p.check(erased, begun); killed && out.Len() == 0 && gone > before {
			midway++ // somebody is erased, and nobody was told
		}
	}
	t.Logf("%d runs were killed, %d of them after keys were destroyed and before it was said; %d came to their end", cut, midway, done)
	require.Greater(t, cut, n/4)

	var rest []string
	for who := range begun {
		rest = append(rest, fmt.Sprint("customer/", who))
	}
	out, err := p.command(append([]string{"anonymize", "--yes"}, rest...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	p.check(begun, begun)
	out, err = p.command("verify").CombinedOutput()
	require.NoError(t, err, "%s", out)
	left, err := filepath.Glob(filepath.Join(p.dir, "*"))
	require.NoError(t, err)
	require.LessOrEqual(t, len(left), 5, "%v", left) // keystore, root, anchor, lock, one older root file
	_, err = os.Stat(filepath.Join(p.dir, "oubli.root"))
	require.NoError(t, err)
}
