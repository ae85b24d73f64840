//go:build linux

package crew

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// obey runs commands, one a line after a number, and answers each with a line after the
// same number, until quit:
//
//	write ID     write a row for a subject
//	open ID...   open all rows of subjects; "plain" or why not
//	hold ID      write a row for a subject and open it, but for the final check
//	check        make the final check of what is held; "fresh" or "stale"
//	erase ID     "erased", or "failed"
//	sweep ID...  ask for keys to write for subjects; "refused" if no one got any
//	gate STEP    hold the next who comes to a step; "there" when somebody waits, or "nobody"
//	go           let whoever waits at the gate go on
//	end          end the loops
func (w *worker) obey(ctx context.Context, in io.Reader, out io.Writer) error {
	var h *held
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		number, command, _ := strings.Cut(lines.Text(), " ")
		command, rest, _ := strings.Cut(command, " ")
		answer := "failed"
		if command == "gate" {
			if answer = "nobody"; w.gate.hold(strings.TrimSpace(rest), gateTime) {
				answer = "there"
			}
			rest = ""
		}
		var ids []int64
		for f := range strings.FieldsSeq(rest) {
			id, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		switch command {
		case "go":
			w.gate.letGo()
			answer = "gone"
		case "write":
			answer = string(w.put(ctx, w.newRow(ids[0])))
		case "open":
			answer = w.openAll(ctx, ids)
		case "hold":
			if h = w.hold(ctx, ids[0]); h != nil {
				answer = "held"
			}
		case "check":
			if answer = "stale"; w.check(h) {
				answer = "fresh"
			}
		case "erase":
			if w.erase(ctx, ids...) == len(ids) {
				answer = "erased"
			}
		case "sweep":
			answer = w.sweep(ctx, ids)
		case "end":
			w.gate.letGo()
			w.stopping.Store(true)
			w.loops.Wait()
			answer = "ended"
		case "quit":
			return nil
		}
		if _, err := fmt.Fprintln(out, number, answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (w *worker) newRow(id int64) note {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lastRow++
	return note{Row: w.lastRow, Subject: id, Version: 1}
}

// hold is nil if the database is away.
func (w *worker) hold(ctx context.Context, id int64) *held {
	if w.put(ctx, w.newRow(id)) != wrote {
		return nil
	}
	list, err := w.table.of(ctx, id)
	if err != nil || len(list) == 0 || !w.open(ctx, list) {
		return nil
	}
	return w.lookUp(ctx, list)
}

func (w *worker) openAll(ctx context.Context, ids []int64) string {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	list, err := w.table.of(ctx, ids...)
	for err != nil { // the pool has connections to a server that is gone
		if ctx.Err() != nil {
			return "table: " + err.Error()
		}
		list, err = w.table.of(ctx, ids...)
	}
	rows := make([]*note, len(list))
	for i := range list {
		rows[i] = &list[i]
	}
	if err := w.codec.Open(ctx, rows...); err != nil {
		return err.Error()
	}
	for _, n := range rows {
		if text, _ := wants(n.Row, n.Version); n.Text != text {
			return fmt.Sprintf("%s of subject %d", n.Privacy, n.Subject)
		}
	}
	return fmt.Sprintf("plain %d", len(rows))
}

// sweep asks for a key to write for each subject. All of them were erased.
func (w *worker) sweep(ctx context.Context, ids []int64) string {
	for _, id := range ids {
		e := entry{began: Now(), subject: id}
		keys, err := w.keys.Ensure(ctx, nil, []string{""}, Subject(id))
		if err == nil {
			err = keys[0].WriteErr()
		}
		if !w.refused(e, err) || kindOf(err) != dark {
			return fmt.Sprintf("subject %d: %v", id, err)
		}
		e.began = Now()
		if errs, err := w.keys.Restrict(ctx, nil, Subject(id)); errors.Join(append(errs, err)...) == nil {
			w.journal.write(entry{what: wrong, began: e.began, subject: id, note: "an erased subject can be restricted"})
		}
		if _, err := w.keys.Lookup(ctx, nil, Subject(id)); err != nil {
			return err.Error()
		}
	}
	return "refused"
}
