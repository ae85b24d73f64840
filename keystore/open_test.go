package keystore_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/boltstore"
	"github.com/oubli/oubli/keystore/keystoretest"
	"github.com/oubli/oubli/keystore/memstore"
	"github.com/oubli/oubli/keystore/rootfile"
	"github.com/stretchr/testify/require"
)

// place is a keystore in files.
type place struct {
	t     testing.TB
	dir   string
	roots []string
	host  string
	clock func() time.Time
}

func newPlace(t testing.TB, grace time.Duration) *place {
	dir := t.TempDir()
	p := &place{t: t, dir: dir, roots: []string{filepath.Join(dir, "oubli.root")}, host: "here"}
	db, err := boltstore.Create(p.path(), nil)
	require.NoError(t, err)
	require.NoError(t, keystore.Create(context.Background(), db, p.rootStore(), &keystore.CreateOptions{Grace: grace, Shards: 64}))
	require.NoError(t, db.Close())
	return p
}

func (p *place) path() string { return filepath.Join(p.dir, "oubli.keys") }

func (p *place) rootStore() *rootfile.Store {
	r, err := rootfile.New(p.roots, &rootfile.Options{Host: p.host})
	require.NoError(p.t, err)
	return r
}

func (p *place) open() (*keystore.Store, error) {
	db, err := boltstore.Open(p.path(), nil)
	if err != nil {
		return nil, err
	}
	s, err := keystore.Open(context.Background(), db, p.rootStore(), &keystore.Options{Clock: p.clock})
	if err != nil {
		require.NoError(p.t, db.Close())
	}
	return s, err
}

func (p *place) mustOpen() *keystore.Store {
	s, err := p.open()
	require.NoError(p.t, err)
	return s
}

func copyFile(t testing.TB, from, to string) {
	b, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, b, 0o600))
}

// Opening says in one clear error what is wrong, and never creates anything.
func TestOpenRefuses(t *testing.T) {
	ctx := context.Background()
	erase := func(p *place, id int) {
		s := p.mustOpen()
		seal(p.t, s, subject(p.t, id), "", "text")
		_, err := s.Erase(ctx, keystore.Request{Subject: subject(p.t, id)})
		require.NoError(p.t, err)
		require.NoError(p.t, s.Close())
	}
	for _, c := range []struct {
		name  string
		grace time.Duration
		spoil func(p *place)
		want  error
		says  string
	}{
		{"no keystore file", 0, func(p *place) { os.Remove(p.path()) }, keystore.ErrNotFound, "oubli.keys"},
		{"an empty keystore", 0, func(p *place) {
			os.Remove(p.path())
			db, err := boltstore.Create(p.path(), nil)
			require.NoError(p.t, err)
			require.NoError(p.t, db.Close())
		}, keystore.ErrNotFound, "oubli init"},
		{"no root", 0, func(p *place) { os.Remove(p.roots[0]); os.Remove(p.roots[0] + ".anchor") }, keystore.ErrNotFound, "oubli.root"},
		{"an empty root", 0, func(p *place) { os.Truncate(p.roots[0], 0) }, keystore.ErrTampered, "empty"},
		{"a cut root", 0, func(p *place) { os.Truncate(p.roots[0], 100) }, keystore.ErrTampered, "cut"},
		{"a root that everybody reads", 0, func(p *place) { os.Chmod(p.roots[0], 0o644) }, keystore.ErrInvalid, "600"},
		{"the root of another keystore", 0, func(p *place) {
			other := newPlace(p.t, 0)
			copyFile(p.t, other.roots[0], p.roots[0])
			copyFile(p.t, other.roots[0]+".anchor", p.roots[0]+".anchor")
		}, keystore.ErrMismatch, "belongs to keystore"},
		{"another host", 0, func(p *place) { p.host = "there" }, keystore.ErrMismatch, "here"},
		{"another path", 0, func(p *place) {
			moved := filepath.Join(p.dir, "moved.root")
			require.NoError(p.t, os.Rename(p.roots[0], moved))
			require.NoError(p.t, os.Rename(p.roots[0]+".anchor", moved+".anchor"))
			p.roots[0] = moved
		}, keystore.ErrMismatch, "oubli root move"},
		{"a keystore from before an erasure that is final", 0, func(p *place) {
			copyFile(p.t, p.path(), p.path()+".bak")
			erase(p, 1)
			copyFile(p.t, p.path()+".bak", p.path())
		}, keystore.ErrMismatch, "nobody can open this copy"},
		{"a keystore from before an erasure in its grace", time.Hour, func(p *place) {
			copyFile(p.t, p.path(), p.path()+".bak")
			erase(p, 1)
			copyFile(p.t, p.path()+".bak", p.path())
		}, keystore.ErrBehind, "oubli restore"},
		{"a root from before an erasure", 0, func(p *place) {
			copyFile(p.t, p.roots[0], p.roots[0]+".bak")
			copyFile(p.t, p.roots[0]+".anchor", p.roots[0]+".anchor.bak")
			erase(p, 1)
			copyFile(p.t, p.roots[0]+".bak", p.roots[0])
			copyFile(p.t, p.roots[0]+".anchor.bak", p.roots[0]+".anchor")
		}, keystore.ErrMismatch, "older"},
		{"all anchors gone", 0, func(p *place) { os.Remove(p.roots[0] + ".anchor") }, keystore.ErrMismatch, "anchor"},
		{"a cut keystore", 0, func(p *place) { os.Truncate(p.path(), 8192) }, keystore.ErrTampered, "oubli.keys"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, c.grace)
			s := p.mustOpen()
			seal(t, s, subject(t, 7), "", "text")
			require.NoError(t, s.Close())
			c.spoil(p)
			_, err := p.open()
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.says)
			require.NotErrorIs(t, err, keystore.ErrErased, "nothing that is wrong reads as an erasure")
		})
	}
}

func TestCreateRefusesWhatExists(t *testing.T) {
	ctx := context.Background()
	backend, roots := memstore.New(), memstore.NewRoots()
	require.NoError(t, keystore.Create(ctx, backend, roots, nil))
	require.ErrorIs(t, keystore.Create(ctx, backend, memstore.NewRoots(), nil), keystore.ErrExists)
	require.ErrorIs(t, keystore.Create(ctx, memstore.New(), roots, nil), keystore.ErrExists)
	for _, o := range []keystore.CreateOptions{{Shards: 3}, {Shards: -1}, {Shards: 1 << 17}, {Grace: -1}, {Grace: time.Millisecond}} {
		require.ErrorIs(t, keystore.Create(ctx, memstore.New(), memstore.NewRoots(), &o), keystore.ErrInvalid)
	}
}

// Every number of shards works, the smallest and the largest.
func TestShards(t *testing.T) {
	ctx := context.Background()
	for _, n := range []int{1, 2, 32, 64, 1 << 16} {
		backend, roots := memstore.New(), memstore.NewRoots()
		require.NoError(t, keystore.Create(ctx, backend, roots, &keystore.CreateOptions{Shards: n}))
		s, err := keystore.Open(ctx, backend, roots, nil)
		require.NoError(t, err)
		for id := range 20 {
			seal(t, s, subject(t, id+1), "", "text")
		}
		es, err := s.Erase(ctx, keystore.Request{Subject: subject(t, 3)}, keystore.Request{Subject: subject(t, 9)})
		require.NoError(t, err)
		require.True(t, es[0].Final && es[1].Final, "%d shards", n)
		keystoretest.Check(t, s)
		require.NoError(t, s.Close())
	}
}

func TestMovingTheRoot(t *testing.T) {
	ctx := context.Background()
	p := newPlace(t, 0)
	s := p.mustOpen()
	bob := subject(t, 2)
	id, sealed := seal(t, s, bob, "", "Bob")
	to := filepath.Join(p.dir, "new.root")
	mirror := filepath.Join(p.dir, "mirror.root")
	roots, err := rootfile.New([]string{to, mirror}, &rootfile.Options{Host: p.host})
	require.NoError(t, err)
	require.NoError(t, s.MoveRoots(ctx, roots))
	_, err = os.Stat(p.roots[0])
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = s.Erase(ctx, keystore.Request{Subject: subject(t, 1), Unknown: true})
	require.NoError(t, err)
	require.NoError(t, s.Close())

	old := p.roots
	p.roots = []string{mirror}
	_, err = p.open()
	require.ErrorIs(t, err, keystore.ErrMismatch, "a destroyed root must be destroyed on all mirrors")
	p.roots = []string{mirror, to}
	s = p.mustOpen()
	text, err := open(ctx, s, bob, id, sealed)
	require.NoError(t, err)
	require.Equal(t, "Bob", text)
	require.NoError(t, s.Close())

	// By hand, and then adopted on purpose.
	p.roots = old
	copyFile(t, to, old[0])
	copyFile(t, to+".anchor", old[0]+".anchor")
	p.host = "there"
	_, err = p.open()
	require.ErrorIs(t, err, keystore.ErrMismatch)
	db, err := boltstore.Open(p.path(), nil)
	require.NoError(t, err)
	require.NoError(t, keystore.AdoptRoots(ctx, db, p.rootStore()))
	require.NoError(t, db.Close())
	s = p.mustOpen()
	keystoretest.Check(t, s)
	require.NoError(t, s.Close())
}

// A mirror that is away delays finality, and neither reading nor the erasure itself.
func TestAMirrorThatIsAway(t *testing.T) {
	ctx := context.Background()
	p := newPlace(t, 0)
	s := p.mustOpen()
	a, b := filepath.Join(p.dir, "a.root"), filepath.Join(p.dir, "b", "b.root")
	require.NoError(t, os.Mkdir(filepath.Dir(b), 0o700))
	roots, err := rootfile.New([]string{a, b}, &rootfile.Options{Host: p.host})
	require.NoError(t, err)
	require.NoError(t, s.MoveRoots(ctx, roots))
	ann, bob := subject(t, 1), subject(t, 2)
	annID, annText := seal(t, s, ann, "", "Ann")
	bobID, bobText := seal(t, s, bob, "", "Bob")

	require.NoError(t, os.Rename(filepath.Dir(b), filepath.Join(p.dir, "away")))
	es, err := s.Erase(ctx, keystore.Request{Subject: ann})
	require.ErrorIs(t, err, keystore.ErrUnavailable)
	require.ErrorContains(t, err, "b.root")
	require.Equal(t, keystore.StateErased, es[0].State)
	require.False(t, es[0].Final)
	_, err = open(ctx, s, ann, annID, annText)
	require.ErrorIs(t, err, keystore.ErrErased)
	text, err := open(ctx, s, bob, bobID, bobText)
	require.NoError(t, err)
	require.Equal(t, "Bob", text)
	require.NoError(t, s.Close())
	p.roots = []string{a, b}
	s = p.mustOpen()

	require.NoError(t, os.Rename(filepath.Join(p.dir, "away"), filepath.Dir(b)))
	require.NoError(t, s.Advance(ctx))
	st, err := s.Status(ctx, ann)
	require.NoError(t, err)
	require.True(t, st[0].Final)
	require.NoError(t, s.Close())
}

func TestReadOnly(t *testing.T) {
	ctx := context.Background()
	backend, roots := memstore.New(), memstore.NewRoots()
	require.NoError(t, keystore.Create(ctx, backend, roots, nil))
	s, err := keystore.Open(ctx, backend, roots, nil)
	require.NoError(t, err)
	bob := subject(t, 2)
	id, sealed := seal(t, s, bob, "", "Bob")
	r, err := keystore.Open(ctx, backend, roots, &keystore.Options{ReadOnly: true})
	require.NoError(t, err)
	text, err := open(ctx, r, bob, id, sealed)
	require.NoError(t, err)
	require.Equal(t, "Bob", text)
	_, err = r.Erase(ctx, keystore.Request{Subject: bob})
	require.ErrorIs(t, err, keystore.ErrReadOnly)
	require.ErrorIs(t, joined(r.Restrict(ctx, nil, bob)), keystore.ErrReadOnly)
	k, err := r.Ensure(ctx, nil, []string{""}, subject(t, 3))
	require.NoError(t, err)
	require.ErrorIs(t, k[0].WriteErr(), keystore.ErrUnknownSubject)
}
