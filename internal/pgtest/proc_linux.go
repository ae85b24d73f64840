package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const supported = true

// owner is the user that servers run as. A nil owner is the user of this process.
type owner struct{ uid, gid uint32 }

// serverOwner returns nil unless this process runs as root, which PostgreSQL and pgbouncer
// refuse.
func serverOwner() (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, fmt.Errorf("no user to run PostgreSQL as, which refuses root: %w", err)
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &owner{uint32(uid), uint32(gid)}, errors.Join(err, err2)
}

func (o *owner) chown(path string) error {
	if o == nil {
		return nil
	}
	return os.Lchown(path, int(o.uid), int(o.gid))
}

// String is part of the name of a template.
func (o *owner) String() string {
	if o == nil {
		return ""
	}
	return fmt.Sprint(o.uid)
}

// sysProcAttr makes a process run as the owner, in a session of its own, and get SIGQUIT
// when the thread ends that started it. PostgreSQL then stops without a checkpoint.
func (o *owner) sysProcAttr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGQUIT}
	if o != nil {
		attr.Credential = &syscall.Credential{Uid: o.uid, Gid: o.gid}
	}
	return attr
}

// detached makes a process outlive this one and what ends its terminal.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// checkOwn refuses a directory that another user put in the way.
func checkOwn(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a directory of this user: remove it", dir)
	}
	return nil
}

// lockFile locks a file until what it returns is closed, or the process ends. If another
// holds it, it waits, or fails.
func lockFile(path string, wait bool) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
	}
}

// bootID tells one boot of the machine from another.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(id) < 8 {
		return "boot"
	}
	return string(id[:8])
}

// killTree kills a process, which must be a child of this one that was not waited for, and
// its children, and returns when the children have ended. Each backend of PostgreSQL has a
// session of its own, so there is no group to signal.
func killTree(pid int) error {
	// A stopped server starts no further child.
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	waitState(pid, "TtZX")
	children := childrenOf(pid)
	for _, child := range children {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	for _, child := range children {
		if !waitState(child, "ZX") {
			return fmt.Errorf("process %d of PostgreSQL does not end", child)
		}
	}
	return nil
}

// waitState waits some seconds until a process is in one of the states of proc(5), or gone.
func waitState(pid int, states string) bool {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		_, state, ok := stat(pid)
		if !ok || strings.Contains(states, state) {
			return true
		}
	}
	return false
}

func childrenOf(pid int) []int {
	var children []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if parent, _, ok := stat(child); ok && parent == pid {
			children = append(children, child)
		}
	}
	return children
}

// stat returns the parent and the state of a process.
func stat(pid int) (parent int, state string, ok bool) {
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, "", false
	}
	// The second field is the name in parentheses, and may hold anything.
	fields := strings.Fields(string(line[bytes.LastIndexByte(line, ')')+1:]))
	if len(fields) < 2 {
		return 0, "", false
	}
	parent, err = strconv.Atoi(fields[1])
	return parent, fields[0], err == nil
}

// removeSharedMemory removes the segment that a killed server left in the kernel, which
// its postmaster.pid names. It fails while a process is attached to it.
func removeSharedMemory(pidFile string) error {
	text, err := os.ReadFile(pidFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 7 {
		return nil
	}
	var key int32
	var id int
	if _, err := fmt.Sscan(lines[6], &key, &id); err != nil {
		return nil
	}
	var desc unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &desc); err != nil || desc.Perm.Key != key {
		return nil
	}
	if desc.Nattch != 0 {
		return fmt.Errorf("the PostgreSQL of %s still runs", filepath.Dir(pidFile))
	}
	_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	return err
}
