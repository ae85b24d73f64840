package rootfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oubli/oubli/keystore"
)

// locks are the lock files that one change holds, by path of the mirror.
type locks map[string]*os.File

// lock takes the lock of every mirror whose folder answers, in canonical order, so
// that any two changes that share a reachable mirror exclude each other, also when the
// first mirror is away. away says why a mirror was left out. The locks are flocks:
// they die with the process, and every call holds its own, so that they work between
// goroutines too. The caller calls unlock.
func (s *Store) lock(ctx context.Context) (held locks, away map[string]error, err error) {
	held, away = make(locks), make(map[string]error)
	for _, p := range s.paths {
		f, err := s.lockOne(ctx, p+lockSuffix)
		switch {
		case ctx.Err() != nil:
			held.unlock()
			return nil, nil, fmt.Errorf("waiting for the lock %s: %w: %w", p+lockSuffix, keystore.ErrUnavailable, ctx.Err())
		case err != nil:
			away[p] = unavailable(p, err)
		default:
			held[p] = f
		}
	}
	if len(held) == 0 {
		return nil, nil, away[s.paths[0]]
	}
	return held, away, nil
}

func (l locks) unlock() {
	for _, f := range l {
		f.Close()
	}
}

func (s *Store) lockOne(ctx context.Context, path string) (*os.File, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := s.tryLock(path)
		if f != nil || err != nil {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// tryLock returns nil without an error when another holds the lock.
func (s *Store) tryLock(path string) (*os.File, error) {
	var f *os.File
	err := s.disk.do("lock", path, func() (err error) {
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		return err
	})
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err == nil {
		// Remove may have unlinked the file between our open and our lock: then
		// this lock is nobody's, and whoever comes next makes another.
		mine, err1 := f.Stat()
		there, err2 := os.Lstat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return f, nil
		}
	}
	f.Close()
	if err == nil || errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// unavailable says why the mirror at path does not answer.
func unavailable(path string, err error) error {
	if errors.Is(err, keystore.ErrUnavailable) {
		return err
	}
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("root file %s: %w: the folder %s does not exist; make or mount it", path, keystore.ErrUnavailable, dir)
		}
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("root file %s: %w: no permission in the folder %s: %w", path, keystore.ErrUnavailable, dir, err)
	}
	return fmt.Errorf("root file %s: %w: %w", path, keystore.ErrUnavailable, err)
}
