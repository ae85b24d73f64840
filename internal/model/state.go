package model

import "math/bits"

// Sizes. Roots and generations are slots: a slot is taken again when nothing refers to
// what stood there. A step that finds no free slot is not taken, see Result.Cut.
const (
	maxRoots    = 5
	maxGens     = 5 // for each shard
	maxShards   = 2
	maxSubjects = 4
	none        = 7 // no root, no generation
)

var shardOf = [maxSubjects]uint8{0, 0, 0, 1}

// Set is a set of small numbers: subjects, roots, generations or shards.
type Set uint8

func (s Set) has(i uint8) bool    { return s>>i&1 == 1 }
func (s Set) size() int           { return bits.OnesCount8(uint8(s)) }
func (s *Set) add(i uint8)        { *s |= 1 << i }
func (s *Set) drop(i uint8)       { *s &^= 1 << i }
func single(i uint8) Set          { return 1 << i }
func (s Set) without(i uint8) Set { return s &^ (1 << i) }

// What a subject's record holds.
const (
	absent uint8 = iota
	living
	erased // a tombstone, itself sealed under a generation
)

// keystore is what the backend holds: all that a backup copies.
type keystore struct {
	// the epoch record
	current    uint8
	target     uint8         // of the intent; none if none stands
	touched    Set           // shards that the intent re-keys
	superseded Set           // roots
	covers     [maxRoots]Set // by listed root: the tombstones whose counter its intent covers

	pageRoot [maxShards]uint8 // by page
	old      [maxShards]uint8 // by shard: the generation,
	fresh    [maxShards]uint8 // and the newer one of a page that was started, or none

	worklist Set // subjects; their shard tells the page
	ring     [maxSubjects]uint8
	ringGen  [maxSubjects]uint8
}

func (k *keystore) newest(shard uint8) uint8 {
	if k.fresh[shard] != none {
		return k.fresh[shard]
	}
	return k.old[shard]
}

func (k *keystore) subjects(state uint8) (s Set) {
	for u, r := range k.ring {
		if r == state {
			s.add(uint8(u))
		}
	}
	return s
}

// advancer is what one advance in progress has in memory. A revision that it read is
// a flag here, which any later write of that record clears.
type advancer struct {
	pc         uint8
	recordHeld bool // the epoch record's revision still holds
	pageHeld   bool // so does the page's

	base, target uint8
	touched      Set
	covers       Set
	supersede    Set
	page         uint8
	old, fresh   [maxShards]uint8 // as read from the page

	read     Set // rings read in order to be moved,
	readLive Set // those of them that were no tombstones,
	held     Set // and those whose revision still holds
}

// writer is a creator, a rotator or an eraser between its reads and its commit.
type writer struct {
	pc       uint8
	subject  uint8
	gen      uint8
	pageHeld bool
	ringHeld bool
}

// lateIntent is an intent whose commit the database has not decided yet.
type lateIntent struct {
	target    uint8 // none if there is none
	touched   Set
	covers    Set
	supersede Set
}

// state is everything at one moment. It is comparable and has no padding, so that it
// can be hashed as plain memory.
type state struct {
	mirror    [2]Set // roots
	destroyed Set    // roots that the mirrors remember as destroyed
	beside    Set    // tombstones in the file beside the root

	ks keystore

	// what the attacker kept of everything ever written
	wrapped [maxRoots][maxShards]Set // generations that stood under a root
	sealed  [maxShards][maxGens]Set  // subjects whose ring stood under a generation

	promised Set // erasures that a completed advance has covered

	adv     [2]advancer
	creator writer
	rotator writer
	eraser  writer
	late    lateIntent

	backup uint8 // notTaken, taken, restored
	copied keystore
}

const (
	notTaken uint8 = iota
	taken
	restored
)

func idleAdvancer() advancer {
	a := advancer{base: none, target: none}
	a.forgetPage()
	return a
}

func (a *advancer) forgetPage() {
	a.pageHeld = false
	a.old, a.fresh = [maxShards]uint8{none, none}, [maxShards]uint8{none, none}
	a.read, a.readLive, a.held = 0, 0, 0
}

func idleWriter() writer          { return writer{gen: none} }
func noLateIntent() lateIntent    { return lateIntent{target: none} }
func (s *state) stored() Set      { return s.mirror[0] | s.mirror[1] }
func (s *state) recordBusy() bool { return s.late.target != none }

// initial is a store whose subjects of c.Present are alive under root 0.
func initial(c *Config) state {
	s := state{
		creator: idleWriter(), rotator: idleWriter(), eraser: idleWriter(),
		late: noLateIntent(),
		adv:  [2]advancer{idleAdvancer(), idleAdvancer()},
	}
	for m := range c.Mirrors {
		s.mirror[m] = single(0)
	}
	s.ks.target = none
	s.ks.fresh = [maxShards]uint8{none, none}
	for u := range uint8(maxSubjects) {
		s.ks.ringGen[u] = none
		if c.Present.has(u) {
			s.setRing(c, u, living, 0)
		}
	}
	s.wrapped[0] = [maxShards]Set{single(0), single(0)}
	return s
}

// setRing writes a subject's record: whoever had read it will find its revision gone.
func (s *state) setRing(c *Config, u, ring, gen uint8) {
	s.ks.ring[u], s.ks.ringGen[u] = ring, gen
	if ring == living {
		s.keepRing(c, u, gen)
	}
	for i := range s.adv {
		s.adv[i].held.drop(u)
	}
	for _, w := range []*writer{&s.creator, &s.rotator, &s.eraser} {
		if w.subject == u {
			w.ringHeld = false
		}
	}
}

// keepRing gives the attacker a ring under a generation. Only what may one day have to
// be out of reach is worth keeping.
func (s *state) keepRing(c *Config, u, gen uint8) {
	s.sealed[shardOf[u]][gen] |= single(u) & c.Erasable
}

// wrotePage makes every revision of the page that was read before stale.
func (s *state) wrotePage(c *Config, page uint8) {
	for i := range s.adv {
		if s.adv[i].page == page {
			s.adv[i].pageHeld = false
		}
	}
	for _, w := range []*writer{&s.creator, &s.rotator, &s.eraser} {
		if c.pageOf(shardOf[w.subject]) == page {
			w.pageHeld = false
		}
	}
}

func (s *state) wroteRecord() {
	for i := range s.adv {
		s.adv[i].recordHeld = false
	}
}

func (c *Config) pageOf(shard uint8) uint8 {
	if c.Pages == 1 {
		return 0
	}
	return shard
}

// shardsOf are the shards that stand in a page.
func (c *Config) shardsOf(page uint8) (s Set) {
	for shard := range uint8(maxShards) {
		if c.pageOf(shard) == page {
			s.add(shard)
		}
	}
	return s
}
