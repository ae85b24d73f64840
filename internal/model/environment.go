package model

// What the database, the operator and the mirrors do by themselves.

// decideLateIntent lets a commit whose client has gone become visible, or vanish.
func (w *world) decideLateIntent(s *state) {
	if !s.recordBusy() {
		return
	}
	n := *s
	n.late = noLateIntent()
	w.take(&n, "database drops the late intent for root %d", s.late.target)
	n.intend(s.late.target, s.late.touched, s.late.covers, s.late.supersede)
	w.take(&n, "database makes the late intent for root %d visible", s.late.target)
}

// backupAndRestore copies the keystore once, and later puts that copy back: replays the
// tombstones from beside the root and supersedes every root that the copy does not name,
// in one, since nothing is served before both are done. All who were at work are gone.
func (w *world) backupAndRestore(s *state) {
	if !w.c.Backup {
		return
	}
	if s.backup == notTaken {
		n := *s
		n.copied, n.backup = s.ks, taken
		w.take(&n, "operator copies the keystore")
	}
	if s.backup != taken || s.copied == s.ks || !s.everywhere(w.c, s.copied.needs()) {
		return
	}
	n := *s
	n.ks, n.copied, n.backup = s.copied, keystore{}, restored
	n.late = noLateIntent()
	n.creator, n.rotator, n.eraser = idleWriter(), idleWriter(), idleWriter()
	n.adv = [2]advancer{idleAdvancer(), idleAdvancer()}
	if !w.c.Faults.NoTombstones {
		for u := range uint8(maxSubjects) {
			if n.ks.ring[u] == absent && w.c.Faults.ReplayKnown {
				continue
			}
			if n.beside.has(u) && n.ks.ring[u] != erased {
				w.tombstone(&n, u, n.ks.newest(shardOf[u]))
			}
		}
	}
	if !w.c.Faults.KeepTimeLine {
		named := single(n.ks.current) | single(n.ks.target)
		n.ks.superseded |= n.stored() &^ named
	}
	w.take(&n, "operator puts the copy back, tombstones are replayed")
}

// needs are the roots without which a keystore does not open.
func (k *keystore) needs() Set {
	return (single(k.current) | single(k.target) | single(k.pageRoot[0]) | single(k.pageRoot[1])).without(none)
}

func (s *state) everywhere(c *Config, roots Set) bool {
	for m := range c.Mirrors {
		if roots&^s.mirror[m] != 0 {
			return false
		}
	}
	return true
}

// repair copies a root from the mirror that has it to the one that lacks it.
func (w *world) repair(s *state) {
	if !w.c.Repair || w.c.Mirrors != 2 {
		return
	}
	lacking := s.mirror[0] ^ s.mirror[1]
	for r := range uint8(maxRoots) {
		if lacking.has(r) && w.writable(s, r) {
			n := *s
			n.mirror[0].add(r)
			n.mirror[1].add(r)
			w.take(&n, "repair copies root %d to the mirror that lacks it", r)
		}
	}
}
