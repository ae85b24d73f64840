package boltstore

import (
	"errors"
	"os"
	"time"
)

// Repair makes a file readable of which one meta page is damaged, by putting the other
// in its place. If the damaged one was the newer, this undoes the last commit, which may
// have been acknowledged: the file is then a backup from just before, and must go
// through a restore like one. It tells whether it changed the file; what is
// otherwise wrong with it, Open says.
func Repair(path string) (repaired bool, err error) {
	f, err := openLocked(path, &Options{Timeout: 3 * time.Second})
	if err != nil {
		return false, explain(path, "repair", err)
	}
	defer f.Close()
	repaired, err = repairMeta(f)
	return repaired, explain(path, "repair", err)
}

func repairMeta(f *os.File) (repaired bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	good, pageSize := int64(0), int64(0)
	m, err := readMeta(f, 0, info.Size())
	switch {
	case err == nil:
		pageSize = int64(m.pageSize)
		_, err = readMeta(f, pageSize, info.Size())
	case isBad(err):
		// How long a page is stands in the other meta page, whose place depends on it.
		for size := int64(512); size <= 1<<16 && pageSize == 0; size *= 2 {
			if other, err := readMeta(f, size, info.Size()); err == nil && int64(other.pageSize) == size {
				m, good, pageSize = other, size, size
			}
		}
	}
	if err == nil || pageSize == 0 && isBad(err) {
		return false, nil
	}
	if !isBad(err) {
		return false, err
	}
	if m.pages > uint64(info.Size()/pageSize) {
		return false, nil // it was cut
	}
	var page [pageHeader + metaSize]byte
	if _, err := f.ReadAt(page[:], good); err != nil {
		return false, err
	}
	damaged := pageSize - good // the two stand at 0 and at pageSize
	native.PutUint64(page[:], uint64(damaged/pageSize))
	if _, err := f.WriteAt(page[:], damaged); err != nil {
		return false, err
	}
	return true, f.Sync()
}

func isBad(err error) bool { return errors.As(err, new(badFile)) }
