package model

import (
	"flag"
	"testing"

	"github.com/stretchr/testify/require"
)

var full = flag.Bool("full", false, "also search the configurations that take minutes and gigabytes")

// When a configuration is searched. The first two together take some 25 s of one
// processor, well under a minute on two. The search has one goroutine, and the race
// detector makes it many times slower, so that it sees the first only.
const (
	always = iota
	unlessRace
	onlyFull
)

// configuration starts from two advancers, one mirror, two pages, all four subjects,
// of which 0 and 1 may be erased.
func configuration(change func(*Config)) Config {
	c := Config{Advancers: 2, Mirrors: 1, Pages: 2, Present: 0b1111, Erasable: 0b0011}
	change(&c)
	return c
}

// The protocol as designed, every state of it. The number of states is part of the
// expectation, so that no actor falls silent unnoticed.
func TestProtocol(t *testing.T) {
	for _, test := range []struct {
		name   string
		when   int
		states int
		change func(*Config)
	}{
		{"one mirror, one erasure", always, 30710, func(c *Config) {
			c.Present, c.Erasable = 0b1011, 0b0001
		}},
		{"one mirror", unlessRace, 782624, func(c *Config) {}},
		{"one mirror, erasures in both pages", onlyFull, 385851, func(c *Config) {
			c.Present, c.Erasable = 0b1011, 0b1001
		}},
		{"both shards in one page", unlessRace, 231464, func(c *Config) {
			c.Pages, c.Present, c.Erasable = 1, 0b1011, 0b1001
		}},
		{"two mirrors and their repair, one erasure", unlessRace, 237838, func(c *Config) {
			c.Mirrors, c.Repair, c.Erasable = 2, true, 0b0001
		}},
		{"two mirrors and their repair", onlyFull, 4040734, func(c *Config) {
			c.Mirrors, c.Repair, c.Present = 2, true, 0b1011
		}},
		{"creator beside an erasure, failures archived", unlessRace, 337410, func(c *Config) {
			c.Present, c.Created, c.Erasable, c.ArchiveFailed = 0b1011, 0b0100, 0b0001, true
		}},
		{"creator of whom is erased, failures archived", unlessRace, 44550, func(c *Config) {
			c.Present, c.Created, c.Erasable, c.ArchiveFailed = 0b1001, 0b0010, 0b0010, true
		}},
		{"creator of whom is erased beside another, failures archived", onlyFull, 1835005, func(c *Config) {
			c.Present, c.Created, c.Erasable, c.ArchiveFailed = 0b1001, 0b0010, 0b0011, true
		}},
		{"rotator of whom is erased, late intents, failures archived", unlessRace, 142251, func(c *Config) {
			c.Present, c.Rotated, c.Erasable, c.ArchiveFailed, c.LateIntents = 0b1011, 0b0001, 0b0001, true, true
		}},
		{"rotator beside an erasure, late intents, failures archived", onlyFull, 380539, func(c *Config) {
			c.Present, c.Rotated, c.Erasable, c.ArchiveFailed, c.LateIntents = 0b1011, 0b0010, 0b0001, true, true
		}},
		{"rotator of one of two who are erased, failures archived", onlyFull, 4041253, func(c *Config) {
			c.Present, c.Rotated, c.ArchiveFailed = 0b1011, 0b0010, true
		}},
		{"backup and restore, one erasure", always, 10811, func(c *Config) {
			c.Advancers, c.Backup, c.Present, c.Erasable = 1, true, 0b1011, 0b0001
		}},
		{"backup and restore", unlessRace, 345009, func(c *Config) {
			c.Advancers, c.Backup = 1, true
		}},
		{"backup and restore with two advancers, one erasure", onlyFull, 461943, func(c *Config) {
			c.Backup, c.Present, c.Erasable = true, 0b1011, 0b0001
		}},
		{"backup and restore with a creator, failures archived", onlyFull, 793246, func(c *Config) {
			c.Advancers, c.Backup, c.Present, c.Created, c.ArchiveFailed = 1, true, 0b1001, 0b0010, true
		}},
		{"a superseded root in its grace", always, 18770, func(c *Config) {
			c.Advancers, c.Superseded = 1, 1
		}},
		{"a superseded root in its grace, two advancers", onlyFull, 1198423, func(c *Config) {
			c.Superseded, c.Present = 1, 0b1011
		}},
		{"a superseded root in its grace, backup and restore", onlyFull, 773205, func(c *Config) {
			c.Advancers, c.Superseded, c.Backup, c.Present = 1, 1, true, 0b1011
		}},
	} {
		if test.when == unlessRace && raceEnabled || test.when == onlyFull && !*full {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			r, err := Check(configuration(test.change), 5_000_000)
			require.NoError(t, err)
			if r.Violation != nil {
				t.Fatal(r.Violation)
			}
			t.Logf("%d states, %d steps, depth %d, %d steps cut", r.States, r.Steps, r.Depth, r.Cut)
			require.Equal(t, test.states, r.States, "the model has changed: set right this number and doc.go")
		})
	}
}

// Every known wrong turn is found, and shows in the way that is expected.
func TestFaults(t *testing.T) {
	const (
		lostGeneration = "which no page holds"
		lostRoot       = "which a mirror lacks"
		cameBack       = "once erased, is alive"
		within         = "finally erased, yet within reach"
		unfinished     = "no continuation finishes"
	)
	creating := func(c *Config) { c.Created, c.Erasable = 0b0100, 0b0001 }
	rotating := func(c *Config) { c.Rotated, c.Erasable = 0b0010, 0b0001 }
	rotatingErased := func(c *Config) { c.Rotated, c.Erasable, c.ArchiveFailed = 0b0001, 0b0001, true }
	restoring := func(c *Config) { c.Advancers, c.Backup = 1, true }
	mirrored := func(c *Config) { c.Mirrors, c.Repair, c.Erasable = 2, true, 0b0001 }
	alone := func(c *Config) { c.Advancers = 1 }
	plain := func(c *Config) {}
	for _, test := range []struct {
		name   string
		shows  string
		among  func(*Config)
		faults Faults
	}{
		{"a root without an intent is discarded", lostRoot, plain, Faults{Discard: true}},
		{"roots not listed are destroyed", lostRoot, plain, Faults{DestroyUnlisted: true}},
		{"an erasure joins after the intent", within, plain, Faults{Join: true}},
		{"two generations under the new root", within, plain, Faults{TwoGenerations: true}},
		{"creator without the page's guard", lostGeneration, creating, Faults{CreatorUnguarded: true}},
		{"rotator without the page's guard", lostGeneration, rotating, Faults{RotatorUnguarded: true}},
		{"eraser without the page's guard", lostGeneration, plain, Faults{EraserUnguarded: true}},
		{"rotator reads the ring before the page", within, rotatingErased, Faults{RingFirst: true}},
		{"a root is reused and written back", within, plain, Faults{ReuseRoots: true, ForgetDestroyed: true}},
		{"a root of an abandoned time line is reused", within, restoring, Faults{ReuseRoots: true, KeepTimeLine: true}},
		{"a destroyed root is written back by repair", within, mirrored, Faults{ForgetDestroyed: true}},
		{"one-shot without the rings' guards", cameBack, plain, Faults{OneShotNoGuards: true}},
		{"one-shot reads the rings before the page", lostGeneration, creating, Faults{OneShotRingFirst: true}},
		{"one-shot in a page that was not started", lostGeneration, creating, Faults{OneShotNoStart: true}},
		{"no tombstones beside the root", cameBack, restoring, Faults{NoTombstones: true}},
		{"tombstones replayed only for known subjects", cameBack, func(c *Config) {
			c.Advancers, c.Backup, c.Created, c.Erasable = 1, true, 0b0100, 0b0100
		}, Faults{ReplayKnown: true}},
		{"a worklist is cleared as a whole", unfinished, alone, Faults{ClearWorklist: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := configuration(func(c *Config) {
				c.Present = 0b1011
				test.among(c)
			})
			c.Faults = test.faults
			r, err := Check(c, 2_000_000)
			require.NoError(t, err)
			require.NotNil(t, r.Violation)
			t.Logf("%d states: %v", r.States, r.Violation)
			require.Contains(t, r.Violation.Invariant, test.shows)
			require.NotEmpty(t, r.Violation.Steps)
		})
	}
}

func TestTooManyStates(t *testing.T) {
	_, err := Check(configuration(func(*Config) {}), 1000)
	require.ErrorContains(t, err, "more than 1000 states")
}
