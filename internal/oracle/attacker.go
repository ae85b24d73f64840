// Package oracle tells what an attacker learns who holds every record that a keystore
// ever tried to write, and the root keys that are alive at a moment.
//
// It builds the key disclosure graph (Reardon, Basin and Capkun 2013): an edge leads
// from a key to every key that it unwraps in some record, however old. What can be
// reached from the living roots is what the attacker has. To build the graph it is told
// every root that ever was; so a record that does not open at all is noticed, and that
// nothing is reached never means merely that nothing was understood.
//
// It is for tests. It knows the format from its specification only and uses none of
// the code of package keystore but its types.
package oracle

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/oubli/oubli/keystore"
)

// Attacker collects records and roots. It is not safe for concurrent use.
type Attacker struct {
	layout *Layout
	roots  []keystore.Secret
	shards map[uint16][]keystore.Secret // every generation of a shard that any page ever held
	labels map[keystore.Secret][]string // what a key is for; more than one is a fault
	data   map[Label]map[keystore.Secret]bool

	seen   map[digest]bool
	closed []entry                       // records that nothing opened so far
	opens  map[keystore.Secret][]opening // by the key that opens them
}

// Label names a data key.
type Label struct {
	Subject string
	ID      uint32
}

type digest [32]byte

type entry struct {
	digest     digest
	key, value []byte
}

// opening is a record that was opened, and what it held.
type opening struct {
	digest digest
	keys   []keystore.Secret
	data   []Label
}

// NewAttacker returns one that knows nothing.
func NewAttacker() *Attacker {
	return &Attacker{shards: map[uint16][]keystore.Secret{}, labels: map[keystore.Secret][]string{},
		data: map[Label]map[keystore.Secret]bool{}, seen: map[digest]bool{}, opens: map[keystore.Secret][]opening{}}
}

// Root adds a root that lives or lived.
func (a *Attacker) Root(r keystore.Root) {
	if a.label(r.Key, "root "+r.ID.String()) {
		a.roots = append(a.roots, r.Key)
	}
}

// label notes what a key is for, and tells whether this was not known.
func (a *Attacker) label(k keystore.Secret, label string) bool {
	if slices.Contains(a.labels[k], label) {
		return false
	}
	a.labels[k] = append(a.labels[k], label)
	return true
}

func digestOf(key, value []byte) digest {
	return sha256.Sum256(slices.Concat(binary.AppendUvarint(nil, uint64(len(key))), key, value))
}

// Write adds records that were written, or that a write was tried of.
func (a *Attacker) Write(recs ...keystore.Record) {
	for _, rec := range recs {
		d := digestOf(rec.Key, rec.Value)
		if a.seen[d] {
			continue
		}
		a.seen[d] = true
		if len(rec.Key) < 2 || rec.Key[1] != 'k' && rec.Key[1] != 'r' && rec.Key[1] != 'e' {
			continue // counters, worklists and receivers hold no keys
		}
		if rec.Key[0] == 0xff && rec.Key[1] == 'e' {
			if l, err := ParseLayout(rec.Value); err == nil && a.layout == nil {
				a.layout = &l
			}
			continue
		}
		a.closed = append(a.closed, entry{digest: d, key: rec.Key, value: rec.Value})
	}
	if a.layout == nil {
		return
	}
	// Pages first: rings open with the keys that stand in them.
	for _, kind := range []byte{'k', 'r'} {
		a.closed = slices.DeleteFunc(a.closed, func(e entry) bool {
			return e.key[1] == kind && (kind == 'k' && a.openPage(e) || kind == 'r' && a.openRing(e))
		})
	}
}

// Knows tells whether a record was written before, as far as the attacker was told.
func (a *Attacker) Knows(rec keystore.Record) bool { return a.seen[digestOf(rec.Key, rec.Value)] }

func (a *Attacker) openPage(e entry) bool {
	for _, root := range a.roots {
		p, err := a.layout.OpenPage(e.key[0], e.value, root)
		if err != nil {
			continue
		}
		o := opening{digest: e.digest}
		for i, gens := range p.Shards {
			shard := uint16(int(p.Number)*a.layout.perPage() + i)
			for _, g := range gens {
				if a.label(g.Key, fmt.Sprintf("shard %d generation %d", shard, g.Number)) {
					a.shards[shard] = append(a.shards[shard], g.Key)
				}
				o.keys = append(o.keys, g.Key)
			}
		}
		a.opens[root] = append(a.opens[root], o)
		return true
	}
	return false
}

func (a *Attacker) openRing(e entry) bool {
	if len(e.key) < 6 {
		return false
	}
	for _, k := range a.shards[binary.BigEndian.Uint16(e.key[2:4])] {
		r, err := a.layout.OpenRing(e.key, e.value, k)
		if err != nil {
			continue
		}
		o := opening{digest: e.digest}
		for _, d := range r.Keys {
			l := Label{Subject: r.Subject, ID: d.ID}
			a.label(d.Key, fmt.Sprintf("data key %08x of %s", d.ID, r.Subject))
			if a.data[l] == nil {
				a.data[l] = map[keystore.Secret]bool{}
			}
			a.data[l][d.Key] = true
			o.keys, o.data = append(o.keys, d.Key), append(o.data, l)
		}
		a.opens[k] = append(a.opens[k], o)
		return true
	}
	return false
}

// Reach is what an attacker has. Labels are what records said of the keys; a key may be
// reached under another name than the one it is asked for.
type Reach struct {
	Keys map[keystore.Secret]bool
	Data map[Label]bool
}

// Reach follows the graph from the living roots to its end: through every record ever,
// or, where records are given, through these alone.
func (a *Attacker) Reach(living []keystore.Root, through ...keystore.Record) Reach {
	r := Reach{Keys: map[keystore.Secret]bool{}, Data: map[Label]bool{}}
	var only map[digest]bool
	if through != nil {
		only = map[digest]bool{}
		for _, rec := range through {
			only[digestOf(rec.Key, rec.Value)] = true
		}
	}
	var next []keystore.Secret
	for _, root := range living {
		next = append(next, root.Key)
	}
	for len(next) > 0 {
		k := next[len(next)-1]
		if next = next[:len(next)-1]; r.Keys[k] {
			continue
		}
		r.Keys[k] = true
		for _, o := range a.opens[k] {
			if only != nil && !only[o.digest] {
				continue
			}
			next = append(next, o.keys...)
			for _, l := range o.data {
				r.Data[l] = true
			}
		}
	}
	return r
}

// Secrets returns the bytes that a data key had in any record; more than one when an
// attempt to write was repeated with another.
func (a *Attacker) Secrets(l Label) []keystore.Secret {
	return slices.Collect(maps.Keys(a.data[l]))
}

// Everything returns what would be reached if every root that ever was were alive.
func (a *Attacker) Everything() Reach {
	var all []keystore.Root
	for _, k := range a.roots {
		all = append(all, keystore.Root{Key: k})
	}
	return a.Reach(all)
}

// Faults lists what must never be, whatever was erased: records that no root ever
// opened, and keys that serve twice, which a derived key does as soon as it is made again.
func (a *Attacker) Faults() (list []string) {
	for _, e := range a.closed {
		list = append(list, fmt.Sprintf("no key ever opened a record under %q", e.key))
	}
	for _, labels := range a.labels {
		if len(labels) > 1 {
			list = append(list, fmt.Sprintf("the same key is %q", labels))
		}
	}
	slices.Sort(list)
	return list
}

// Leaks names the keys among those for which which says true, or all if it is nil, whose
// bytes stand in raw as they are.
func (a *Attacker) Leaks(raw []byte, which func(keystore.Secret) bool) (list []string) {
	for i := 0; i+32 <= len(raw); i++ {
		if raw[i] == 0 && raw[i+16] == 0 && raw[i+31] == 0 {
			continue // files are mostly holes
		}
		k := keystore.Secret(raw[i : i+32])
		if labels := a.labels[k]; labels != nil && (which == nil || which(k)) {
			list = append(list, fmt.Sprint(labels))
		}
	}
	return list
}
