package model

// An advancer carries the tree from one root to the next, or helps whoever began.
// The record is read, then compared and swapped; between the two anything may happen,
// a crash included.

const (
	advancerIdle uint8 = iota
	collecting         // reads counters and worklists, page by page
	raising            // makes the tombstones durable beside the root
	rooting            // makes a fresh root
	takingBack         // writes a root that it found where it may be lacking: a fault
	mirroring          // makes it durable on the second mirror
	intending          // swaps the intent into the record
	readingPage
	starting
	scanning
	moving
	wrapping
	gathering   // the one-shot reads the rings
	lookingBack // the one-shot reads the page, after the rings: a fault
	shooting    // and moves rings and page at once
	recording   // swaps the record
	destroying0 // destroys a superseded root on the first mirror,
	destroying1 // on the second,
	confirming  // and takes it off the record
)

func (w *world) advance(s *state, i uint8) {
	a := &s.adv[i]
	if a.pc != advancerIdle {
		n := *s
		n.adv[i] = idleAdvancer()
		w.take(&n, "advancer %d crashes", i)
	}
	n := *s
	b := &n.adv[i]
	switch a.pc {
	case advancerIdle:
		w.begin(s, i)
	case collecting:
		for u := range uint8(maxSubjects) {
			if w.c.pageOf(shardOf[u]) != a.page {
				continue
			}
			if s.ks.ring[u] == erased {
				b.covers.add(u)
			}
			if s.ks.worklist.has(u) && !s.ks.covers[a.base].has(u) {
				b.touched.add(shardOf[u])
			}
		}
		b.page++
		if int(b.page) == w.c.Pages {
			b.page, b.pc = 0, raising
			if b.touched == 0 {
				*b = idleAdvancer()
			}
		}
		w.take(&n, "advancer %d reads counter and worklist of page %d", i, a.page)
	case rooting:
		w.root(s, i)
	case takingBack:
		if w.writable(s, a.target) {
			n.mirror[0].add(a.target)
			b.pc = w.afterFirstMirror()
		} else {
			*b = idleAdvancer()
		}
		w.take(&n, "advancer %d writes root %d to mirror 0", i, a.target)
	case mirroring:
		if w.writable(s, a.target) {
			n.mirror[1].add(a.target)
			b.pc = intending
		} else {
			*b = idleAdvancer()
		}
		w.take(&n, "advancer %d makes root %d durable on mirror 1", i, a.target)
	case raising:
		n.beside |= a.covers
		b.pc = rooting
		w.take(&n, "advancer %d makes the tombstones durable beside the root", i)
	case intending:
		w.intend(s, i)
	case recording:
		w.record(s, i)
	case destroying0:
		n.mirror[0].drop(a.target)
		if !w.c.Faults.ForgetDestroyed {
			n.destroyed.add(a.target)
		}
		b.pc = destroying1
		if w.c.Mirrors == 1 {
			b.pc = confirming
		}
		w.take(&n, "advancer %d destroys root %d on mirror 0", i, a.target)
	case destroying1:
		n.mirror[1].drop(a.target)
		b.pc = confirming
		w.take(&n, "advancer %d destroys root %d on mirror 1", i, a.target)
	case confirming:
		if s.recordBusy() {
			return
		}
		n.ks.superseded.drop(a.target)
		n.wroteRecord()
		n.adv[i] = idleAdvancer()
		w.take(&n, "advancer %d takes root %d off the record", i, a.target)
	default:
		w.page(s, i)
	}
}

// begin reads the record and sees what there is to do.
func (w *world) begin(s *state, i uint8) {
	n := *s
	b := &n.adv[i]
	b.base, b.recordHeld = s.ks.current, true
	if s.ks.target != none {
		b.pc, b.target, b.touched = readingPage, s.ks.target, s.ks.touched
		w.take(&n, "advancer %d reads the record: helps towards root %d", i, s.ks.target)
	} else if s.ks.worklist&^s.ks.covers[s.ks.current] != 0 && s.ks.superseded.size() <= w.c.Superseded {
		b.pc = collecting
		w.take(&n, "advancer %d reads the record: root %d, no intent", i, s.ks.current)
	}

	for r := range uint8(maxRoots) {
		if w.mayDestroy(s).has(r) {
			n := *s
			n.adv[i].pc, n.adv[i].target = destroying0, r
			w.take(&n, "advancer %d reads the record: root %d is to be destroyed", i, r)
		}
	}

	// what the current root covers leaves the worklist, entry by entry
	done := s.ks.worklist & s.ks.covers[s.ks.current]
	if done != 0 {
		n := *s
		n.ks.worklist &^= done
		if w.c.Faults.ClearWorklist {
			n.ks.worklist = 0
		}
		w.take(&n, "worklist loses what the current root covers")
	}
}

// mayDestroy are the roots that the record, as read now, lists as superseded. Their time
// is up whenever somebody comes to destroy them.
func (w *world) mayDestroy(s *state) Set {
	others := s.stored() &^ (single(s.ks.current) | single(s.ks.target))
	if w.c.Faults.DestroyUnlisted || w.c.Faults.Discard && s.ks.target == none {
		return s.ks.superseded | others
	}
	return s.ks.superseded
}

// root makes a fresh root. Every other root found in the same breath, but the current
// one, will be superseded by the intent.
func (w *world) root(s *state, i uint8) {
	a := s.adv[i]
	found := s.stored().without(a.base)
	if w.c.Faults.ReuseRoots {
		if usable := found &^ s.ks.superseded &^ single(s.ks.current) &^ single(s.ks.target); usable != 0 {
			for r := range uint8(maxRoots) {
				if usable.has(r) {
					n := *s
					b := &n.adv[i]
					b.target, b.pc = r, takingBack
					w.take(&n, "advancer %d takes root %d, which it found", i, r)
				}
			}
			return
		}
		found = 0
	}
	r := w.freshRoot(s)
	if r == none {
		return
	}
	n := *s
	n.mirror[0].add(r)
	b := &n.adv[i]
	b.target, b.supersede, b.pc = r, found, w.afterFirstMirror()
	w.take(&n, "advancer %d makes root %d on mirror 0", i, r)
}

// writable tells whether a mirror takes a root: none that was destroyed.
func (w *world) writable(s *state, r uint8) bool {
	return w.c.Faults.ForgetDestroyed || !s.destroyed.has(r)
}

func (w *world) afterFirstMirror() uint8 {
	if w.c.Mirrors == 1 {
		return intending
	}
	return mirroring
}

// intend swaps the intent in, if the record is as it was read.
func (w *world) intend(s *state, i uint8) {
	if s.recordBusy() {
		return
	}
	a := s.adv[i]
	n := *s
	n.adv[i] = idleAdvancer()
	if !a.recordHeld {
		w.take(&n, "advancer %d loses the record", i)
		return
	}
	if w.c.LateIntents {
		n := n
		n.late = lateIntent{target: a.target, touched: a.touched, covers: a.covers, supersede: a.supersede}
		w.take(&n, "advancer %d sends the intent for root %d and is gone", i, a.target)
	}
	n.intend(a.target, a.touched, a.covers, a.supersede)
	w.take(&n, "advancer %d commits the intent from root %d to root %d", i, a.base, a.target)
}

func (s *state) intend(target uint8, touched, covers, supersede Set) {
	s.ks.target, s.ks.touched = target, touched
	s.ks.covers[target] = covers
	s.ks.superseded = s.ks.superseded.without(target) | supersede
	s.wroteRecord()
}

// record swaps the target in as the current root, once every page is under it.
func (w *world) record(s *state, i uint8) {
	if s.recordBusy() {
		return
	}
	a := s.adv[i]
	n := *s
	n.adv[i] = idleAdvancer()
	if !a.recordHeld || s.ks.target != a.target {
		w.take(&n, "advancer %d loses the record", i)
		return
	}
	k := &n.ks
	k.current, k.target, k.touched = a.target, none, 0
	k.superseded.add(a.base)
	if w.c.Faults.Join {
		k.covers[a.target] |= k.worklist
	}
	n.promised |= k.covers[a.target] & k.subjects(erased)
	n.wroteRecord()
	w.take(&n, "advancer %d records root %d as current, root %d as superseded", i, a.target, a.base)
}
