//go:build linux

package pgchaos

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/oubli/oubli/internal/crew"
	"github.com/oubli/oubli/keystore"
)

var minutes = flag.Float64("minutes", 0.25, "how long the processes run")

func TestProcessesOnOneKeystore(t *testing.T) {
	s := setting(t, true, &keystore.CreateOptions{Shards: 64, Lease: lease})
	proxy := s.primary.Proxy(t)
	c := crew.New(t, crew.Config{DSN: s.dsn, Roots: s.roots})
	steady := c.Hire(t, "steady", nil, nil)
	c.Hire(t, "behind the proxy", func(o *crew.Config) { o.DSN = s.leads(t, proxy.DSN()) }, nil)
	stopped := c.Hire(t, "stopped", nil, nil)
	c.Hire(t, "killed", func(o *crew.Config) { o.Chance = 10 }, nil)

	length := time.Duration(*minutes * float64(time.Minute))
	stops := &stops{steady: steady, victim: stopped}
	var director sync.WaitGroup
	var over atomic.Bool
	director.Go(func() {
		for id := int64(1); !over.Load(); id++ {
			stops.stop(id)
			time.Sleep(min(length/40, time.Second))
		}
	})
	restarts, held := 0, 0
	serving := s.primary
	for _, e := range events() {
		for due := time.Duration(e.at * float64(length)); c.Since() < due; time.Sleep(10 * time.Millisecond) {
			c.KeepAlive(t)
		}
		switch e.what {
		case "hold": // a process alone is cut off from the database
			proxy.Hold()
			time.Sleep(3 * lease)
			proxy.Restore(t)
			held++
		case "failover":
			// What a primary that crashed before had not sent is seen on it, and was never
			// acknowledged: it must not be lost in a second crash.
			s.primary.CaughtUp(t, s.standby)
			s.failover(t)
			serving = s.standby
		case "fast", "immediate":
			serving.Stop(t, e.what)
			time.Sleep(lease / 2)
			serving.Up(t)
			restarts++
		}
	}
	// On a slow machine it takes longer until enough has happened to tell anything.
	lacking := func(v *crew.Verdict) []string { return append(v.Lacking(), stops.lacking(c.Kills)...) }
	for n := 1; c.Since() < length+time.Minute && len(lacking(c.Judge(t))) > 0; n++ {
		for due := length + time.Duration(n)*2*time.Second; c.Since() < due; time.Sleep(10 * time.Millisecond) {
			c.KeepAlive(t)
		}
	}
	over.Store(true)
	director.Wait()

	v := c.EndAll(t)
	t.Logf("%v of %d processes, %d kills, %d restarts, a failover, %d times cut off", c.Since().Round(time.Second), len(c.Procs), c.Kills, restarts, held)
	t.Logf("%v", v)
	t.Logf("stopped past the lease while it held plaintext: %d times of %d", stops.missed.Load(), stops.tried.Load())
	require.Empty(t, v.Faults, "%s", strings.Join(v.Faults, "\n"))
	require.Empty(t, stops.faults)
	atRest(t, s, v)

	// It did happen.
	require.Empty(t, lacking(v))
	require.GreaterOrEqual(t, restarts, 3)
	require.Equal(t, 1, held)
	require.NotSame(t, s.primary, serving)
	require.Less(t, v.Silence, 20*time.Second)
}

// event is something that happens to the database, at a part of the run's length.
type event struct {
	at   float64
	what string
}

// events are in their order. A longer run has a restart more each minute.
func events() []event {
	list := []event{{0.15, "fast"}, {0.35, "hold"}, {0.45, "immediate"}, {0.65, "failover"}, {0.85, "fast"}, {1, "end"}}
	for n := 1.0; n < *minutes; n++ {
		list = append(list, event{n / *minutes, "immediate"})
	}
	slices.SortFunc(list, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	return list
}

// stops is what becomes of a process that is stopped past its lease.
type stops struct {
	steady, victim *crew.Process
	tried, missed  atomic.Int64
	faults         []string
}

// lacking is what must still happen to the processes.
func (s *stops) lacking(kills int) (list []string) {
	if n := s.missed.Load(); n < 2 {
		list = append(list, fmt.Sprintf("stopped past the lease %d times of 2", n))
	}
	if kills < 3 {
		list = append(list, fmt.Sprintf("killed %d times of 3", kills))
	}
	return list
}

// stop stops a process with SIGSTOP while it is in the middle of opening a subject, has
// another erase that subject, and lets the process go on.
func (s *stops) stop(id int64) {
	s.tried.Add(1)
	if s.victim.Ask(crew.Patience, "hold", id) != "held" {
		return // the database is away
	}
	s.victim.Signal(unix.SIGSTOP)
	erased := s.steady.Ask(8*lease, "erase", id) == "erased" // it takes a lease, or more
	check := s.victim.Send("check")
	opens := s.victim.Send("open", id)
	s.victim.Signal(unix.SIGCONT)
	if !erased {
		return // the database is away, or the stopped process holds a lock on the root
	}
	fresh, plain := s.victim.Await(crew.Patience, check), s.victim.Await(crew.Patience, opens)
	if fresh != "stale" || strings.HasPrefix(plain, "plain") {
		s.faults = append(s.faults, fmt.Sprintf("subject %d was erased while a process that held it was stopped; its final check says %s, and opening it again gives %s", id, fresh, plain))
	}
	s.missed.Add(1)
}
