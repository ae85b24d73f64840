//go:build !linux

package pgtest

import (
	"errors"
	"io"
	"syscall"
)

// supported is false: Versions finds nothing, so none of the below is ever called.
const supported = false

var errUnsupported = errors.New("pgtest starts servers on Linux only")

type owner struct{}

func serverOwner() (*owner, error)                 { return nil, errUnsupported }
func (o *owner) chown(string) error                { return errUnsupported }
func (o *owner) String() string                    { return "" }
func (o *owner) sysProcAttr() *syscall.SysProcAttr { return nil }
func detached() *syscall.SysProcAttr               { return nil }
func checkOwn(string) error                        { return errUnsupported }
func lockFile(string, bool) (io.Closer, error)     { return nil, errUnsupported }
func bootID() string                               { return "" }
func killTree(int) error                           { return errUnsupported }
func removeSharedMemory(string) error              { return errUnsupported }
