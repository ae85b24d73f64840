package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/oubli/oubli/keystore"
)

func (a *app) subject(text string) (keystore.Subject, error) {
	var opts []keystore.SubjectOption
	if a.allowAt {
		opts = append(opts, keystore.AllowAt())
	}
	return keystore.ParseSubject(text, opts...)
}

// subjects reads the subjects that arguments name, all mistakes together.
func (a *app) subjects(args []string) ([]keystore.Subject, error) {
	var list []keystore.Subject
	var wrong []error
	for i, arg := range args {
		s, err := a.subject(arg)
		if err != nil {
			wrong = append(wrong, usageError{fmt.Errorf("argument %d: %w", i+1, err)})
			continue
		}
		list = append(list, s)
	}
	return list, errors.Join(wrong...)
}

func (a *app) oneSubject(args []string) (keystore.Subject, error) {
	list, err := a.subjects(args[:1])
	if err != nil {
		return keystore.Subject{}, err
	}
	return list[0], nil
}

// subjectsIn reads a file with one subject a line, all mistakes together. Blank lines
// are skipped. - is standard input.
func (a *app) subjectsIn(ctx context.Context, file string) ([]keystore.Subject, error) {
	name, in := file, io.Reader(a.in)
	if file == "-" {
		name = "stdin"
	} else {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	var list []keystore.Subject
	var wrong []error
	lines := bufio.NewScanner(interruptible{ctx, in})
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if text == "" {
			continue
		}
		s, err := a.subject(text)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s:%d: %w", name, n, err))
			continue
		}
		list = append(list, s)
	}
	if err := lines.Err(); err != nil {
		wrong = append(wrong, fmt.Errorf("read %s: %w", name, err))
	}
	return list, errors.Join(wrong...)
}

// unique drops repetitions: twice is the same as once.
func unique(list []keystore.Subject) []keystore.Subject {
	seen := make(map[keystore.Subject]bool, len(list))
	out := list[:0:0]
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}
