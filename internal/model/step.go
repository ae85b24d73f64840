package model

import (
	"fmt"
	"strings"
)

// step says what happened between two states, for a trace. It is rendered only then.
type step struct {
	format string // with up to three %d
	args   [3]uint8
}

func (t step) String() string {
	args := make([]any, strings.Count(t.format, "%d"))
	for i := range args {
		args[i] = t.args[i]
	}
	return fmt.Sprintf(t.format, args...)
}

// world takes the steps that are possible in a state.
type world struct {
	c *Config
	// next is called with each successor; it may keep a copy, not the pointer.
	next func(t step, s *state)
	// cut counts steps not taken because all slots were in use.
	cut int
}

func (w *world) take(s *state, format string, args ...uint8) {
	t := step{format: format}
	copy(t.args[:], args)
	w.next(t, s)
}

// steps takes every step that any actor can take from s.
func (w *world) steps(s *state) {
	w.erase(s)
	w.create(s)
	w.rotate(s)
	w.decideLateIntent(s)
	w.backupAndRestore(s)
	w.repair(s)
	for i := range uint8(w.c.Advancers) {
		w.advance(s, i)
	}
}

// freshRoot is a slot for a new root, or none.
func (w *world) freshRoot(s *state) uint8 { return w.slot(s.usedRoots(), maxRoots) }

// freshGen is a slot for a new generation, or none.
func (w *world) freshGen(s *state, shard uint8) uint8 { return w.slot(s.usedGens(shard), maxGens) }

func (w *world) slot(used Set, slots uint8) uint8 {
	for i := range slots {
		if !used.has(i) {
			return i
		}
	}
	w.cut++
	return none
}
