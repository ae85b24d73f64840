package pgoracle_test

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/oracle"
	"github.com/oubli/oubli/keystore"
)

// envelope is a sealed field, in its binary form.
type envelope []byte

func envelopeOf(t *testing.T, text string) envelope {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, "oubli1."))
	require.NoError(t, err)
	require.Greater(t, len(b), 33)
	return b
}

func (e envelope) keyID() uint32 { return binary.BigEndian.Uint32(e[1:]) }

// open opens a field of customers as docs/format.md specifies it.
func (e envelope) open(key keystore.Secret, sub keystore.Subject, field, purpose string) (string, error) {
	var ad []byte
	part := func(p string) { ad = append(binary.BigEndian.AppendUint16(ad, uint16(len(p))), p...) }
	part("oubli field 1")
	part(string(e[:5]))
	part(sub.String())
	ad = append(ad, 0)
	part("customers")
	part(field)
	part(purpose)
	plain, err := oracle.GCM(key).Open(nil, e[5:17], e[17:], ad)
	return string(plain), err
}

// attack is what follows from files that an attacker has.
type attack struct {
	w       *world
	graph   *oracle.Attacker // is told every root, and so can tell what is missing
	reached oracle.Reach     // from the roots that are left
}

// attack unwraps all it can of the records, with the roots that are left.
func (w *world) attack(recs []keystore.Record) *attack {
	return w.attackWith(w.left(), recs)
}

// left returns the roots that an attacker finds: those that live, at least.
func (w *world) left() []keystore.Root {
	left, err := w.roots.left()
	require.NoError(w.t, err)
	c, err := w.roots.Load(w.t.Context())
	require.NoError(w.t, err)
	for _, r := range c.Living {
		require.True(w.t, slices.ContainsFunc(left, func(l keystore.Root) bool { return l.ID == r.ID }))
	}
	return left
}

func (w *world) attackWith(left []keystore.Root, recs []keystore.Record) *attack {
	// Another keystore may stand in the same server: which one is meant is known.
	own, err := w.backend.Get(w.t.Context(), [][]byte{{0xff, 'e'}})
	require.NoError(w.t, err)
	unwrap := func(roots []keystore.Root) *oracle.Attacker {
		a := oracle.NewAttacker()
		for _, r := range roots {
			a.Root(r)
		}
		a.Write(append(slices.Clone(own), recs...)...)
		return a
	}
	graph := unwrap(w.roots.known())
	a := &attack{w: w, graph: graph, reached: graph.Reach(left)}
	// Whoever never heard of another root gets as far.
	alone := unwrap(left).Everything()
	require.Equal(w.t, len(a.reached.Keys), len(alone.Keys))
	for k := range alone.Keys {
		require.True(w.t, a.reached.Keys[k])
	}
	return a
}

// has tells whether the attacker has a key, and whether it stands in the files at all.
func (a *attack) has(p *person, id uint32) (has, stands bool) {
	secrets := a.graph.Secrets(oracle.Label{Subject: p.sub.String(), ID: id})
	return slices.ContainsFunc(secrets, func(s keystore.Secret) bool { return a.reached.Keys[s] }), len(secrets) > 0
}

// opens tells whether the attacker reads a field of the application's row.
func (a *attack) opens(p *person, text, field, purpose, plain string) bool {
	e := envelopeOf(a.w.t, text)
	for _, s := range a.graph.Secrets(oracle.Label{Subject: p.sub.String(), ID: e.keyID()}) {
		if a.reached.Keys[s] {
			got, err := e.open(s, p.sub, field, purpose)
			require.NoError(a.w.t, err)
			require.Equal(a.w.t, plain, got)
			return true
		}
	}
	return false
}

// dead counts destroyed keys: those that stand in the files, and those of them that the
// attacker has.
func (a *attack) dead() (stand, had int) {
	for _, p := range a.w.people {
		for id := range p.dead {
			has, stands := a.has(p, id)
			if stands {
				stand++
			}
			if has {
				had++
			}
		}
	}
	return stand, had
}

const withinReach = "is within reach"

// violations lists what contradicts the promise, once everything that was destroyed must
// be final. rows are those of the application in any of its copies.
func (a *attack) violations(rows []*customer) (list []string) {
	bad := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	status, err := a.w.store.Status(a.w.t.Context(), subjects(a.w.people)...)
	require.NoError(a.w.t, err)
	for i, p := range a.w.people {
		if len(p.dead) > 0 && !status[i].Final {
			bad("the erasure of %s is not final", p.sub)
		}
		for id := range p.dead {
			has, stands := a.has(p, id)
			if !stands {
				bad("the attacker never saw the destroyed key %08x of %s", id, p.sub)
			}
			if has {
				bad("the destroyed key %08x of %s %s", id, p.sub, withinReach)
			}
		}
		for id := range p.live {
			if has, _ := a.has(p, id); !has {
				bad("key %08x of %s, who lives, is not found", id, p.sub)
			}
		}
	}
	for _, row := range rows {
		p, full := a.w.people[row.ID-1], plain(row.ID)
		for _, f := range []struct{ stored, name, purpose, plain string }{
			{row.Name, "name", "", full.Name}, {row.VAT, "vat", "tax", full.VAT}, {row.Taste, "taste", "ads", full.Taste},
		} {
			_, lives := p.live[envelopeOf(a.w.t, f.stored).keyID()]
			if opens := a.opens(p, f.stored, f.name, f.purpose, f.plain); opens != lives {
				bad("%s of %s: it opens: %t, and its key lives: %t", f.name, p.sub, opens, lives)
			}
		}
	}
	return list
}

// missing lists the keys of the committed records that are not among those found.
func missing(found, committed []keystore.Record) (list []string) {
	have := map[string]bool{}
	for _, r := range found {
		have[string(r.Key)+"\x00"+string(r.Value)] = true
	}
	for _, r := range committed {
		if !have[string(r.Key)+"\x00"+string(r.Value)] {
			list = append(list, fmt.Sprintf("%q", r.Key))
		}
	}
	return list
}
