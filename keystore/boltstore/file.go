package boltstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/oubli/oubli/keystore"
)

// openDB opens the file at path: locked first, then checked by ordinary reads, and
// only then mapped by bbolt, which trusts what it maps.
func openDB(path string, o *Options) (*bolt.DB, error) {
	f, err := openLocked(path, o)
	if err != nil {
		return nil, err
	}
	if err := checkFile(f); err != nil {
		f.Close()
		return nil, err
	}
	var db *bolt.DB
	err = recovering(func() (err error) {
		db, err = mapFile(f, o)
		return err
	})
	if err != nil {
		f.Close()
		return nil, err
	}
	return db, nil
}

// mapFile hands f to bbolt.
func mapFile(f *os.File, o *Options) (*bolt.DB, error) {
	db, err := bolt.Open(f.Name(), 0o600, &bolt.Options{
		// locked anew by bbolt on the same open file, which always works
		OpenFile:        func(string, int, os.FileMode) (*os.File, error) { return f, nil },
		Timeout:         time.Second,
		ReadOnly:        o.ReadOnly,
		MaxSize:         int(o.MaxSize),
		InitialMmapSize: mapSize,
		NoFreelistSync:  true, // the free list is found anew at each opening: no stale one can be trusted by mistake
		FreelistType:    bolt.FreelistMapType,
		NoStatistics:    true,
	})
	if err != nil {
		return nil, err
	}
	db.AllocSize = allocSize
	return db, nil
}

// openLocked opens an existing file and locks it, waiting no longer than o.Timeout.
func openLocked(path string, o *Options) (*os.File, error) {
	flag, lock := os.O_RDWR, syscall.LOCK_EX
	if o.ReadOnly {
		flag, lock = os.O_RDONLY, syscall.LOCK_SH
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(o.Timeout)
	for {
		err := syscall.Flock(int(f.Fd()), lock|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EWOULDBLOCK):
			f.Close()
			return nil, fmt.Errorf("lock: %w", err)
		case time.Now().After(deadline):
			f.Close()
			return nil, keystore.ErrLocked
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// createFile makes a keystore without records under a temporary name, and gives it
// its own when it is whole. It fails if something stands there already.
func createFile(path string, fill func(*bolt.DB) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return os.ErrExist
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new-*") // mode 0600
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: there is no folder %s", keystore.ErrUnavailable, dir)
	}
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	db, err := mapFile(f, &Options{})
	if err != nil {
		f.Close()
		return err
	}
	if err := errors.Join(fill(db), db.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
