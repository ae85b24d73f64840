package rootfile

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// replace puts f in the place of the root file at path: written beside and synced, the
// old content kept by name, renamed, the directory synced. When wipe is true, it then
// overwrites every file that held an older content, and fails if it cannot.
//
// The new content goes over a leftover where there is one: that wipes the leftover at
// no further cost, so that creating a root takes two syncs and destroying one takes
// three.
func (s *Store) replace(path string, f *rootFile, wipe bool) error {
	left, err := s.leftovers(path, true)
	if err != nil {
		return err
	}
	current, err := s.disk.lstat(path)
	if err != nil {
		return err
	}
	tmp, atLeast := path+newInfix+rand.Text(), 0
	for i, l := range left {
		if reusable(l.info, current, f) {
			tmp, atLeast = l.path, int(l.info.Size())
			left = append(left[:i:i], left[i+1:]...)
			break
		}
	}
	data := f.encode(atLeast)
	defer clear(data)
	if err := s.writeFile(tmp, data, atLeast == 0, current); err != nil {
		if atLeast == 0 {
			// it must not stay, but the first error is what matters
			_ = s.wipe(tmp, nil)
		}
		return err
	}
	old := path + oldInfix + rand.Text()
	if err := s.disk.link(path, old); err != nil {
		return err
	}
	if err := s.disk.rename(tmp, path); err != nil {
		return err
	}
	if err := s.disk.syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	// The new content is durable under its name: now the older ones may go. Without
	// wipe, one stays for the next change to write over; it holds living roots only.
	if wipe {
		left = append(left, leftover{path: old})
	}
	living := s.livingInodes()
	for _, l := range left {
		if err := s.wipe(l.path, living); err != nil && wipe {
			return err
		}
	}
	return nil
}

// leftover is a file beside a root file that holds older content, or content that
// never came into force.
type leftover struct {
	path string
	info fs.FileInfo
}

// leftovers finds them. A name that a crash left on a file which is in force, of this
// mirror or another, is only unlinked, where unlink says so, or passed over: to write to
// it would destroy living roots.
func (s *Store) leftovers(path string, unlink bool) ([]leftover, error) {
	dir, name := filepath.Split(path)
	entries, err := s.disk.list(filepath.Clean(dir))
	if err != nil {
		return nil, err
	}
	if _, err := s.disk.lstat(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err // without knowing the living file, nothing may be wiped
	}
	living := s.livingInodes()
	var out []leftover
	for _, e := range entries {
		n := e.Name()
		if !strings.HasPrefix(n, name+oldInfix) && !strings.HasPrefix(n, name+newInfix) {
			continue
		}
		l := leftover{path: filepath.Join(dir, n)}
		l.info, err = s.disk.lstat(l.path)
		if errors.Is(err, fs.ErrNotExist) && !unlink {
			continue // a writer is at work, and this is a look without the lock
		}
		if err != nil {
			return nil, err
		}
		if sameAsAny(l.info, living) {
			if unlink {
				err = s.disk.remove(l.path)
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		out = append(out, l)
	}
	return out, nil
}

// livingInodes are the files that stand under the names of the mirrors.
func (s *Store) livingInodes() []fs.FileInfo {
	var out []fs.FileInfo
	for _, p := range s.paths {
		if info, err := os.Lstat(p); err == nil {
			out = append(out, info)
		}
	}
	return out
}

func sameAsAny(info fs.FileInfo, others []fs.FileInfo) bool {
	for _, o := range others {
		if os.SameFile(info, o) {
			return true
		}
	}
	return false
}

// reusable tells whether f can be written over a leftover: an ordinary file like the
// current one, with no other name, and not so long that the root file would keep that
// length for nothing.
func reusable(info, current fs.FileInfo, f *rootFile) bool {
	if !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 || info.Size() == 0 || info.Size() > 2*current.Size() {
		return false
	}
	is, ok1 := info.Sys().(*syscall.Stat_t)
	cur, ok2 := current.Sys().(*syscall.Stat_t)
	return ok1 && ok2 && is.Nlink == 1 && is.Uid == cur.Uid && is.Gid == cur.Gid
}

// writeFile writes data to a new file, or over the beginning of one that is there, and
// syncs it. A new file gets the owner of like, if that is not nil: otherwise root on
// the command line would take the file away from the service that it belongs to.
func (s *Store) writeFile(path string, data []byte, create bool, like fs.FileInfo) error {
	f, err := s.disk.open(path, create)
	if err != nil {
		return err
	}
	defer f.Close()
	if create && like != nil {
		if st, ok := like.Sys().(*syscall.Stat_t); ok && (int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid()) {
			if err := s.disk.chown(f, int(st.Uid), int(st.Gid)); err != nil {
				return err
			}
		}
	}
	if err := s.disk.writeAt(f, data, 0); err != nil {
		return err
	}
	return s.disk.sync(f)
}

// wipe overwrites a file, syncs and unlinks it. A file that is one of living only
// loses this name. It succeeds when there is no such file.
func (s *Store) wipe(path string, living []fs.FileInfo) error {
	info, err := s.disk.lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() && info.Size() > 0 && !sameAsAny(info, living) {
		if err := s.writeFile(path, make([]byte, info.Size()), false, nil); err != nil {
			return err
		}
	}
	return s.disk.remove(path)
}

// replaceAnchor writes a log anew, without what is superseded.
func (s *Store) replaceAnchor(path string, l *anchorLog) error {
	name := path + anchorSuffix
	s.dropAnchorTemps(path)
	tmp := name + newInfix + rand.Text()
	like, _ := s.disk.lstat(path) // the root file's owner
	if err := s.writeFile(tmp, l.encode(), true, like); err != nil {
		_ = s.disk.remove(tmp)
		return err
	}
	if err := s.disk.rename(tmp, name); err != nil {
		return err
	}
	return s.disk.syncDir(filepath.Dir(name))
}

// dropAnchorTemps removes what crashes left beside an anchor. It holds no keys, so it
// is not worth failing for.
func (s *Store) dropAnchorTemps(path string) {
	entries, _ := s.disk.list(filepath.Dir(path))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(path)+anchorSuffix+newInfix) {
			_ = s.disk.remove(filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
}

// appendAnchor appends one record to the log of a mirror, and syncs it if durable.
func (s *Store) appendAnchor(path string, l *anchorLog, sections []section, durable bool) error {
	f, err := s.disk.open(path+anchorSuffix, false)
	if err != nil {
		return err
	}
	defer f.Close()
	if l.total > l.size { // what a crash cut off
		if err := s.disk.truncate(f, l.size); err != nil {
			return err
		}
	}
	if err := s.disk.writeAt(f, appendRecord(nil, l.store, l.size, sections), l.size); err != nil {
		return err
	}
	if !durable {
		return nil
	}
	return s.disk.sync(f)
}
