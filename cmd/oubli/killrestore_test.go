package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The real program is killed while it restores. With grace 0 the half restored copy
// may be all that the root still opens: the next run goes on with it.
func killWhileRestoring(t *testing.T, grace time.Duration) {
	p := newPeople(t, 20, grace)
	path := func(name string) string { return filepath.Join(p.dir, name) }
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	erased := map[int]bool{}
	half, usual := 0, time.Duration(0)
	for i := range 30 {
		backup, err := os.ReadFile(path("oubli.keys"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path("backup.keys"), backup, 0o600))
		if grace > 0 && i < 10 { // somebody to erase again
			out, err := p.command("anonymize", "--yes", fmt.Sprint("customer/", i+1)).CombinedOutput()
			require.NoError(t, err, "%s", out)
			erased[i+1] = true
		}
		c := p.command("restore", "backup.keys")
		start := time.Now()
		require.NoError(t, c.Start())
		wait := time.Minute
		if usual > 0 {
			wait = time.Duration(rnd.Int64N(int64(usual)))
		}
		timer := time.AfterFunc(wait, func() { c.Process.Kill() })
		err = c.Wait()
		if timer.Stop() {
			require.NoError(t, err)
			usual = time.Since(start)
		}
		if _, err := os.Stat(path("oubli.keys" + restoring)); err == nil {
			half++
			out, err := p.command("restore", "oubli.keys"+restoring).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
		p.check(erased, erased)
	}
	t.Logf("%d times a half restored copy was left", half)
}
