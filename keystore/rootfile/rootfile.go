// Package rootfile keeps root keys in a small file, or in several mirrors of it, on
// the local machine. It serves the processes of one host.
//
// A mirror is a pair of files: PATH holds the living roots and the ids of those that
// were destroyed, PATH.anchor holds the anchor and the tombstones that a restore must
// replay. docs/format.md says what stands in them, byte by byte.
//
// What it guarantees: a root is on every mirror, durably, before Add returns; any one
// mirror opens; a crash at any moment leaves each file with its old or its new content;
// once Destroy returned nil, no file that this package ever wrote holds the root.
// To that end the root file is replaced, never changed: the new content goes to a file
// beside it, the old one is kept by name as PATH.old-…, the new one is renamed over it,
// the directory is synced, and only then is the old one overwritten and unlinked.
//
// Several processes of one host may share the files. They take turns by a lock that dies
// with its process; one that is stopped while it holds it keeps the others from erasing,
// not from reading.
//
// What it does not guarantee: that the disk really forgets. File systems that copy on
// write, snapshots, and flash that remaps its blocks keep old ones. Its class is
// therefore "best-effort".
package rootfile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/oubli/oubli/keystore"
)

// Options are what New can be told. The zero value holds the defaults.
type Options struct {
	// Host names the machine that the root store is bound to. Default: the host name
	// and a digest of the machine id. Containers often share a machine id and
	// change their host name; say what identifies yours.
	Host string

	hook hook // sees every file operation; for tests
}

// Store is a root store in files. It is safe for concurrent use by goroutines and by
// processes: every change is made under a lock on all mirrors that dies with its
// process, and after reading them again.
type Store struct {
	paths []string // canonical, sorted
	host  string
	disk  disk

	mu      sync.Mutex
	suspect map[string]bool // anchors whose last append failed, by path of the mirror
	readers map[string]*anchorReader
}

var _ keystore.Rehearser = (*Store)(nil)

// Suffixes of the files beside a root file.
const (
	anchorSuffix = ".anchor"
	lockSuffix   = ".lock"
	oldInfix     = ".old-" // content that was replaced, to be wiped
	newInfix     = ".new-" // content that is not in place yet
)

// New returns the root store whose mirrors are the files at paths. It touches no file;
// relative paths are taken from the current directory. The error wraps
// [keystore.ErrInvalid]. o may be nil.
func New(paths []string, o *Options) (*Store, error) {
	if o == nil {
		o = &Options{}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%w: a root store needs at least one path", keystore.ErrInvalid)
	}
	s := &Store{host: o.Host, disk: disk{o.hook}, suspect: make(map[string]bool), readers: make(map[string]*anchorReader)}
	for _, p := range paths {
		c, err := canonical(p)
		if err != nil {
			return nil, err
		}
		if slices.Contains(s.paths, c) {
			return nil, fmt.Errorf("%w: root file %s is named twice; mirrors must be different files", keystore.ErrInvalid, c)
		}
		s.paths = append(s.paths, c)
	}
	slices.Sort(s.paths)
	if s.host == "" {
		s.host = thisHost()
	}
	return s, nil
}

// Parse reads the paths from a URL as the command line takes it: file:oubli.root, or
// file:/a/oubli.root,file:/b/oubli.root for two mirrors. The error wraps
// [keystore.ErrInvalid].
func Parse(url string) ([]string, error) {
	var paths []string
	for part := range strings.SplitSeq(url, ",") {
		p, ok := strings.CutPrefix(part, "file:")
		if !ok || p == "" {
			return nil, fmt.Errorf("%w: root store %q: write file:PATH, or file:PATH,file:PATH for mirrors", keystore.ErrInvalid, url)
		}
		paths = append(paths, p)
	}
	return paths, nil
}

// Place returns the canonical URL of the mirrors, the host, and the class.
func (s *Store) Place() keystore.Place {
	return keystore.Place{URL: "file:" + strings.Join(s.paths, ",file:"), Host: s.host, Class: keystore.ClassBestEffort}
}

// canonical makes path absolute and resolves the links among its directories, not the
// file itself: that is replaced by renaming, which would leave a link's target behind.
func canonical(path string) (string, error) {
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("%w: root file %q: %s", keystore.ErrInvalid, path, why)
	}
	if path == "" || strings.HasSuffix(path, string(filepath.Separator)) {
		return bad("this names no file")
	}
	if strings.ContainsAny(path, ",\x00\n") {
		return bad("the path must not hold a comma, which separates mirrors, or control characters")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return bad("the current directory is unknown")
	}
	dir, name := filepath.Split(abs)
	if name == "" || name == "." || name == ".." {
		return bad("this names no file")
	}
	if strings.HasSuffix(name, anchorSuffix) || strings.HasSuffix(name, lockSuffix) ||
		strings.Contains(name, oldInfix) || strings.Contains(name, newInfix) {
		return bad("names with .anchor, .lock, .old- and .new- are taken for the files beside a root file")
	}
	return filepath.Join(resolve(filepath.Clean(dir)), name), nil
}

// resolve follows links as far as dir exists.
func resolve(dir string) string {
	if r, err := filepath.EvalSymlinks(dir); err == nil {
		return r
	}
	parent := filepath.Dir(dir)
	if parent == dir {
		return dir
	}
	return filepath.Join(resolve(parent), filepath.Base(dir))
}

// thisHost identifies the machine. The machine id is not for others to see, says
// machine-id(5), so a digest of it stands in for it.
func thisHost() string {
	name, _ := os.Hostname()
	for _, f := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		b, err := os.ReadFile(f)
		id := strings.TrimSpace(string(b))
		if err != nil || id == "" || id == "uninitialized" {
			continue
		}
		sum := sha256.Sum256([]byte("oubli host\x00" + id))
		return name + "/" + hex.EncodeToString(sum[:8])
	}
	return name
}
