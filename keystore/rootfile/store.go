package rootfile

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/oubli/oubli/keystore"
)

// Create writes the root files and anchors, each beside and then linked to its name,
// so that nothing is ever overwritten. If it fails, it takes away what it wrote; a
// crash can leave a part, which [Store.Remove] clears.
func (s *Store) Create(ctx context.Context, c keystore.RootContents) error {
	f := &rootFile{store: c.Store, living: c.Living, destroyed: latest(c.Destroyed)}
	l := &anchorLog{store: c.Store, anchor: c.Anchor, tombstones: c.Tombstones}
	if err := checkTombstones(c.Tombstones); err != nil {
		return err
	}
	held, away, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer held.unlock()
	for _, p := range s.paths {
		if away[p] != nil {
			return away[p]
		}
		if err := s.vacant(p); err != nil {
			return err
		}
	}
	var made []string
	for _, p := range s.paths {
		if err := s.createMirror(p, f, l, &made); err != nil {
			for _, name := range made { // and nothing that another made meanwhile
				_ = s.wipe(name, nil)
			}
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("root file %s: %w: another was made meanwhile", p, keystore.ErrExists)
			}
			return unavailable(p, err)
		}
	}
	return nil
}

// createMirror adds to made each name as it gives it to a file.
func (s *Store) createMirror(path string, f *rootFile, l *anchorLog, made *[]string) error {
	data := f.encode(0)
	defer clear(data)
	for _, w := range []struct {
		name string
		data []byte
	}{{path + anchorSuffix, l.encode()}, {path, data}} {
		tmp := w.name + newInfix + rand.Text()
		*made = append(*made, tmp)
		if err := s.writeFile(tmp, w.data, true, nil); err != nil {
			return err
		}
		if err := s.disk.link(tmp, w.name); err != nil { // unlike a rename, never over another
			return err
		}
		*made = append(*made, w.name)
		if err := s.disk.remove(tmp); err != nil {
			return err
		}
	}
	return s.disk.syncDir(filepath.Dir(path))
}

// vacant fails with ErrExists where there is a root, or what may be the last copy of one.
func (s *Store) vacant(path string) error {
	exists := func(name string) error {
		return fmt.Errorf("root file %s: %w: %s is there; it may hold the only key to a keystore, so nothing is overwritten", path, keystore.ErrExists, name)
	}
	for _, name := range []string{path, path + anchorSuffix} {
		_, err := s.disk.lstat(name)
		if err == nil {
			return exists(name)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return unavailable(path, err)
		}
	}
	left, err := s.leftovers(path, true)
	if err != nil {
		return unavailable(path, err)
	}
	for _, l := range left {
		if strings.HasPrefix(l.path, path+oldInfix) {
			return exists(l.path)
		}
		if err := s.wipe(l.path, nil); err != nil { // never came into force
			return unavailable(path, err)
		}
	}
	return nil
}

// Load reads every mirror, without a lock and without writing. Mirrors that are missing,
// damaged or readable by others are named in Away, as long as one is good.
func (s *Store) Load(ctx context.Context, _ ...keystore.RootID) (keystore.RootContents, error) {
	if err := ctx.Err(); err != nil {
		return keystore.RootContents{}, fmt.Errorf("%w: %w", keystore.ErrUnavailable, err)
	}
	v, err := s.read(nil)
	if err != nil {
		return keystore.RootContents{}, err
	}
	living, err := v.living()
	if err != nil {
		return keystore.RootContents{}, err
	}
	for i := range v {
		if err := s.lookBeside(&v[i]); err != nil && v[i].root != nil {
			v[i].beside = append(v[i].beside, oldFile{path: v[i].path}) // what can't be looked at may hold anything
		}
	}
	l := v.log()
	c := keystore.RootContents{Store: v.store(), Living: living, Destroyed: v.confirmed(), Anchor: l.anchor, Tombstones: l.tombstones}
	for _, err := range v.away() {
		c.Away = append(c.Away, err.Error())
	}
	return c, nil
}

// change runs f on what the mirrors hold, under the lock. A root store that is not
// there does not get a lock file.
func (s *Store) change(ctx context.Context, f func(v view) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", keystore.ErrUnavailable, err)
	}
	if len(s.livingInodes()) == 0 {
		if _, err := s.read(nil); err != nil {
			return err
		}
	}
	held, away, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer held.unlock()
	v, err := s.read(away)
	if err != nil {
		return err
	}
	return f(v)
}

// Add writes r to every mirror, and with it those roots that another mirror holds and
// none remembers as destroyed. It writes nothing when a mirror is away.
func (s *Store) Add(ctx context.Context, r keystore.Root) error {
	return s.change(ctx, func(v view) error { return s.add(v, r) })
}

func (s *Store) add(v view, r keystore.Root) error {
	r.Created = r.Created.UTC().Truncate(1e9)
	if err := away(v, "add a root"); err != nil {
		return err
	}
	if v.remembered(r.ID) {
		return fmt.Errorf("add a root: %w: root %s was destroyed here", keystore.ErrMismatch, r.ID)
	}
	living, err := v.living()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(living, func(o keystore.Root) bool { return o.ID == r.ID })
	if i < 0 {
		living = append(living, r)
	} else if !same(living[i], r) {
		return fmt.Errorf("add a root: %w: there is another root %s", keystore.ErrMismatch, r.ID)
	}
	for _, m := range v {
		next := *m.root
		next.living = slices.Clone(m.root.living)
		for _, o := range living {
			if next.root(o.ID) == nil && !v.remembered(o.ID) {
				next.living = append(next.living, o)
			}
		}
		if err := s.replace(m.path, &next, false); err != nil {
			return unavailable(m.path, err)
		}
	}
	return nil
}

func same(a, b keystore.Root) bool {
	return a.ID == b.ID && a.Epoch == b.Epoch && a.Key == b.Key && a.Created.Equal(b.Created)
}

// Destroy removes and wipes on each mirror that answers, and then names those that did
// not in an error that wraps [keystore.ErrUnavailable].
func (s *Store) Destroy(ctx context.Context, ids []keystore.RootID) error {
	return s.change(ctx, func(v view) error { return s.destroy(v, ids) })
}

func (s *Store) destroy(v view, ids []keystore.RootID) error {
	var failed []error
	for _, m := range v {
		if m.root == nil {
			failed = append(failed, m.rootErr)
			continue
		}
		if err := s.destroyOn(m, ids); err != nil {
			failed = append(failed, unavailable(m.path, err))
		}
	}
	return notOn("destroy roots", failed)
}

func (s *Store) destroyOn(m mirror, ids []keystore.RootID) error {
	done := !slices.ContainsFunc(ids, func(id keystore.RootID) bool {
		return m.root.root(id) != nil || !slices.Contains(m.root.destroyed, id)
	})
	if done {
		// remembered, but did the call that did it get as far as wiping?
		left, err := s.leftovers(m.path, true)
		if err != nil || len(left) == 0 {
			return err
		}
	}
	return s.replace(m.path, m.root.without(ids), true)
}

// Remove overwrites and unlinks everything of this root store: the roots first, the
// lock last. It asks nothing and needs no keystore, so it also clears what a crash in
// Create left, and what is to be discarded. A file that is not there counts as removed;
// whoever moves looks with Load first whether a mirror is away.
func (s *Store) Remove(ctx context.Context) error {
	held, away, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer held.unlock()
	var failed []error
	for _, p := range s.paths {
		err := away[p]
		if err == nil {
			err = s.clearMirror(p)
		}
		if err == nil {
			err = s.disk.remove(p + lockSuffix)
		}
		if err != nil {
			failed = append(failed, unavailable(p, err))
		}
	}
	return notOn("remove the root store", failed)
}

// clearMirror wipes a mirror, but for its lock.
func (s *Store) clearMirror(path string) error {
	left, err := s.leftovers(path, true) // first: a second name of the living file is no leftover
	if err != nil {
		return err
	}
	for _, l := range append([]leftover{{path: path}}, left...) {
		if err := s.wipe(l.path, nil); err != nil {
			return err
		}
	}
	s.dropAnchorTemps(path)
	if err := s.disk.remove(path + anchorSuffix); err != nil {
		return err
	}
	return s.disk.syncDir(filepath.Dir(path))
}

// away refuses a change that needs every mirror when one is not there.
func away(v view, what string) error { return notOn(what, v.away()) }

// notOn makes one error of those of several mirrors; nil when there are none.
func notOn(what string, errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return fmt.Errorf("%s: %w: not done on every mirror: %s (if a mirror is lost for good, put a copy of a good one in its place)",
		what, keystore.ErrUnavailable, strings.Join(texts, "; "))
}
