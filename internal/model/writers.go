package model

// Creators, rotators and erasers. Each reads the page, then the ring, and commits a ring
// (an eraser: a tombstone) under the newest generation that the page held, if the
// revisions of both still hold.

const (
	writerIdle uint8 = iota
	writerReadPage
	writerReadBoth
)

// erase is one step: reading what a commit then names is as good as reading it at the
// commit, and a failed attempt shows nobody a key. Only an eraser that does not name
// the page has a moment in between.
func (w *world) erase(s *state) {
	for u := range uint8(maxSubjects) {
		if !w.c.Erasable.has(u) || s.ks.ring[u] != living {
			continue
		}
		shard := shardOf[u]
		switch {
		case !w.c.Faults.EraserUnguarded:
			n := *s
			w.tombstone(&n, u, n.ks.newest(shard))
			w.take(&n, "eraser destroys subject %d", u)
		case s.eraser.pc == writerIdle:
			n := *s
			n.eraser = writer{pc: writerReadPage, subject: u, gen: n.ks.newest(shard)}
			w.take(&n, "eraser reads the page of subject %d, newest generation %d", u, n.eraser.gen)
		case s.eraser.subject == u:
			n := *s
			n.eraser = idleWriter()
			w.tombstone(&n, u, s.eraser.gen)
			w.take(&n, "eraser destroys subject %d, its tombstone under generation %d", u, s.eraser.gen)
		}
	}
}

// tombstone writes the tombstone and the page's counter and worklist, in one commit. The
// counter is a record of its own: the page's revision stays.
func (w *world) tombstone(s *state, u, gen uint8) {
	s.setRing(w.c, u, erased, gen)
	s.ks.worklist.add(u)
}

func (w *world) create(s *state) {
	if w.c.Created == 0 {
		return
	}
	w.write(s, writing{
		actor: func(s *state) *writer { return &s.creator },
		who:   w.c.Created, from: absent,
		unguarded: w.c.Faults.CreatorUnguarded,
		reads:     "creator reads the page of subject %d, newest generation %d",
		finds:     "creator finds no ring of subject %d",
		commits:   "creator commits a ring of subject %d under generation %d",
		fails:     "creator of subject %d fails, generation %d",
	})
}

func (w *world) rotate(s *state) {
	if w.c.Rotated == 0 {
		return
	}
	w.write(s, writing{
		actor: func(s *state) *writer { return &s.rotator },
		who:   w.c.Rotated, from: living,
		unguarded: w.c.Faults.RotatorUnguarded,
		ringFirst: w.c.Faults.RingFirst,
		reads:     "rotator reads the page of subject %d, newest generation %d",
		finds:     "rotator reads the ring of subject %d",
		commits:   "rotator commits the ring of subject %d under generation %d",
		fails:     "rotator of subject %d fails, generation %d",
	})
}

// writing is what creating and rotating differ in.
type writing struct {
	actor                        func(*state) *writer
	who                          Set
	from                         uint8 // what the record must hold
	unguarded, ringFirst         bool
	reads, finds, commits, fails string
}

func (w *world) write(s *state, j writing) {
	a := *j.actor(s)
	switch a.pc {
	case writerIdle:
		for u := range uint8(maxSubjects) {
			if j.who.has(u) && s.ks.ring[u] == j.from {
				n := *s
				b := writer{pc: writerReadPage, subject: u, gen: none}
				if j.ringFirst {
					b.ringHeld = true
					*j.actor(&n) = b
					w.take(&n, j.finds, u)
					continue
				}
				b.gen, b.pageHeld = n.ks.newest(shardOf[u]), true
				*j.actor(&n) = b
				w.take(&n, j.reads, u, b.gen)
			}
		}
	case writerReadPage:
		n := *s
		b := a
		b.pc = writerReadBoth
		switch {
		case j.ringFirst:
			b.gen, b.pageHeld = n.ks.newest(shardOf[a.subject]), true
			*j.actor(&n) = b
			w.take(&n, j.reads, a.subject, b.gen)
		case n.ks.ring[a.subject] == j.from:
			b.ringHeld = true
			*j.actor(&n) = b
			w.take(&n, j.finds, a.subject)
		default:
			*j.actor(&n) = idleWriter()
			w.take(&n, j.fails, a.subject, a.gen)
		}
	case writerReadBoth:
		if (a.pageHeld || j.unguarded) && a.ringHeld {
			n := *s
			*j.actor(&n) = idleWriter()
			n.setRing(w.c, a.subject, living, a.gen)
			w.take(&n, j.commits, a.subject, a.gen)
		}
		n := *s
		*j.actor(&n) = idleWriter()
		if w.c.ArchiveFailed {
			n.keepRing(w.c, a.subject, a.gen)
		}
		w.take(&n, j.fails, a.subject, a.gen)
	}
}
