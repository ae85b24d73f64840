package model

// Two states that differ only in how roots, generations or advancers are numbered, or
// in what nobody can ever look at again, are the same. canonical picks one of them.

func (s *state) canonical(c *Config) {
	s.forget()
	if c.Advancers == 2 && s.adv[1].before(&s.adv[0]) {
		s.adv[0], s.adv[1] = s.adv[1], s.adv[0]
	}
	for shard := range uint8(maxShards) {
		s.renumberGens(shard)
	}
	s.renumberRoots()
}

// eachRoot visits every reference to a root by number, in a fixed order.
func (s *state) eachRoot(visit func(*uint8)) {
	s.ks.eachRoot(visit)
	for i := range s.adv {
		visit(&s.adv[i].base)
		visit(&s.adv[i].target)
	}
	visit(&s.late.target)
	if s.backup == taken {
		s.copied.eachRoot(visit)
	}
}

func (k *keystore) eachRoot(visit func(*uint8)) {
	visit(&k.current)
	visit(&k.target)
	visit(&k.pageRoot[0])
	visit(&k.pageRoot[1])
}

// eachRootSet visits every set of roots whose members are still to be reckoned with: all
// but what the mirrors remember as destroyed.
func (s *state) eachRootSet(visit func(*Set)) {
	visit(&s.mirror[0])
	visit(&s.mirror[1])
	visit(&s.ks.superseded)
	visit(&s.copied.superseded)
	visit(&s.late.supersede)
	visit(&s.adv[0].supersede)
	visit(&s.adv[1].supersede)
}

// eachGen visits every reference to a generation of a shard, in a fixed order.
func (s *state) eachGen(shard uint8, visit func(*uint8)) {
	s.ks.eachGen(shard, visit)
	for i := range s.adv {
		visit(&s.adv[i].old[shard])
		visit(&s.adv[i].fresh[shard])
	}
	for _, w := range [...]*writer{&s.creator, &s.rotator, &s.eraser} {
		if w.gen != none && shardOf[w.subject] == shard {
			visit(&w.gen)
		}
	}
	if s.backup == taken {
		s.copied.eachGen(shard, visit)
	}
}

func (k *keystore) eachGen(shard uint8, visit func(*uint8)) {
	visit(&k.old[shard])
	visit(&k.fresh[shard])
	for u := range k.ring {
		if shardOf[u] == shard {
			visit(&k.ringGen[u])
		}
	}
}

// usedRoots are the slots that a fresh root must not take.
func (s *state) usedRoots() Set {
	used := Set(0)
	s.eachRootSet(func(r *Set) { used |= *r })
	s.eachRoot(func(r *uint8) { used |= single(*r) })
	return used.without(none)
}

// namedGens are the generations that something living refers to.
func (s *state) namedGens(shard uint8) (named Set) {
	s.eachGen(shard, func(g *uint8) { named.add(*g) })
	return named.without(none)
}

// usedGens are the slots that a fresh generation must not take.
func (s *state) usedGens(shard uint8) Set {
	used := s.namedGens(shard)
	for r := range s.wrapped {
		used |= s.wrapped[r][shard]
	}
	return used
}

// forget drops what has no consequence any more.
func (s *state) forget() {
	for _, k := range [...]*keystore{&s.ks, &s.copied} {
		listed := (k.superseded | single(k.current) | single(k.target)).without(none)
		for r := range k.covers {
			if !listed.has(uint8(r)) {
				k.covers[r] = 0
			}
		}
	}
	used := s.usedRoots()
	s.destroyed &= used
	for r := range s.wrapped {
		if !used.has(uint8(r)) {
			s.wrapped[r] = [maxShards]Set{}
		}
	}
	for shard := range uint8(maxShards) {
		named, reached := s.namedGens(shard), s.usedGens(shard)
		for g := range uint8(maxGens) {
			if !reached.has(g) {
				s.sealed[shard][g] = 0
			}
			if !named.has(g) && s.sealed[shard][g] == 0 {
				for r := range s.wrapped {
					s.wrapped[r][shard].drop(g)
				}
			}
		}
	}
}

func (s *state) renumberGens(shard uint8) {
	var o order
	s.eachGen(shard, func(g *uint8) { o.see(*g) })
	var weight [maxGens]uint64
	for g := range uint8(maxGens) {
		w := uint64(s.sealed[shard][g])
		for r := range s.wrapped {
			w = w<<1 | uint64(s.wrapped[r][shard]>>g&1)
		}
		weight[g] = w
	}
	p := o.finish(weight[:])
	if p == identity {
		return
	}
	s.eachGen(shard, func(g *uint8) { *g = p[*g] })
	was := s.sealed[shard]
	for g := range uint8(maxGens) {
		s.sealed[shard][p[g]] = was[g]
	}
	for r := range s.wrapped {
		s.wrapped[r][shard] = p.set(s.wrapped[r][shard])
	}
}

func (s *state) renumberRoots() {
	var o order
	s.eachRoot(func(r *uint8) { o.see(*r) })
	var weight [maxRoots]uint64
	s.eachRootSet(func(in *Set) {
		for r := range uint8(maxRoots) {
			weight[r] = weight[r]<<1 | uint64(*in>>r&1)
		}
	})
	for r := range weight {
		weight[r] = weight[r]<<1 | uint64(s.destroyed>>r&1)
		weight[r] = weight[r]<<16 | uint64(s.wrapped[r][0])<<8 | uint64(s.wrapped[r][1])
		weight[r] = weight[r]<<16 | uint64(s.ks.covers[r])<<8 | uint64(s.copied.covers[r])
	}
	p := o.finish(weight[:])
	if p == identity {
		return
	}
	s.eachRoot(func(r *uint8) { *r = p[*r] })
	s.eachRootSet(func(r *Set) { *r = p.set(*r) })
	s.destroyed = p.set(s.destroyed)
	wrapped, covers, copied := s.wrapped, s.ks.covers, s.copied.covers
	for r := range uint8(maxRoots) {
		s.wrapped[p[r]] = wrapped[r]
		s.ks.covers[p[r]] = covers[r]
		s.copied.covers[p[r]] = copied[r]
	}
}

// permutation of up to eight numbers.
type permutation [8]uint8

var identity = permutation{0, 1, 2, 3, 4, 5, 6, 7}

func (p *permutation) set(s Set) (t Set) {
	for i := uint8(0); s != 0; i, s = i+1, s>>1 {
		if s&1 == 1 {
			t.add(p[i])
		}
	}
	return t
}

// order collects numbers in the order in which they are first seen.
type order struct {
	list [8]uint8
	n    int
	seen Set
}

func (o *order) see(i uint8) {
	if i != none && !o.seen.has(i) {
		o.seen.add(i)
		o.list[o.n] = i
		o.n++
	}
}

// finish appends the numbers not seen, heaviest first, and renumbers all by place.
func (o *order) finish(weight []uint64) permutation {
	first := o.n
	for i := range uint8(len(weight)) {
		if o.seen.has(i) {
			continue
		}
		at := o.n
		for ; at > first && weight[o.list[at-1]] < weight[i]; at-- {
			o.list[at] = o.list[at-1]
		}
		o.list[at] = i
		o.n++
	}
	p := identity
	for place := range o.n {
		p[o.list[place]] = uint8(place)
	}
	return p
}

// before orders advancers; any total order does.
func (a *advancer) before(b *advancer) bool { return a.key() < b.key() }

func (a *advancer) key() uint64 {
	k := uint64(a.pc)
	for _, x := range [...]uint8{a.target, a.page, a.base, uint8(a.covers), uint8(a.read), a.fresh[0] | a.fresh[1]<<3, flags(a.recordHeld, a.pageHeld), uint8(a.held)} {
		k = k*61 + uint64(x)
	}
	return k
}

func flags(a, b bool) (f uint8) {
	if a {
		f |= 1
	}
	if b {
		f |= 2
	}
	return f
}
