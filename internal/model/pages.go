package model

// How an advancer brings one page under the target. A page whose touched shard has one
// generation is started first: it gets a second one, and a new revision. From then on
// every writer uses the second, or fails. What is still under the first is moved ring by
// ring and the page wrapped when none is left, or all that is moved and wrapped in one
// commit (the one-shot); here either may happen, and one advancer may go on where the
// other stopped.

func (w *world) page(s *state, i uint8) {
	a := s.adv[i]
	switch a.pc {
	case readingPage:
		w.readPage(s, i)
	case starting:
		w.start(s, i)
	case scanning:
		w.scan(s, i)
	case moving:
		w.move(s, i)
	case wrapping:
		w.wrap(s, i, "advancer %d wraps page %d under root %d", "advancer %d fails to wrap page %d under root %d")
	case gathering:
		n := *s
		b := &n.adv[i]
		b.gather(w.c, s)
		b.pc = shooting
		if w.c.Faults.OneShotRingFirst {
			b.pc = lookingBack
		}
		w.take(&n, "advancer %d reads the rings of page %d", i, a.page)
	case lookingBack:
		w.lookBack(s, i)
	case shooting:
		w.wrap(s, i, "advancer %d moves rings and wraps page %d under root %d at once", "advancer %d fails to move rings and wrap page %d under root %d at once")
	}
}

func (w *world) readPage(s *state, i uint8) {
	a := s.adv[i]
	n := *s
	b := &n.adv[i]
	switch s.ks.pageRoot[a.page] {
	case a.target:
		b.page++
		if int(b.page) == w.c.Pages {
			b.page, b.pc = 0, recording
		}
		w.take(&n, "advancer %d finds page %d under root %d", i, a.page, a.target)
		return
	case a.base:
	default:
		n.adv[i] = idleAdvancer()
		w.take(&n, "advancer %d finds page %d under another root", i, a.page)
		return
	}
	touched := a.touched&w.c.shardsOf(a.page) != 0
	if touched && w.c.Faults.OneShotRingFirst {
		b.pc = gathering
		w.take(&n, "advancer %d leaves page %d for later, for a one-shot", i, a.page)
	}
	b.lookAt(w.c, s)
	if w.unstarted(b) {
		b.pc = starting
		w.take(&n, "advancer %d reads page %d, to be started", i, a.page)
		if w.c.Faults.OneShotNoStart {
			b.pc = gathering
			for shard := range uint8(maxShards) {
				if a.touched.has(shard) && b.old[shard] != none && b.fresh[shard] == none {
					if b.fresh[shard] = w.freshGen(&n, shard); b.fresh[shard] == none {
						return
					}
				}
			}
			w.take(&n, "advancer %d reads page %d, never to be started", i, a.page)
		}
		return
	}
	b.pc = scanning
	w.take(&n, "advancer %d reads page %d", i, a.page)
	if touched && !w.c.Faults.OneShotRingFirst {
		b.pc = gathering
		w.take(&n, "advancer %d reads page %d, for a one-shot", i, a.page)
	}
}

// lookAt reads the page.
func (a *advancer) lookAt(c *Config, s *state) {
	a.pageHeld = true
	for shard := range uint8(maxShards) {
		if c.pageOf(shard) == a.page {
			a.old[shard], a.fresh[shard] = s.ks.old[shard], s.ks.fresh[shard]
		}
	}
}

// unstarted tells whether a touched shard of the page, as read, has one generation.
func (w *world) unstarted(a *advancer) bool {
	for shard := range uint8(maxShards) {
		if a.touched.has(shard) && a.old[shard] != none && a.fresh[shard] == none {
			return true
		}
	}
	return false
}

// gather reads the rings that are to be moved.
func (a *advancer) gather(c *Config, s *state) {
	for u := range uint8(maxSubjects) {
		shard := shardOf[u]
		if c.pageOf(shard) != a.page || !a.touched.has(shard) || s.ks.ring[u] == absent || s.ks.ringGen[u] == a.fresh[shard] {
			continue
		}
		a.read.add(u)
		a.held.add(u)
		if s.ks.ring[u] == living {
			a.readLive.add(u)
		}
	}
}

// lookBack reads the page after its rings.
func (w *world) lookBack(s *state, i uint8) {
	n := *s
	b := &n.adv[i]
	b.pc = shooting
	b.lookAt(w.c, s)
	if s.ks.pageRoot[b.page] != b.base || w.unstarted(b) {
		b.forgetPage()
		b.pc = readingPage
	}
	w.take(&n, "advancer %d reads page %d after its rings", i, b.page)
}

func (w *world) start(s *state, i uint8) {
	a := s.adv[i]
	n := *s
	n.adv[i].forgetPage()
	n.adv[i].pc = readingPage
	if !a.pageHeld {
		w.take(&n, "advancer %d fails to start page %d", i, a.page)
		return
	}
	for shard := range uint8(maxShards) {
		if w.c.pageOf(shard) != a.page || !a.touched.has(shard) || n.ks.fresh[shard] != none {
			continue
		}
		g := w.freshGen(&n, shard)
		if g == none {
			return
		}
		n.ks.fresh[shard] = g
		n.wrapped[a.base][shard].add(g)
	}
	n.wrotePage(w.c, a.page)
	w.take(&n, "advancer %d starts page %d", i, a.page)
}

// scan looks for a ring under the old generation.
func (w *world) scan(s *state, i uint8) {
	a := s.adv[i]
	n := *s
	b := &n.adv[i]
	for u := range uint8(maxSubjects) {
		shard := shardOf[u]
		if w.c.pageOf(shard) != a.page || a.fresh[shard] == none || s.ks.ring[u] == absent || s.ks.ringGen[u] != a.old[shard] {
			continue
		}
		b.pc = moving
		b.read, b.held = single(u), single(u)
		if s.ks.ring[u] == living {
			b.readLive = single(u)
		}
		w.take(&n, "advancer %d reads the ring of subject %d, to be moved", i, u)
		return
	}
	b.pc = wrapping
	w.take(&n, "advancer %d finds nothing to move in page %d", i, a.page)
}

func (w *world) move(s *state, i uint8) {
	a := s.adv[i]
	after := func(n *state) {
		b := &n.adv[i]
		b.pc, b.read, b.readLive, b.held = scanning, 0, 0, 0
	}
	if a.held == a.read {
		n := *s
		w.moveRings(&n, &a)
		after(&n)
		w.take(&n, "advancer %d moves a ring of page %d", i, a.page)
		if !w.c.ArchiveFailed {
			return // failing would be nothing but a crash
		}
	}
	n := *s
	w.archiveMove(&n, &a)
	after(&n)
	w.take(&n, "advancer %d fails to move a ring of page %d", i, a.page)
}

// moveRings writes what was read, under the newest generation.
func (w *world) moveRings(s *state, a *advancer) {
	for u := range uint8(maxSubjects) {
		if a.read.has(u) {
			ring := erased
			if a.readLive.has(u) {
				ring = living
			}
			s.setRing(w.c, u, ring, a.fresh[shardOf[u]])
		}
	}
}

func (w *world) archiveMove(s *state, a *advancer) {
	if !w.c.ArchiveFailed {
		return
	}
	for u := range uint8(maxSubjects) {
		if a.readLive.has(u) {
			s.keepRing(w.c, u, a.fresh[shardOf[u]])
		}
	}
}

// wrap puts the page under the target with its newest generation only, and whatever a
// one-shot has gathered under that generation, if all is as it was read.
func (w *world) wrap(s *state, i uint8, done, failed string) {
	a := s.adv[i]
	keep := func(n *state) {
		for shard := range uint8(maxShards) {
			if a.old[shard] == none {
				continue
			}
			if a.fresh[shard] == none {
				n.wrapped[a.target][shard].add(a.old[shard])
				continue
			}
			n.wrapped[a.target][shard].add(a.fresh[shard])
			if w.c.Faults.TwoGenerations {
				n.wrapped[a.target][shard].add(a.old[shard])
			}
		}
	}
	after := func(n *state) {
		n.adv[i].forgetPage()
		n.adv[i].pc = readingPage
	}
	if a.pageHeld && (a.held == a.read || w.c.Faults.OneShotNoGuards) {
		n := *s
		keep(&n)
		w.moveRings(&n, &a)
		n.ks.pageRoot[a.page] = a.target
		for shard := range uint8(maxShards) {
			if a.fresh[shard] != none {
				n.ks.old[shard], n.ks.fresh[shard] = a.fresh[shard], none
			}
		}
		n.wrotePage(w.c, a.page)
		after(&n)
		w.take(&n, done, i, a.page, a.target)
		if !w.c.ArchiveFailed {
			return
		}
	}
	n := *s
	if w.c.ArchiveFailed {
		keep(&n)
		w.archiveMove(&n, &a)
	}
	after(&n)
	w.take(&n, failed, i, a.page, a.target)
}
