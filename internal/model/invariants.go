package model

import "fmt"

// broken names the first invariant that does not hold, or is empty.
func (s *state) broken(c *Config) string {
	k := &s.ks
	for u := range uint8(maxSubjects) {
		if k.ring[u] == absent {
			continue
		}
		shard := shardOf[u]
		if g := k.ringGen[u]; g != k.old[shard] && g != k.fresh[shard] {
			return fmt.Sprintf("subject %d stands under generation %d, which no page holds", u, g)
		}
		if k.ring[u] == living && (k.worklist | s.promised).has(u) {
			return fmt.Sprintf("subject %d, once erased, is alive", u)
		}
		if r := k.pageRoot[c.pageOf(shard)]; k.ring[u] == living && !s.everywhere(c, single(r)) {
			return fmt.Sprintf("subject %d needs root %d, which a mirror lacks", u, r)
		}
	}
	for page := range c.Pages {
		if r := k.pageRoot[page]; r != k.current && r != k.target {
			return fmt.Sprintf("page %d is under root %d, which the record does not name", page, r)
		}
	}
	reachable := s.reachable()
	if u := k.final(s.stored()) & reachable; u != 0 {
		return fmt.Sprintf("subjects %04b are finally erased, yet within reach", u)
	}
	return ""
}

// final are the erasures that every root covers that the record lists (a root that an
// intent names counts too, and covers more than the current one) and some mirror holds.
func (k *keystore) final(stored Set) Set {
	listed := (k.superseded | single(k.current) | single(k.target)) & stored
	if listed == 0 {
		return 0
	}
	u := k.subjects(erased)
	for r := range uint8(maxRoots) {
		if listed.has(r) {
			u &= k.covers[r]
		}
	}
	return u
}

// reachable are the subjects whose ring opens with the roots that are stored now and
// everything that was ever written.
func (s *state) reachable() (u Set) {
	for r := range uint8(maxRoots) {
		if !s.stored().has(r) {
			continue
		}
		for shard := range s.sealed {
			for g := range uint8(maxGens) {
				if s.wrapped[r][shard].has(g) {
					u |= s.sealed[shard][g]
				}
			}
		}
	}
	return u
}

// finished tells whether nothing is left to do: no advance under way, no root but the
// current one to destroy, every erasure final.
func (s *state) finished() bool {
	k := &s.ks
	return k.target == none && k.superseded == 0 && k.worklist == 0 && !s.recordBusy() &&
		k.final(s.stored()) == k.subjects(erased)
}
