package main

import (
	"errors"
	"io"
)

// closers closes all of them.
type closers []io.Closer

func (cs closers) Close() error {
	var errs []error
	for _, c := range cs {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

type closeFunc func()

func (f closeFunc) Close() error { f(); return nil }
