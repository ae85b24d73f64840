package main

// The rules of this user interface:
//
//   - Data goes to standard output, words go to standard error. Whatever reads our
//     output never meets a sentence.
//   - A failure is "oubli: error: what failed, on what, why"; what to do next follows as
//     "oubli: hint: …". Many mistakes of one input are named together, one a line.
//   - No key and no personal value is ever printed but as the data that was asked for.
//     Subjects are named: they are not secret.
//   - Questions are asked only where standard input is a terminal, on that terminal even
//     if the output goes elsewhere, and the answer is typed in full. Else we refuse and
//     name the flag that answers.
//   - No password is printed: a URL that may hold one is not repeated, and what looks like
//     one in a message is masked.
//   - A progress bar is shown on a terminal only, and leaves nothing behind.
//   - Success is quiet, but for what cannot be seen otherwise and what cannot be undone.
//   - Exit 0: done. 1: failed. 2: wrong usage, nothing was tried.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

type ui struct {
	in       *os.File
	out, err io.Writer
	asks     bool // questions can be asked
	shows    bool // a progress bar can be shown
	onScreen bool // standard output is a terminal, too

	mu    sync.Mutex // a keystore's background has words, too
	shown bool       // a progress bar is
}

func newUI(in, out, err *os.File) *ui {
	return &ui{in: in, out: out, err: err,
		asks:  term.IsTerminal(int(in.Fd())),
		shows: term.IsTerminal(int(err.Fd())), onScreen: term.IsTerminal(int(out.Fd()))}
}

// say writes words.
func (u *ui) say(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.shown {
		io.WriteString(u.err, "\r\x1b[K") // clears the line
	}
	for line := range strings.SplitSeq(strings.TrimRight(fmt.Sprintf(format, args...), "\n"), "\n") {
		fmt.Fprintf(u.err, "oubli: %s\n", masked(line))
	}
}

// masked hides what stands where a URL or a DSN has its password, but for the words
// with which errors explain how to write it.
func masked(text string) string {
	text = urlPassword.ReplaceAllStringFunc(text, func(found string) string {
		if found == "://user:password@" {
			return found
		}
		return "://***@"
	})
	return dsnPassword.ReplaceAllString(text, "${1}***")
}

var (
	urlPassword = regexp.MustCompile(`://[^\s@/]*:[^\s]*@`)
	dsnPassword = regexp.MustCompile(`\b((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'?|[^\s&"]+)`)
)

// linesOf splits a message into lines, as joined errors have them. An indented line goes
// on with the one before, as where a driver names every address that it tried; what stands
// there already is left out.
func linesOf(text string) []string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case lines == nil || !strings.HasPrefix(line, "\t"):
			lines = append(lines, line)
		case !strings.Contains(lines[len(lines)-1], strings.TrimSpace(line)):
			lines[len(lines)-1] += " " + strings.TrimSpace(line)
		}
	}
	return lines
}

func oneLine(text string) string { return strings.Join(linesOf(text), "; ") }

func (u *ui) warn(format string, args ...any) { u.say("warning: "+format, args...) }

// usageError is wrong usage: exit 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// hintedError says what to do next.
type hintedError struct {
	error
	hint string
}

func (e hintedError) Unwrap() error { return e.error }

func withHint(err error, format string, args ...any) error {
	return hintedError{err, fmt.Sprintf(format, args...)}
}

// exit reports err, if there is one, and returns the exit code.
func (u *ui) exit(ctx context.Context, err error) int {
	if err == nil {
		return exitDone
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		u.say("error: interrupted")
	} else {
		for _, line := range linesOf(err.Error()) {
			u.say("error: %s", line)
		}
	}
	var h hintedError
	if errors.As(err, &h) {
		u.say("hint: %s", h.hint)
	}
	if errors.As(err, new(usageError)) {
		return exitUsage
	}
	return exitFailed
}

// ask asks for a text to be typed, and tells whether it was.
func (u *ui) ask(ctx context.Context, question, answer string) (bool, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("ask on the terminal: %w", err)
	}
	defer tty.Close()
	fmt.Fprintf(tty, "%s\nType %s to go on: ", question, answer)
	line, err := bufio.NewReader(interruptible{ctx, tty}).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return strings.TrimSpace(line) == answer, nil
}

// progress returns a reader that shows how much of size bytes was read from r, and
// what ends the show. size is negative where it is not known. toFile says that the
// data does not go to standard output, where it would run into the bar.
func (u *ui) progress(r io.Reader, size int64, what string, toFile bool) (io.Reader, func()) {
	if !u.shows || u.onScreen && !toFile {
		return r, func() {}
	}
	bar := progressbar.NewOptions64(size, progressbar.OptionSetWriter(u.err), progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetElapsedTime(true))
	pr := progressbar.NewReader(r, bar)
	return &pr, u.show(bar)
}

// wait shows that something takes its time, until what it returns is called.
func (u *ui) wait(what string) func() {
	if !u.shows {
		return func() {}
	}
	return u.show(progressbar.NewOptions(-1, progressbar.OptionSetWriter(u.err), progressbar.OptionSetDescription(what),
		progressbar.OptionSpinnerType(14), progressbar.OptionSetRenderBlankState(true), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetElapsedTime(true)))
}

// show keeps words out of the way of a bar, until what it returns is called.
func (u *ui) show(bar *progressbar.ProgressBar) (end func()) {
	set := func(shown bool) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.shown = shown
	}
	set(true)
	return func() { bar.Finish(); set(false) }
}

// interruptible is a reader whose Read returns when ctx ends, even if r's does not: a
// read from a terminal or a pipe would keep us from cleaning up.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i interruptible) Read(p []byte) (int, error) {
	type result struct {
		b   []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		b := make([]byte, len(p))
		n, err := i.r.Read(b)
		done <- result{b[:n], err}
	}()
	select {
	case r := <-done:
		return copy(p, r.b), r.err
	case <-i.ctx.Done():
		return 0, i.ctx.Err()
	}
}
