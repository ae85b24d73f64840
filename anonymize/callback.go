package anonymize

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/oubli/oubli/internal/panics"
	"github.com/oubli/oubli/keystore"
)

// CallbackError is what the application's own code failed with: a receiver, a source,
// a row's Anonymize, Tables. Its text holds that code's error, which may name personal values;
// in logs it shows only types.
type CallbackError struct {
	Op  string // what was called, as "receiver" or "SaveFields"
	On  string // on which receiver or table
	Err error
}

func (e *CallbackError) Error() string { return fmt.Sprintf("%s of %s: %v", e.Op, e.On, e.Err) }

func (e *CallbackError) Unwrap() error { return e.Err }

// logged renders an error for a log: its text, unless it is the application's.
func logged(err error) slog.Value {
	var c *CallbackError
	if !errors.As(err, &c) {
		return slog.StringValue(err.Error())
	}
	return slog.StringValue(c.Public())
}

// Public is the error for those who may not see personal values, and for logs: what
// failed on what, and where or with which type.
func (e *CallbackError) Public() string {
	switch cause := e.Err.(type) {
	case *CallbackError:
		return fmt.Sprintf("%s of %s: %s", e.Op, e.On, cause.Public())
	case *panicked, *keystore.Error:
		return e.Error()
	default:
		return fmt.Sprintf("%s of %s failed with a %T", e.Op, e.On, cause)
	}
}

// panicked stands for a recovered panic. It leaves the panic's value out, which may
// hold personal data: what type it had, and where it was.
type panicked struct {
	kind  string
	where string
}

func (p *panicked) Error() string { return fmt.Sprintf("panic with a %s at %s", p.kind, p.where) }

// callback runs application code and names it in whatever it failed with.
func callback(op, on string, f func() error) error {
	var failure error
	if err := guard(op, on, func() error { failure = f(); return nil }); err != nil {
		return err
	}
	if failure != nil {
		return &CallbackError{Op: op, On: on, Err: failure}
	}
	return nil
}

// guard runs code that calls the application and turns a panic into an error, so that
// one subject's trouble stops nobody else.
func guard(op, on string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &CallbackError{Op: op, On: on, Err: &panicked{kind: fmt.Sprintf("%T", v), where: panics.Origin()}}
		}
	}()
	return f()
}
