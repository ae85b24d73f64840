package rootfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/oubli/oubli/keystore"
)

// mirror is what one mirror held when it was read.
type mirror struct {
	path      string
	root      *rootFile // nil: away
	rootErr   error
	anchor    *anchorLog // nil: missing or unreadable
	anchorErr error

	beside []oldFile // set by lookBeside
}

// oldFile is a file beside a root file that was not wiped yet.
type oldFile struct {
	path  string
	roots []keystore.RootID
	whole bool // it parses; another may hold any root
}

// view is what all mirrors held when they were read, in canonical order.
type view []mirror

// read reads every mirror, and refuses when none can be read, when they belong to
// different keystores, or when every anchor is lost. Mirrors in away are not looked at.
func (s *Store) read(away map[string]error) (view, error) {
	v := make(view, len(s.paths))
	for i, p := range s.paths {
		v[i] = mirror{path: p, rootErr: away[p]}
		if v[i].rootErr == nil {
			v[i].root, v[i].rootErr = s.readRoot(p)
			v[i].anchor, v[i].anchorErr = s.readAnchor(p)
		}
	}
	return v, v.check()
}

// readRoot reads a root file. A writer may wipe the file while it is being read, but
// only after another has taken its name: then the other is read.
func (s *Store) readRoot(path string) (*rootFile, error) {
	fail := func(err error) (*rootFile, error) {
		return nil, fmt.Errorf("root file %s: %w", path, err)
	}
	for range 100 {
		data, info, err := s.disk.read(path, maxRootFile)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fail(fmt.Errorf("%w: the file is missing", keystore.ErrNotFound))
		case errors.Is(err, errNotRegular):
			return fail(fmt.Errorf("%w: %w", keystore.ErrInvalid, err))
		case err != nil:
			return fail(fmt.Errorf("%w: %w", keystore.ErrUnavailable, err))
		case info.Mode().Perm()&0o077 != 0:
			clear(data)
			return fail(fmt.Errorf("%w: others may read or write it (mode %04o): chmod 600 %s", keystore.ErrInvalid, info.Mode().Perm(), path))
		}
		f, err := decodeRoot(data)
		clear(data)
		if err == nil {
			return f, nil
		}
		if now, statErr := os.Lstat(path); statErr == nil && os.SameFile(info, now) {
			return fail(err)
		}
		time.Sleep(time.Millisecond)
	}
	return fail(fmt.Errorf("%w: it changes faster than it can be read", keystore.ErrUnavailable))
}

func (s *Store) readAnchor(path string) (*anchorLog, error) {
	name := path + anchorSuffix
	fail := func(err error) (*anchorLog, error) {
		return nil, fmt.Errorf("anchor %s: %w", name, err)
	}
	data, _, err := s.disk.read(name, 1<<40)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(fmt.Errorf("%w: the file is missing", keystore.ErrNotFound))
	case errors.Is(err, errNotRegular):
		return fail(fmt.Errorf("%w: %w", keystore.ErrInvalid, err))
	case err != nil:
		return fail(fmt.Errorf("%w: %w", keystore.ErrUnavailable, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.readers[path]
	if r == nil {
		r = new(anchorReader)
		s.readers[path] = r
	}
	l, err := r.decode(data)
	if err != nil {
		return fail(err)
	}
	return l, nil
}

func (v view) check() error {
	var first *mirror
	var rootErrs, anchorErrs []error
	anchors := 0
	for i := range v {
		m := &v[i]
		if m.root == nil {
			rootErrs = append(rootErrs, m.rootErr)
			continue
		}
		if first == nil {
			first = m
		}
		if m.root.store != first.root.store {
			return fmt.Errorf("%w: the root files %s and %s belong to different keystores (%s, %s)",
				keystore.ErrMismatch, first.path, m.path, first.root.store, m.root.store)
		}
		if m.anchor == nil {
			anchorErrs = append(anchorErrs, m.anchorErr)
			continue
		}
		anchors++
		if m.anchor.store != m.root.store {
			return fmt.Errorf("%w: the anchor %s belongs to keystore %s, the root file beside it to %s",
				keystore.ErrMismatch, m.path+anchorSuffix, m.anchor.store, m.root.store)
		}
	}
	if first == nil {
		return joined(rootErrs)
	}
	if anchors > 0 {
		return nil
	}
	err := joined(anchorErrs)
	if errors.Is(err, keystore.ErrNotFound) {
		// not ErrNotFound: the root is there, and must not be taken for a new place
		return fmt.Errorf("%w: no anchor is left beside the root file %s (%s is missing): without it nobody can tell whether the keystore is an old copy; bring the anchor back from a backup",
			keystore.ErrMismatch, first.path, first.path+anchorSuffix)
	}
	return err
}

// joined makes one error of several mirrors' errors. It wraps ErrNotFound only when
// every mirror is missing: a caller must not take a damaged root for an absent one.
func joined(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	missing := func(err error) bool { return errors.Is(err, keystore.ErrNotFound) }
	rest := slices.DeleteFunc(slices.Clone(errs), missing)
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	cause := errs[0]
	if len(rest) > 0 {
		cause = rest[0]
	}
	for _, sentinel := range []error{keystore.ErrTampered, keystore.ErrInvalid, keystore.ErrUnavailable, keystore.ErrNotFound} {
		if errors.Is(cause, sentinel) {
			return fmt.Errorf("%w: no mirror can be read: %s", sentinel, strings.Join(texts, "; "))
		}
	}
	return cause
}

// store returns the id of the keystore that the roots belong to.
func (v view) store() keystore.StoreID {
	for _, m := range v {
		if m.root != nil {
			return m.root.store
		}
	}
	return keystore.StoreID{}
}

// away returns the errors of the mirrors that cannot be read.
func (v view) away() []error {
	var out []error
	for _, m := range v {
		if m.root == nil {
			out = append(out, m.rootErr)
		} else if m.anchor == nil && !errors.Is(m.anchorErr, keystore.ErrNotFound) {
			out = append(out, m.anchorErr)
		}
	}
	return out
}

// living returns the union of the roots, in the order in which they were added.
func (v view) living() ([]keystore.Root, error) {
	var out []keystore.Root
	for _, m := range v {
		if m.root == nil {
			continue
		}
		for _, r := range m.root.living {
			i := slices.IndexFunc(out, func(o keystore.Root) bool { return o.ID == r.ID })
			if i < 0 {
				out = append(out, r)
			} else if out[i] != r {
				return nil, fmt.Errorf("root file %s: %w: root %s differs between the mirrors", m.path, keystore.ErrTampered, r.ID)
			}
		}
	}
	return out, nil
}

// holds tells whether the root lives on any mirror.
func (v view) holds(id keystore.RootID) bool {
	return slices.ContainsFunc(v, func(m mirror) bool { return m.root != nil && m.root.root(id) != nil })
}

// remembered tells whether any mirror remembers the root as destroyed.
func (v view) remembered(id keystore.RootID) bool {
	return slices.ContainsFunc(v, func(m mirror) bool {
		return m.root != nil && slices.Contains(m.root.destroyed, id)
	})
}

// lookBeside notes what stands in files that a crash kept from being wiped: the root
// file may say already that their roots are destroyed. What was wiped to the end counts
// for nothing.
func (s *Store) lookBeside(m *mirror) error {
	left, err := s.leftovers(m.path, false)
	if err != nil {
		return unavailable(m.path, err)
	}
	for _, l := range left {
		data, _, err := s.disk.read(l.path, maxRootFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue // somebody is wiping
		}
		old := oldFile{path: l.path}
		if f, decodeErr := decodeRoot(data); err == nil && decodeErr == nil {
			old.whole = true
			for i := range f.living {
				old.roots = append(old.roots, f.living[i].ID)
			}
		}
		if err != nil || len(bytes.Trim(data, "\x00")) > 0 {
			m.beside = append(m.beside, old)
		}
		clear(data)
	}
	return nil
}

// mayHold tells whether a file beside the mirror holds a root, or may.
func (m *mirror) mayHold(id keystore.RootID) bool {
	return slices.ContainsFunc(m.beside, func(o oldFile) bool { return !o.whole || slices.Contains(o.roots, id) })
}

// Leftovers names files beside the mirrors that hold a root which no mirror lists, or
// that are no whole root file: what a crash left. The next destruction wipes them.
func (s *Store) Leftovers(ctx context.Context) ([]string, error) {
	var out []string
	err := s.change(ctx, func(v view) error { // under the lock: nobody is at work
		living, err := v.living()
		if err != nil {
			return err
		}
		for i := range v {
			if err := s.lookBeside(&v[i]); err != nil {
				return err
			}
			for _, o := range v[i].beside {
				dead := slices.ContainsFunc(o.roots, func(id keystore.RootID) bool {
					return !slices.ContainsFunc(living, func(r keystore.Root) bool { return r.ID == id })
				})
				if dead || !o.whole {
					out = append(out, o.path)
				}
			}
		}
		return nil
	})
	return out, err
}

// confirmed returns the roots that every mirror remembers as destroyed and none holds,
// nor any file beside it.
func (v view) confirmed() []keystore.RootID {
	if slices.ContainsFunc(v, func(m mirror) bool { return m.root == nil }) {
		return nil // a mirror that is away has confirmed nothing
	}
	var out []keystore.RootID
	for _, id := range v[0].root.destroyed {
		if !slices.ContainsFunc(v, func(m mirror) bool {
			return m.root.root(id) != nil || !slices.Contains(m.root.destroyed, id) || m.mayHold(id)
		}) {
			out = append(out, id)
		}
	}
	return out
}

// log returns what the anchors say together: the highest of each number, and every
// tombstone that any of them holds.
func (v view) log() *anchorLog {
	out := &anchorLog{store: v.store()}
	if len(v) == 1 && v[0].anchor != nil {
		l := *v[0].anchor // the caller changes it
		l.tombstones = slices.Clone(l.tombstones)
		return &l
	}
	have := make(map[keystore.EventID]bool)
	for i, m := range v {
		if m.root == nil || m.anchor == nil {
			continue
		}
		out.anchor = out.anchor.Higher(m.anchor.anchor)
		if out.extra == nil {
			out.extra = m.anchor.extra
		}
		added := false
		for _, t := range m.anchor.tombstones {
			if !have[t.Event] {
				have[t.Event], added = true, true
				out.tombstones = append(out.tombstones, t)
			}
		}
		if added && i > 0 {
			// only mirrors that disagree are merged by the clock
			slices.SortStableFunc(out.tombstones, func(a, b keystore.Tombstone) int { return a.At.Compare(b.At) })
		}
	}
	return out
}
