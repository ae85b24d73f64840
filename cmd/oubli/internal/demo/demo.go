// Package demo tells the whole story of oubli on real data, in a temporary folder, and
// checks every claim as it makes it. Nothing is staged: rows are written to files
// through wrapped repositories, backups are copied files, and each sentence that begins
// with "ok" was found to be true just then.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// The two customers whom it anonymizes.
const (
	gone = 37 // Frankfurt: everything goes
	kept = 2  // Stuttgart: what the tax office wants stays
)

// hooks let a test spoil the story.
type hooks struct {
	before func(*world) error // before anonymizing
	after  func(*world) error // after it
	skip   bool               // do not anonymize
}

// story is one run of the demo.
type story struct {
	*world
	plain
	out     io.Writer
	h       *hooks
	reached []string // what the receiver saw
	broken  int
	chapter int
	written error
}

// Run tells the story on out. Its error says how many claims do not hold, or what kept
// it from being told to the end.
func Run(ctx context.Context, out io.Writer) error { return run(ctx, out, &hooks{}) }

func run(ctx context.Context, out io.Writer, h *hooks) (err error) {
	dir, err := os.MkdirTemp("", "oubli-demo-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &story{world: &world{dir: dir}, out: out, h: h}
	if s.plain, err = readPlain(); err != nil {
		return err
	}
	defer func() {
		if s.keys != nil {
			err = errors.Join(err, s.keys.Close())
		}
	}()
	for _, part := range []func(context.Context) error{
		s.opening, s.copying, s.reading, s.anonymizing, s.erasedEverywhere, s.oldKeys, s.everyoneElse, s.forTax, s.statistics,
	} {
		if err := part(ctx); err != nil {
			return fmt.Errorf("the demo came to a stop: %w", err)
		}
		if s.written != nil {
			return s.written
		}
	}
	if s.broken > 0 {
		return fmt.Errorf("%d claims of the demo do not hold", s.broken)
	}
	s.say("\nAll of it holds. The folder is removed again.")
	return s.written
}

func (s *story) say(format string, args ...any) {
	if s.written == nil {
		_, s.written = fmt.Fprintf(s.out, format+"\n", args...)
	}
}

func (s *story) head(title string) {
	s.chapter++
	s.say("\n%d. %s", s.chapter, title)
}

// claim says a sentence, and whether it was found to be true. why says what was found
// instead; it holds no personal value.
func (s *story) claim(why error, format string, args ...any) {
	if why == nil {
		s.say("   ok      "+format, args...)
		return
	}
	s.broken++
	s.say("   BROKEN  "+format, args...)
	s.say("           %v", why)
}

// unless is an error with this text, or nil if holds.
func unless(holds bool, format string, args ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, args...)
}
