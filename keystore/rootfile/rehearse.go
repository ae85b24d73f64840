package rootfile

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oubli/oubli/keystore"
)

// Rehearse implements [keystore.Rehearser]: it adds a scratch root to the mirrors, holds
// the files that then have it open, destroys it, and looks for its key in those files, which
// have no name any more, and in every file beside the mirrors. It holds the lock meanwhile,
// some milliseconds. If the process dies in it, the scratch root stays as one that no record
// names, which the next advance of the keystore supersedes.
//
// What the disk under the files keeps it can't see; the last step says so.
func (s *Store) Rehearse(ctx context.Context) (keystore.Rehearsal, error) {
	var r keystore.Rehearsal
	err := s.change(ctx, func(v view) error {
		scratch := keystore.Root{Created: time.Now().UTC().Truncate(time.Second)}
		rand.Read(scratch.ID[:])
		rand.Read(scratch.Key[:])
		if err := s.add(v, scratch); err != nil {
			return errors.Join(err, s.again(func(v view) error {
				if !v.holds(scratch.ID) {
					return nil
				}
				return s.destroy(v, []keystore.RootID{scratch.ID})
			}))
		}
		return s.again(func(v view) error { return s.rehearse(v, scratch, &r) })
	})
	return r, err
}

// again runs f on what the mirrors hold now; the caller has the lock.
func (s *Store) again(f func(v view) error) error {
	v, err := s.read(nil)
	if err != nil {
		return err
	}
	return f(v)
}

// rehearse destroys a root that v holds, and looks for it.
func (s *Store) rehearse(v view, scratch keystore.Root, r *keystore.Rehearsal) error {
	step := func(ok bool, note, format string, args ...any) {
		r.Steps = append(r.Steps, keystore.RehearsalStep{What: fmt.Sprintf(format, args...), OK: ok, Note: note})
	}
	var open []*os.File
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	var lookErr error
	for _, m := range v {
		had := 0
		lookErr = errors.Join(lookErr, s.eachBeside(m.path, func(f *os.File) error {
			has, err := holds(f, &scratch.Key)
			if has {
				had++
				open = append(open, f)
			} else {
				f.Close()
			}
			return err
		}))
		step(had > 0, "", "root %s is added, and its key stands in %s", scratch.ID, m.path)
	}
	err := s.destroy(v, []keystore.RootID{scratch.ID})
	step(err == nil, text(err), "it is destroyed on every mirror")
	if lookErr != nil { // after the destruction: the scratch root must not stay for that
		return lookErr
	}
	for _, f := range open {
		has, err := holds(f, &scratch.Key)
		if err != nil {
			return err
		}
		note := ""
		if has {
			note = "it was not overwritten: whoever reads the freed blocks of the disk has the key"
		}
		step(!has, note, "the file that held it, still open here, does not hold its key any more: %s", f.Name())
	}
	for _, m := range v {
		var left []string
		err := s.eachBeside(m.path, func(f *os.File) error {
			defer f.Close()
			has, err := holds(f, &scratch.Key)
			if has {
				left = append(left, f.Name())
			}
			return err
		})
		if err != nil {
			return err
		}
		note := ""
		if len(left) > 0 {
			note = "it stands in " + strings.Join(left, ", ")
		}
		step(len(left) == 0, note, "no file beside %s holds its key", m.path)
	}
	err = s.again(func(v view) error {
		step(!v.holds(scratch.ID) && v.remembered(scratch.ID), "", "the mirrors remember that it was destroyed")
		refused := s.add(v, scratch)
		step(errors.Is(refused, keystore.ErrMismatch), text(refused), "it can't be added again")
		return nil
	})
	if err != nil {
		return err
	}
	step(true, "a file system that copies on write, a snapshot, a backup of the folder, and flash that remaps its blocks may keep what was overwritten; no program can see that from above",
		"that is as far as files show it: the class is %s", keystore.ClassBestEffort)
	return nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// eachBeside opens each regular file whose name begins with that of a mirror. f closes it.
func (s *Store) eachBeside(path string, f func(*os.File) error) error {
	dir, name := filepath.Split(path)
	entries, err := s.disk.list(filepath.Clean(dir))
	if err != nil {
		return unavailable(path, err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), name) || !e.Type().IsRegular() {
			continue
		}
		file, err := os.OpenFile(filepath.Join(dir, e.Name()), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = f(file)
		}
		if err != nil {
			return unavailable(path, err)
		}
	}
	return nil
}

// holds tells whether a file has the bytes of a key somewhere. It reads with flat memory.
func holds(f *os.File, key *keystore.Secret) (bool, error) {
	buf := make([]byte, 1<<16)
	defer clear(buf)
	for off, kept := int64(0), 0; ; {
		n, err := f.ReadAt(buf[kept:], off)
		off += int64(n)
		if bytes.Contains(buf[:kept+n], key[:]) {
			return true, nil
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		kept = copy(buf, buf[max(0, kept+n-len(key)+1):kept+n])
	}
}
