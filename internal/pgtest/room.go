package pgtest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// room is the directory of this process, in which its servers have theirs. It stands in a
// directory that all processes of the user share:
//
//	oubli-pgtest-UID/lock                    held while one of the others is made or removed
//	oubli-pgtest-UID/template-BOOT-HASH/     what initdb made
//	oubli-pgtest-UID/run-NUMBER/alive        locked for as long as its process lives
//	oubli-pgtest-UID/run-NUMBER/server-1/    data, archive, log of a server
type room struct {
	base, dir string
	owner     *owner // whom the servers run as; nil: as this process
	lives     io.Closer
	watch     io.Closer // the pipe of which the end tells the watchdog that we ended

	mu      sync.Mutex
	servers int
}

// theRoom is made on first use: a process has one, and a program that only imports this
// package has none.
var theRoom = sync.OnceValues(openRoom)

func openRoom() (*room, error) {
	owner, err := serverOwner()
	if err != nil {
		return nil, err
	}
	tmp := os.TempDir()
	if owner != nil && !reachable(tmp) {
		tmp = "/tmp"
	}
	r := &room{base: filepath.Join(tmp, fmt.Sprintf("oubli-pgtest-%d", os.Getuid())), owner: owner}
	if err := os.Mkdir(r.base, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := checkOwn(r.base); err != nil {
		return nil, err
	}
	unlock, err := lockFile(filepath.Join(r.base, "lock"), true)
	if err != nil {
		return nil, err
	}
	defer unlock.Close()
	r.sweep()
	if r.dir, err = os.MkdirTemp(r.base, "run-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(r.dir, 0o755); err != nil {
		return nil, err
	}
	if r.lives, err = lockFile(filepath.Join(r.dir, "alive"), false); err != nil {
		return nil, err
	}
	return r, r.startWatchdog()
}

// sweep removes what processes left that are dead, and the templates of earlier boots,
// which nobody synced to the disk. What cannot be removed is left for the next.
func (r *room) sweep() {
	runs, _ := filepath.Glob(filepath.Join(r.base, "run-*"))
	for _, dir := range runs {
		lock, err := lockFile(filepath.Join(dir, "alive"), false)
		if err != nil {
			continue
		}
		ended := true
		pidFiles, _ := filepath.Glob(filepath.Join(dir, "*", "data", "postmaster.pid"))
		for _, path := range pidFiles {
			ended = ended && removeSharedMemory(path) == nil
		}
		if ended {
			_ = os.RemoveAll(dir)
		}
		_ = lock.Close()
	}
	templates, _ := filepath.Glob(filepath.Join(r.base, "template-*"))
	for _, dir := range templates {
		if !strings.HasPrefix(filepath.Base(dir), "template-"+bootID()+"-") {
			_ = os.RemoveAll(dir)
		}
	}
}

// startWatchdog starts a shell that removes the room once this process has ended, however
// it ended. It gives the servers, which the kernel tells to quit, some seconds.
func (r *room) startWatchdog() error {
	const script = `cat >/dev/null
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	ls "$1"/*/data/postmaster.pid >/dev/null 2>&1 || break
	sleep 0.2
done
rm -rf "$1"`
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	cmd := exec.Command("/bin/sh", "-c", script, "sh", r.dir)
	cmd.Dir, cmd.Stdin = "/", read
	cmd.SysProcAttr = detached()
	if err := cmd.Start(); err != nil {
		return errors.Join(err, write.Close())
	}
	go func() { _ = cmd.Wait() }()
	r.watch = write
	return nil
}

// newDir returns a new directory for a server or what stands before it, which belongs to
// the user that servers run as.
func (r *room) newDir(kind string) (string, error) {
	r.mu.Lock()
	r.servers++
	dir := filepath.Join(r.dir, fmt.Sprintf("%s-%d", kind, r.servers))
	r.mu.Unlock()
	return dir, r.mkdir(dir)
}

func (r *room) mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return r.owner.chown(dir)
}

// template returns the directory that initdb made for an install, and makes it if this is
// the first time.
func (r *room) template(in install) (string, error) {
	// Without sync: a template doesn't outlive the boot.
	args := []string{"--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"}
	sum := sha256.Sum256(fmt.Append(nil, in.bin, in.version, args, r.owner))
	dir := filepath.Join(r.base, fmt.Sprintf("template-%s-%x", bootID(), sum[:8]))
	unlock, err := lockFile(filepath.Join(r.base, "lock"), true)
	if err != nil {
		return "", err
	}
	defer unlock.Close()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	making, err := r.newDir("template")
	if err != nil {
		return "", err
	}
	if err := r.run(in, "initdb", append(args, "--pgdata="+making)...); err != nil {
		return "", errors.Join(err, os.RemoveAll(making))
	}
	return dir, os.Rename(making, dir)
}

// run runs a program of an install to its end, as the user that servers run as.
func (r *room) run(in install, program string, args ...string) error {
	cmd := exec.Command(filepath.Join(in.bin, program), args...)
	cmd.Dir = r.dir
	cmd.SysProcAttr = r.owner.sysProcAttr()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := startTied(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, out.Bytes())
	}
	return nil
}

// tied carries commands to the one goroutine that starts them: the kernel takes a process
// for orphaned when the thread that started it ends, and only a goroutine that keeps its
// thread for good prevents that.
var tied = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// startTied starts a command that ends with this process, if its SysProcAttr says so.
func startTied(cmd *exec.Cmd) error {
	result := make(chan error)
	tied() <- func() { result <- cmd.Start() }
	return <-result
}

// copyTree copies a directory into dst, which is made if need be, for the user that servers
// run as. What skip names by its slash-separated path in src is left out; skip may be nil.
func (r *room) copyTree(dst, src string, skip func(path string) bool) error {
	return filepath.WalkDir(src, func(from string, d fs.DirEntry, err error) error {
		path, relErr := filepath.Rel(src, from)
		// A running server removes files while they are listed and copied.
		if path != "." && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err := errors.Join(err, relErr); err != nil {
			return err
		}
		if path != "." && skip != nil && skip(filepath.ToSlash(path)) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		to := filepath.Join(dst, path)
		switch {
		case d.IsDir():
			if err := os.Mkdir(to, 0o700); err != nil && (path != "." || !errors.Is(err, fs.ErrExist)) {
				return err
			}
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(from)
			if err != nil {
				return err
			}
			if err := os.Symlink(target, to); err != nil {
				return err
			}
		case d.Type().IsRegular():
			if err := copyFile(to, from); err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				return err
			}
		default:
			return nil
		}
		return r.owner.chown(to)
	})
}

func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// reachable reports whether every user may enter a directory.
func reachable(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&1 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}
