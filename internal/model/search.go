package model

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
)

// Result is what a search found.
type Result struct {
	States int // distinct states visited
	Steps  int // distinct pairs of a state and a successor, stutters left out
	Depth  int // of the breadth-first search
	// Cut counts the steps not taken because all slots of roots or generations were
	// in use. States with such steps count as able to finish.
	Cut int
	// Violation is nil if every invariant holds in every state, and from every state
	// some continuation finishes.
	Violation *Violation
}

// Violation is a broken invariant and a shortest way to it.
type Violation struct {
	Invariant string
	Steps     []string
}

func (v *Violation) String() string {
	return fmt.Sprintf("%s, after %d steps:\n  %s", v.Invariant, len(v.Steps), strings.Join(v.Steps, "\n  "))
}

// Check visits every state that the configuration can reach, breadth first. The error
// says that there were more than maxStates; then nothing else was found in those.
func Check(c Config, maxStates int) (Result, error) {
	f := search{c: &c, cut: map[uint32]bool{}, seed: maphash.MakeSeed(), slots: make([]uint32, 1<<16)}
	return f.run(maxStates)
}

type search struct {
	c      *Config
	states []state
	parent []uint32
	cut    map[uint32]bool // states with steps not taken

	// the successors of state i are succ[first[i]:first[i+1]]
	first []uint32
	succ  []uint32

	// an open-addressed table of indices into states, plus one
	seed  maphash.Seed
	slots []uint32
}

func (f *search) run(maxStates int) (Result, error) {
	root := initial(f.c)
	root.canonical(f.c)
	f.visit(&root)
	f.parent = append(f.parent, 0)

	var at uint32
	var bad uint32 // the first state found that breaks an invariant,
	var why string // namely this one
	w := world{c: f.c, next: func(_ step, s *state) {
		n := *s
		n.canonical(f.c)
		i, isNew := f.visit(&n)
		if isNew {
			f.parent = append(f.parent, at)
			if why == "" {
				bad, why = i, n.broken(f.c)
			}
		}
		if i != at {
			f.succ = append(f.succ, i)
		}
	}}
	var result Result
	levelEnd := uint32(1)
	for ; int(at) < len(f.states); at++ {
		if at == levelEnd {
			result.Depth++
			levelEnd = uint32(len(f.states))
		}
		f.first = append(f.first, uint32(len(f.succ)))
		s, cut := f.states[at], w.cut
		w.steps(&s)
		if w.cut > cut {
			f.cut[at] = true
		}
		if why != "" {
			result.Violation = f.violation(bad, why)
			break
		}
		if len(f.states) > maxStates {
			return f.sum(result, w.cut), fmt.Errorf("more than %d states", maxStates)
		}
	}
	result = f.sum(result, w.cut)
	if result.Violation == nil {
		f.first = append(f.first, uint32(len(f.succ)))
		if i, ok := f.stuck(); ok {
			result.Violation = f.violation(i, "no continuation finishes")
		}
	}
	return result, nil
}

func (f *search) sum(r Result, cut int) Result {
	r.States, r.Steps, r.Cut = len(f.states), len(f.succ), cut
	return r
}

// visit returns the index of a state, and whether it is new.
func (f *search) visit(s *state) (uint32, bool) {
	if 2*len(f.states) > len(f.slots) {
		f.grow()
	}
	mask := uint64(len(f.slots) - 1)
	for h := maphash.Comparable(f.seed, *s) & mask; ; h = (h + 1) & mask {
		i := f.slots[h]
		if i == 0 {
			f.states = append(f.states, *s)
			f.slots[h] = uint32(len(f.states))
			return uint32(len(f.states) - 1), true
		}
		if f.states[i-1] == *s {
			return i - 1, false
		}
	}
}

func (f *search) grow() {
	f.slots = make([]uint32, 4*len(f.slots))
	mask := uint64(len(f.slots) - 1)
	for i := range f.states {
		h := maphash.Comparable(f.seed, f.states[i]) & mask
		for f.slots[h] != 0 {
			h = (h + 1) & mask
		}
		f.slots[h] = uint32(i + 1)
	}
}

// stuck returns the first state from which nothing finishes.
func (f *search) stuck() (uint32, bool) {
	good := make([]bool, len(f.states))
	for i := range f.states {
		good[i] = f.states[i].finished() || f.cut[uint32(i)]
	}
	// successors mostly have higher numbers, so going down settles most in one pass
	for changed := true; changed; {
		changed = false
		for i := len(good) - 1; i >= 0; i-- {
			if good[i] {
				continue
			}
			for _, j := range f.succ[f.first[i]:f.first[i+1]] {
				if good[j] {
					good[i], changed = true, true
					break
				}
			}
		}
	}
	i := slices.Index(good, false)
	return uint32(max(i, 0)), i >= 0
}

// violation renders the way to state i. Canonical states number their roots and
// generations anew at each step, so the way is walked again with states as they come.
func (f *search) violation(i uint32, why string) *Violation {
	var way []uint32
	for ; i != 0; i = f.parent[i] {
		way = append(way, i)
	}
	slices.Reverse(way)
	v := &Violation{Invariant: why}
	now := initial(f.c)
	for _, i := range way {
		reached, last := false, step{}
		var then state
		w := world{c: f.c, next: func(t step, s *state) {
			n := *s
			if n.canonical(f.c); !reached && n == f.states[i] {
				reached, last, then = true, t, *s
			}
		}}
		w.steps(&now)
		if !reached {
			// advancers or numbers that look alike were told apart here
			now, last = f.states[i], step{format: "(roots, generations and advancers are numbered anew from here)"}
			v.Steps = append(v.Steps, last.String())
			continue
		}
		then.forget()
		now = then
		v.Steps = append(v.Steps, last.String())
	}
	if again := now.broken(f.c); again != "" {
		v.Invariant = again // with the numbers of the trace
	}
	return v
}
