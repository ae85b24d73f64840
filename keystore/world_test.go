package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/internal/fault"
	"github.com/oubli/oubli/internal/oracle"
	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
	"github.com/oubli/oubli/keystore/memstore"
)

// medium is where a world keeps its keystore, and how an operator copies it.
type medium interface {
	open() (keystore.Backend, error) // what is in place
	copy() (medium, error)           // a backup; the original may be open
	raw() ([]byte, error)            // the bytes on the disk, nil if there are none
}

type inMemory struct{ s *memstore.Store }

func (m *inMemory) open() (keystore.Backend, error) { m.s = m.s.Snapshot(); return m.s, nil }
func (m *inMemory) copy() (medium, error)           { return &inMemory{m.s.Snapshot()}, nil }
func (m *inMemory) raw() ([]byte, error)            { return nil, nil }

type inFile struct{ dir, path string }

func newInFile(dir string) (*inFile, error) {
	m := &inFile{dir: dir, path: filepath.Join(dir, "keys")}
	b, err := boltstore.Create(m.path, nil)
	if err != nil {
		return nil, err
	}
	return m, b.Close()
}

func (m *inFile) open() (keystore.Backend, error) { return boltstore.Open(m.path, nil) }
func (m *inFile) raw() ([]byte, error)            { return os.ReadFile(m.path) }

func (m *inFile) copy() (medium, error) {
	b, err := os.ReadFile(m.path)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(m.dir, "copy-")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(b)
	return &inFile{dir: m.dir, path: f.Name()}, errors.Join(err, f.Close())
}

// person is a subject with what the test knows about its keys.
type person struct {
	sub    keystore.Subject
	live   map[uint32]string // purposes by key id: must open
	dead   map[uint32]bool   // destroyed on purpose: must never come back
	fields []field
}

type field struct {
	id     uint32
	sealed []byte
	text   string
}

// world is a keystore with its people, and an attacker who sees all that is written.
type world struct {
	t        require.TestingT
	ctx      context.Context
	now      time.Time
	grace    time.Duration
	medium   medium
	roots    *hookedRoots
	real     keystore.RootStore // what the attacker will find
	plant    func(keystore.Backend) keystore.Backend
	backend  *fault.Backend
	store    *keystore.Store
	fed      int // records of backend that the attacker has
	attacker *oracle.Attacker
	people   []*person
	listed   int // calls of unlisted
}

func newWorld(t require.TestingT, m medium, roots keystore.RootStore, grace time.Duration, shards int) *world {
	w := prepareWorld(t, m, roots, grace)
	require.NoError(t, keystore.Create(w.ctx, w.backend, w.roots, &keystore.CreateOptions{Grace: grace, Shards: shards}))
	w.open()
	return w
}

// prepareWorld makes all of a world but the keystore.
func prepareWorld(t require.TestingT, m medium, roots keystore.RootStore, grace time.Duration) *world {
	w := &world{t: t, ctx: context.Background(), now: time.Now().Truncate(time.Second), grace: grace, medium: m, real: roots,
		attacker: oracle.NewAttacker(), plant: func(b keystore.Backend) keystore.Backend { return b }}
	w.roots = &hookedRoots{inner: roots, call: passOn, learn: w.attacker.Root}
	w.attach()
	return w
}

func (w *world) attach() {
	inner, err := w.medium.open()
	require.NoError(w.t, err)
	w.backend, w.fed = fault.Wrap(inner), 0
}

func (w *world) options() *keystore.Options {
	return &keystore.Options{Clock: func() time.Time { return w.now }}
}

func (w *world) readOnly() *keystore.Options {
	o := w.options()
	o.ReadOnly = true
	return o
}

func (w *world) open() {
	var err error
	w.store, err = keystore.Open(w.ctx, w.plant(w.backend), w.roots, w.options())
	require.NoError(w.t, err)
}

func (w *world) reopen() {
	w.feed()
	require.NoError(w.t, w.store.Close())
	w.attach()
	w.open()
}

// add brings in people, without keys yet.
func (w *world) add(n int) {
	for range n {
		sub, err := keystore.NewSubject("customer", len(w.people)+1)
		require.NoError(w.t, err)
		w.people = append(w.people, &person{sub: sub, live: map[uint32]string{}, dead: map[uint32]bool{}})
	}
}

// write seals a field for each purpose that the person may be written for.
func (w *world) write(purposes []string, people ...*person) {
	subjects := make([]keystore.Subject, len(people))
	for i, p := range people {
		subjects[i] = p.sub
	}
	ks, err := w.store.Ensure(keystore.WithPurpose(w.ctx, purposes[0]), nil, purposes, subjects...)
	require.NoError(w.t, err)
	for i, p := range people {
		for _, purpose := range purposes {
			id, key, err := ks[i].Primary(purpose)
			if err != nil {
				oneOf(w.t, err, keystore.ErrErased, keystore.ErrErasing, keystore.ErrRestricted, keystore.ErrWithdrawn)
				continue
			}
			text := fmt.Sprintf("%s for %q, number %d", p.sub, purpose, len(p.fields))
			nonce := make([]byte, 12)
			nonce[0], nonce[1] = byte(len(p.fields)), byte(len(p.fields)>>8)
			p.fields = append(p.fields, field{id: id, text: text, sealed: key.Seal(nonce, nonce, []byte(text), nil)})
		}
	}
	w.sync(nil)
}

func oneOf(t require.TestingT, err error, expected ...error) {
	if err != nil && !slices.ContainsFunc(expected, func(e error) bool { return errors.Is(err, e) }) {
		require.NoError(t, err)
	}
}

// sync takes over what the store says of everybody's keys. A key may be gone only where
// lose says so; what was destroyed must not be back.
func (w *world) sync(lose func(p *person, id uint32, purpose string, st keystore.Status) bool) {
	for i, st := range w.statuses() {
		p := w.people[i]
		have := map[uint32]string{}
		for _, k := range st.Keys {
			require.False(w.t, p.dead[k.ID], "key %08x of %s was destroyed and is back", k.ID, p.sub)
			have[k.ID] = k.Purpose
		}
		for id, purpose := range p.live {
			if _, ok := have[id]; !ok {
				require.True(w.t, lose != nil && lose(p, id, purpose, st), "key %08x of %s for %q is lost, in state %s", id, p.sub, purpose, st.State)
				p.dead[id] = true
			}
		}
		p.live = have
	}
}

func (w *world) statuses() []keystore.Status {
	subjects := make([]keystore.Subject, len(w.people))
	for i, p := range w.people {
		subjects[i] = p.sub
	}
	list, err := w.store.Status(w.ctx, subjects...)
	require.NoError(w.t, err)
	return list
}

// feed gives the attacker what was written since, and what stands in the file.
func (w *world) feed() {
	recs := w.backend.Attempted()
	w.attacker.Write(recs[w.fed:]...)
	w.fed = len(recs)
	raw, err := w.medium.raw()
	require.NoError(w.t, err)
	if raw == nil {
		return
	}
	found := oracle.BoltRecords(raw)
	require.NotEmpty(w.t, found)
	for _, rec := range found {
		require.True(w.t, w.attacker.Knows(rec), "the file has a record under %q that was never committed", rec.Key)
	}
}

// living is what the attacker finds in the root store.
func (w *world) living() []keystore.Root {
	c, err := w.real.Load(w.ctx)
	require.NoError(w.t, err)
	return c.Living
}

func stored(t require.TestingT, b keystore.Backend) []keystore.Record {
	recs, err := b.Scan(context.Background(), []byte{0}, []byte{0xff, 0xff}, 1<<20)
	require.NoError(t, err)
	return recs
}

// violations lists what contradicts the promise at this moment.
func (w *world) violations() []string {
	w.feed()
	list := w.attacker.Faults()
	bad := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	living := w.living()
	reach := w.attacker.Reach(living)
	now := w.attacker.Reach(living, stored(w.t, w.backend)...)
	statuses := w.statuses()
	list = append(list, w.unlisted(statuses)...)
	for i, st := range statuses {
		p := w.people[i]
		for id := range p.dead {
			if !slices.Contains(st.Dropped, id) {
				bad("%s does not remember that key %08x was destroyed", p.sub, id)
			}
		}
		for _, id := range slices.Concat(slices.Collect(maps.Keys(p.live)), slices.Collect(maps.Keys(p.dead))) {
			secrets := w.attacker.Secrets(oracle.Label{Subject: p.sub.String(), ID: id})
			if len(secrets) == 0 {
				bad("the attacker never saw key %08x of %s", id, p.sub)
			}
			if !p.dead[id] || !st.Final {
				continue
			}
			for _, s := range secrets {
				if reach.Keys[s] {
					bad("the erasure of %s is final, and its key %08x is within reach", p.sub, id)
				}
			}
		}
		for id := range p.live {
			if !now.Data[oracle.Label{Subject: p.sub.String(), ID: id}] {
				bad("key %08x of %s, who lives, can't be reached from the living keystore", id, p.sub)
			}
		}
		for _, f := range p.fields {
			if err := w.read(p, f, st); err != nil {
				bad("%v", err)
			}
		}
	}
	return list
}

// read opens a field through the store, and checks that the answer is right.
func (w *world) read(p *person, f field, st keystore.Status) error {
	ctx, expected := w.ctx, error(nil)
	_, lives := p.live[f.id]
	switch {
	case p.dead[f.id]: // as erased, or as withdrawn
	case !lives: // made on a time line that a restore gave up
		expected = keystore.ErrUnknownKey
	case st.State == keystore.StateErasing:
		expected = keystore.ErrErasing
	case st.State == keystore.StateRestricted && len(st.Purposes) == 0:
		expected = keystore.ErrRestricted
	case st.State == keystore.StateRestricted:
		ctx = keystore.WithPurpose(ctx, st.Purposes[0])
	}
	text, err := openField(ctx, w.store, p.sub, f)
	switch {
	case p.dead[f.id]:
		if !errors.Is(err, keystore.ErrErased) && !errors.Is(err, keystore.ErrWithdrawn) {
			return fmt.Errorf("a field of %s, whose key was destroyed, reads as %v", p.sub, err)
		}
	case expected != nil:
		if !errors.Is(err, expected) && !(expected == keystore.ErrUnknownKey && errors.Is(err, keystore.ErrUnknownSubject)) {
			return fmt.Errorf("a field of %s, who is %s, reads as %v, not as %v", p.sub, st.State, err, expected)
		}
	case err != nil || text != f.text:
		return fmt.Errorf("a field of %s, who is %s, does not open: %v", p.sub, st.State, err)
	}
	return nil
}

func openField(ctx context.Context, s *keystore.Store, sub keystore.Subject, f field) (string, error) {
	ks, err := s.Lookup(ctx, nil, sub)
	if err != nil {
		return "", err
	}
	_, key, err := ks[0].Key(f.id)
	if err != nil {
		return "", err
	}
	plain, err := key.Open(nil, f.sealed[:12], f.sealed[12:], nil)
	if err == nil && !keystore.Fresh(ks[0]) {
		err = errStale
	}
	return string(plain), err
}

// errStale: the state changed while the field was being opened.
var errStale = errors.New("not fresh")

// remade lists the destroyed keys of w that own, a keystore of the attacker's with the
// same people, made again.
func (w *world) remade(own *world) (list []string) {
	own.feed()
	have := own.attacker.Everything().Keys
	for _, p := range w.people {
		for id := range p.dead {
			for _, k := range w.attacker.Secrets(oracle.Label{Subject: p.sub.String(), ID: id}) {
				if have[k] {
					list = append(list, fmt.Sprintf("key %08x of %s can be made again", id, p.sub))
				}
			}
		}
	}
	return list
}

func (w *world) check() { require.Empty(w.t, w.violations()) }

// finalize lets every grace end, and checks that then everything destroyed is final and
// out of reach.
func (w *world) finalize() {
	for range 2 { // an advance may have waited for an older root to die
		w.now = w.now.Add(w.grace)
		require.NoError(w.t, w.store.Advance(w.ctx))
	}
	for i, st := range w.statuses() {
		if p := w.people[i]; len(p.dead) > 0 {
			require.True(w.t, st.Final, "the erasure of %s does not become final", p.sub)
		}
	}
	w.check()
}

// settle finalizes, and checks that nothing is left over.
func (w *world) settle() {
	w.finalize()
	report, err := w.store.Verify(w.ctx)
	require.NoError(w.t, err)
	require.Empty(w.t, report.Problems)
	for _, rec := range w.backend.Attempted() {
		require.Empty(w.t, w.attacker.Leaks(rec.Value, nil), "a key stands unwrapped in a record under %q", rec.Key)
	}
}
