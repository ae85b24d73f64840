package rootfile

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oubli/oubli/keystore"
)

// testDisk is a hook that counts, keeps every inode ever made open, and can die at one
// operation. It does not really sync: these tests kill processes, not machines.
type testDisk struct {
	ops    int
	trace  []string // "op suffix"
	inodes []*os.File

	failAt int // operation at which to die, from 1; 0: never
	mode   string
	dead   bool
}

var errDead = errors.New("the process died")

// Ways to die at an operation.
const (
	lost    = "lost"    // nothing was done
	applied = "applied" // it was done, the answer is lost
	torn    = "torn"    // of a write, a part was done
)

func (d *testDisk) hook(op, path string, do func() error) error {
	if d.dead {
		return errDead
	}
	d.ops++
	d.trace = append(d.trace, op+" "+filepath.Base(path))
	dies := d.failAt > 0 && d.ops == d.failAt
	d.dead = dies
	if dies && d.mode == lost {
		return errDead
	}
	before := size(path)
	var err error
	if op != "fsync" {
		err = do()
	}
	if op == "create" && err == nil {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		d.inodes = append(d.inodes, f)
	}
	if dies && d.mode == torn && op == "write" {
		tear(path, before)
	}
	if dies {
		return errDead
	}
	return err
}

func size(path string) int64 {
	info, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// tear undoes the second half of the write that was the last.
func tear(path string, before int64) {
	if now := size(path); now > before {
		os.Truncate(path, (before+now)/2)
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	f.WriteAt(bytes.Repeat([]byte{0xaa}, int(before/2)), before/2)
}

func (d *testDisk) close() {
	for _, f := range d.inodes {
		f.Close()
	}
}

// syncs counts the syncs of files and directories since the last call.
func (d *testDisk) syncs() (n int) {
	for _, t := range d.trace {
		if strings.HasPrefix(t, "fsync ") {
			n++
		}
	}
	d.trace = nil
	return n
}

func paths(t testing.TB, n int) []string {
	t.Helper()
	var out []string
	for i := range n {
		dir := filepath.Join(t.TempDir(), "m"+strconv.Itoa(i))
		require.NoError(t, os.Mkdir(dir, 0o700))
		out = append(out, filepath.Join(dir, "oubli.root"))
	}
	return out
}

func open(t testing.TB, ps []string, d *testDisk) *Store {
	t.Helper()
	o := &Options{Host: "here"}
	if d != nil {
		o.hook = d.hook
	}
	s, err := New(ps, o)
	require.NoError(t, err)
	return s
}

func newRoot(epoch uint64) keystore.Root {
	r := keystore.Root{Epoch: epoch, Created: time.Unix(1_700_000_000+int64(epoch), 0).UTC()}
	rand.Read(r.ID[:])
	rand.Read(r.Key[:])
	return r
}

func tombstone(t testing.TB, n int) keystore.Tombstone {
	t.Helper()
	s, err := keystore.NewSubject("customer", n+1)
	require.NoError(t, err)
	out := keystore.Tombstone{Subject: s, Page: 1, Counter: uint64(n), At: time.Unix(1_700_000_000, int64(n)).UTC(), Keys: []uint32{uint32(n), 7}, Erased: true, Keep: []string{"tax"}}
	binary.BigEndian.PutUint64(out.Event[:], uint64(n+1))
	return out
}

func contents(rs ...keystore.Root) keystore.RootContents {
	return keystore.RootContents{Store: keystore.StoreID{1, 2, 3}, Living: rs}
}

func load(t testing.TB, s *Store) keystore.RootContents {
	t.Helper()
	c, err := s.Load(context.Background())
	require.NoError(t, err)
	return c
}

func created(t testing.TB, ps []string, rs ...keystore.Root) *Store {
	t.Helper()
	s := open(t, ps, nil)
	require.NoError(t, s.Create(context.Background(), contents(rs...)))
	return s
}

// everyByte returns the bytes of all files in the folders of ps.
func everyByte(t testing.TB, ps []string) []byte {
	t.Helper()
	var out []byte
	for _, p := range ps {
		for _, name := range names(t, p) {
			b, err := os.ReadFile(filepath.Join(filepath.Dir(p), name))
			require.NoError(t, err)
			out = append(out, b...)
		}
	}
	return out
}

func names(t testing.TB, path string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// inodeBytes returns what every inode ever made holds now, named or not.
func (d *testDisk) inodeBytes(t testing.TB) []byte {
	t.Helper()
	var out []byte
	for _, f := range d.inodes {
		b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
		require.NoError(t, err)
		out = append(out, b...)
	}
	return out
}
