package rootfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// hook stands around every file operation; it may call do, or not, and decides on the
// error. For tests.
type hook func(op, path string, do func() error) error

// disk is the few operations on files that a root store is made of.
type disk struct{ hook hook }

func (d disk) do(op, path string, f func() error) error {
	if d.hook == nil {
		return f()
	}
	return d.hook(op, path, f)
}

var errNotRegular = errors.New("it is not a regular file")

// read returns a regular file's bytes and what Stat says of the file they came from.
func (d disk) read(path string, limit int64) (data []byte, info fs.FileInfo, err error) {
	err = d.do("read", path, func() error {
		// a pipe must not block the open, a link must not lead elsewhere
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if errors.Is(err, unix.ELOOP) {
			return fmt.Errorf("%s: %w but a link; name the file itself", path, errNotRegular)
		}
		if err != nil {
			return err
		}
		defer f.Close()
		if info, err = f.Stat(); err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s: %w", path, errNotRegular)
		}
		if info.Size() > limit {
			return fmt.Errorf("%s: it has %d bytes, too many to be right", path, info.Size())
		}
		data = make([]byte, info.Size())
		n, err := io.ReadFull(f, data)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		data = data[:n]
		return nil
	})
	return data, info, err
}

func (d disk) lstat(path string) (info fs.FileInfo, err error) {
	err = d.do("stat", path, func() error { info, err = os.Lstat(path); return err })
	return info, err
}

func (d disk) list(dir string) (entries []fs.DirEntry, err error) {
	err = d.do("list", dir, func() error { entries, err = os.ReadDir(dir); return err })
	return entries, err
}

// create makes a file that was not there, or opens one without cutting it: to truncate
// would free the blocks that are to be overwritten.
func (d disk) open(path string, create bool) (f *os.File, err error) {
	flags, op := os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, "open"
	if create {
		flags, op = flags|os.O_CREATE|os.O_EXCL, "create"
	}
	err = d.do(op, path, func() error { f, err = os.OpenFile(path, flags, 0o600); return err })
	if err != nil && f != nil { // done, but not answered
		f.Close()
		f = nil
	}
	return f, err
}

func (d disk) writeAt(f *os.File, b []byte, off int64) error {
	return d.do("write", f.Name(), func() error { _, err := f.WriteAt(b, off); return err })
}

func (d disk) truncate(f *os.File, size int64) error {
	return d.do("truncate", f.Name(), func() error { return f.Truncate(size) })
}

func (d disk) sync(f *os.File) error {
	return d.do("fsync", f.Name(), f.Sync)
}

func (d disk) link(old, name string) error {
	return d.do("link", name, func() error { return os.Link(old, name) })
}

func (d disk) rename(old, name string) error {
	return d.do("rename", name, func() error { return os.Rename(old, name) })
}

func (d disk) remove(path string) error {
	err := d.do("remove", path, func() error { return os.Remove(path) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (d disk) chown(f *os.File, uid, gid int) error {
	return d.do("chown", f.Name(), func() error { return f.Chown(uid, gid) })
}

// syncDir makes names in dir durable.
func (d disk) syncDir(dir string) error {
	return d.do("fsync", dir, func() error {
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}
