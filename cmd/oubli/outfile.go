package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
	dir, name := filepath.Split(path)
	f, err := os.CreateTemp(filepath.Clean(dir), "."+name+".oubli-*")
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
	if err := o.temp.Close(); err != nil {
		return err
	}
	if err := os.Rename(o.temp.Name(), o.path); err != nil {
		return err
	}
	o.temp = nil
	return syncDir(filepath.Dir(o.path))
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
