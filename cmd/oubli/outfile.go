package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// outFile is where data goes: standard output, or a file that appears under its name
// whole or not at all.
type outFile struct {
	*bufio.Writer
	temp *os.File // nil: standard output
	path string
}

// createOut opens the output. path is empty for standard output.
func createOut(path string, stdout io.Writer) (*outFile, error) {
	if path == "" {
		return &outFile{Writer: bufio.NewWriterSize(stdout, 64<<10)}, nil
	}
	mode := fs.FileMode(0o600) // it may hold plaintext
	switch info, err := os.Stat(path); {
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file that could be replaced", path)
	case err == nil:
		mode = info.Mode().Perm()
		if path, err = filepath.EvalSymlinks(path); err != nil { // replace what a link points to
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	sweep(path)
	f, err := createTemp(path)
	if err != nil {
		return nil, err
	}
	o := &outFile{Writer: bufio.NewWriterSize(f, 64<<10), temp: f, path: path}
	if err := f.Chmod(mode); err != nil {
		o.discard()
		return nil, err
	}
	return o, nil
}

// finish makes the output durable and gives it its name.
func (o *outFile) finish() error {
	if err := o.Flush(); err != nil || o.temp == nil {
		return err
	}
	if err := o.temp.Sync(); err != nil {
		return err
	}
	if err := os.Rename(o.temp.Name(), o.path); err != nil { // still locked
		return err
	}
	temp := o.temp
	o.temp = nil
	return errors.Join(temp.Close(), syncDir(filepath.Dir(o.path)))
}

// finishNew is finish for a file that replaces nothing, also not what came since createOut.
func (o *outFile) finishNew() error {
	if o.temp != nil {
		reserved, err := os.OpenFile(o.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		reserved.Close()
	}
	return o.finish()
}

// beingWritten stands in the name of an output that is not finished.
const beingWritten = ".oubli-"

// createTemp makes the file that is to become the output, and locks it: so a run that is
// at work is told from one that was killed.
func createTemp(path string) (*os.File, error) {
	dir, name := filepath.Split(path)
	for {
		f, err := os.CreateTemp(filepath.Clean(dir), "."+name+beingWritten+"*")
		if err != nil {
			return nil, err
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			// Another may have swept it away before it was locked.
			mine, err := f.Stat()
			if there, err2 := os.Lstat(f.Name()); err != nil || err2 != nil || !os.SameFile(mine, there) {
				f.Close()
				continue
			}
		}
		return f, nil
	}
}

// sweep removes what killed runs left of an output, since it may be plaintext. What
// cannot be looked at stays; it is no reason to fail.
func sweep(path string) {
	left, err := beside(path, func(name, base string) bool { return strings.HasPrefix(name, "."+base+beingWritten) })
	if err != nil {
		return
	}
	for _, l := range left {
		f, err := os.OpenFile(l, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.Remove(l)
		}
		f.Close()
	}
}

// discard removes what was written, unless it is finished.
func (o *outFile) discard() {
	if o.temp != nil {
		o.temp.Close()
		os.Remove(o.temp.Name())
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
