//go:build linux

package crew

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/oubli/oubli/fieldcrypt"
	"github.com/oubli/oubli/keystore"
)

const (
	gateTime  = 10 * time.Second // that somebody may take to come to a gate
	callTime  = 5 * time.Second
	eraseTime = 20 * time.Second
	maxSample = 400
)

// fetch reads rows from the database, or takes some that were read before.
func (w *worker) fetch(ctx context.Context) []note {
	w.mu.Lock()
	n := len(w.samples)
	w.mu.Unlock()
	if n < 20 || rand.IntN(8) == 0 {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		list, err := w.table.of(ctx, w.some(8)...)
		if err != nil || len(list) == 0 {
			time.Sleep(5 * time.Millisecond) // the table is away: no concern of the keystore
			return nil
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.samples = append(w.samples, list...)
		if over := len(w.samples) - maxSample; over > 0 {
			w.samples = slices.Delete(w.samples, 0, over)
		}
		return list
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]note, 1+rand.IntN(4))
	for i := range list {
		list[i] = w.samples[rand.IntN(len(w.samples))]
	}
	return list
}

// read opens rows with the codec.
func (w *worker) read(ctx context.Context) {
	if list := w.fetch(ctx); len(list) > 0 {
		w.open(ctx, list)
	}
	time.Sleep(rand.N(2 * time.Millisecond))
}

// open opens rows with the codec and tells whether all of them were plaintext.
func (w *worker) open(ctx context.Context, list []note) bool {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	rows := make([]*note, len(list))
	for i := range list {
		rows[i] = new(list[i])
	}
	began := Now()
	err := w.codec.Open(ctx, rows...)
	at := Now()
	var bad *fieldcrypt.BatchError
	if err != nil && !errors.As(err, &bad) {
		w.failed("open rows", began, err)
		return false
	}
	all := true
	for i, n := range rows {
		e := entry{began: began, at: at, subject: n.Subject, row: n.Row, version: n.Version}
		var rowErr error
		if bad != nil {
			for _, r := range bad.Rows {
				if r.Row == i {
					rowErr = r
				}
			}
		}
		text, tax := wants(n.Row, n.Version)
		switch {
		case rowErr != nil:
			e.what, e.note = wrong, fmt.Sprintf("open a row: %v", rowErr)
		case n.Privacy == fieldcrypt.StatusErased:
			e.what = dark
		case n.Privacy == fieldcrypt.StatusWithheld:
			e.what = withheld
		case n.Privacy == fieldcrypt.StatusOpen && n.Text == text && n.Tax == tax:
			e.what = opened
		default:
			e.what, e.note = wrong, fmt.Sprintf("a row reads %q with another content than was written", n.Privacy)
		}
		all = all && e.what == opened
		w.journal.write(e)
	}
	return all
}

// look looks keys up, opens with them, and makes the final check itself, some time later.
func (w *worker) look(ctx context.Context) {
	list := w.fetch(ctx)
	if len(list) == 0 {
		return
	}
	if h := w.lookUp(ctx, list); h != nil {
		time.Sleep(rand.N(4 * time.Millisecond))
		w.check(h)
	}
}

// held is plaintext before the final check.
type held struct {
	keys  []keystore.Keys
	found []entry
}

func (w *worker) lookUp(ctx context.Context, list []note) *held {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	subjects := make([]keystore.Subject, len(list))
	for i := range list {
		subjects[i] = Subject(list[i].Subject)
	}
	began := Now()
	keys, err := w.keys.Lookup(ctx, nil, subjects...)
	if err != nil {
		w.failed("look keys up", began, err)
		return nil
	}
	h := &held{keys: keys}
	for i, n := range list {
		text, _ := wants(n.Row, n.Version)
		e := entry{what: opened, began: began, subject: n.Subject, row: n.Row, version: n.Version}
		plain, err := openRaw(keys[i], n.Row, n.Raw)
		switch {
		case errors.Is(err, keystore.ErrUnknownKey):
			e.what = stale // another process may have made it since this one read the ring: see again
		case err != nil:
			if e.what = kindOf(err); e.what == wrong {
				e.note = fmt.Sprintf("use a key: %v", err)
			}
		case plain != text:
			e.what, e.note = wrong, "a key opens another content than was written"
		}
		e.at = Now()
		h.found = append(h.found, e)
	}
	return h
}

// check makes the final check: opened is what it finds fresh, and counts from just before.
func (w *worker) check(h *held) (fresh bool) {
	began := Now()
	fresh = keystore.Fresh(h.keys...)
	for i, e := range h.found {
		e.at = Now()
		switch {
		case e.what == stale && fresh:
			// It passed for fresh that the subject does not have the key.
			e.what, e.note = wrong, "use a key: unknown, and that is fresh"
		case e.what == opened && fresh:
			e.began = began
		case e.what == opened:
			e.what = stale
		}
		h.found[i] = e
		w.journal.write(e)
	}
	return fresh
}

// write writes a row for a subject, or another version of one of its own rows.
func (w *worker) write(ctx context.Context) {
	id := w.some(1)[0]
	if rand.IntN(8) == 0 {
		w.rotate(ctx, id)
	}
	var n note
	w.mu.Lock()
	if rand.IntN(3) == 0 {
		for _, n = range w.mine { // any
			break
		}
	}
	if n.Row == 0 {
		w.lastRow++
		n = note{Row: w.lastRow, Subject: id}
	}
	w.mu.Unlock()
	n.Version++
	w.put(ctx, n)
}

// put seals a row and writes it. It tells what came of the sealing, wrote if all went well.
func (w *worker) put(ctx context.Context, n note) what {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	n.Text, n.Tax = wants(n.Row, n.Version)
	plain := n.Text
	e := entry{began: Now(), subject: n.Subject, row: n.Row, version: n.Version}
	n, err := w.codec.Seal(ctx, n)
	if w.refused(e, err) {
		return refused
	}
	e.began = Now()
	keys, err := w.keys.Ensure(ctx, nil, []string{""}, Subject(n.Subject))
	if err == nil {
		n.Raw, err = sealRaw(keys[0], n.Row, plain)
	}
	if w.refused(e, err) {
		return refused
	}
	w.mu.Lock()
	w.mine[n.Row] = note{Row: n.Row, Subject: n.Subject, Version: n.Version}
	w.mu.Unlock()
	w.journal.write(entry{what: writing, subject: n.Subject, row: n.Row, version: n.Version})
	if w.table.put(ctx, n) != nil {
		time.Sleep(5 * time.Millisecond)
		return away // it may be there or not
	}
	w.journal.write(entry{what: wrote, subject: n.Subject, row: n.Row, version: n.Version})
	return wrote
}

// refused notes what came of asking for a key to write with, and tells whether none came.
func (w *worker) refused(e entry, err error) bool {
	e.at = Now()
	switch kind := kindOf(err); {
	case err == nil:
		e.what = sealed
	case kind == away:
		w.failed("seal", e.began, err)
		return true
	default:
		e.what, e.note = refused, string(kind)
		if kind == wrong {
			e.what, e.note = wrong, fmt.Sprintf("seal: %v", err)
		}
	}
	w.journal.write(e)
	return err != nil
}

func (w *worker) rotate(ctx context.Context, id int64) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	e := entry{what: rotated, began: Now(), subject: id}
	errs, err := w.keys.Rotate(ctx, Subject(id))
	if err != nil {
		w.failed("rotate keys", e.began, err)
		return
	}
	if errs[0] == nil {
		w.journal.write(e)
	} else if !errors.Is(errs[0], keystore.ErrUnknownSubject) { // nobody wrote for it yet
		w.refused(e, errs[0])
	}
}

// erase erases subjects and tells how many of them it saw erased.
func (w *worker) erase(ctx context.Context, ids ...int64) (n int) {
	ctx, cancel := context.WithTimeout(ctx, eraseTime)
	defer cancel()
	began := Now()
	var rs []keystore.Request
	for _, id := range ids {
		w.journal.write(entry{what: asked, subject: id})
		rs = append(rs, keystore.Request{Subject: Subject(id)})
	}
	es, err := w.keys.Erase(ctx, rs...)
	if err != nil {
		w.failed("erase", began, err)
	}
	w.journal.write(entry{what: advanced, began: began})
	for i, e := range es {
		switch {
		case e.Err == nil && e.State == keystore.StateErased && err == nil:
			w.journal.write(entry{what: gone, began: began, subject: ids[i]})
			n++
		case errors.Is(e.Err, keystore.ErrUnknownSubject): // nobody wrote for it yet
			w.journal.write(entry{what: spared, began: began, subject: ids[i]})
		case e.Err != nil && kindOf(e.Err) != away:
			w.journal.write(entry{what: wrong, began: began, subject: ids[i], note: fmt.Sprintf("erase: %v", e.Err)})
		}
	}
	return n
}

func (w *worker) advance(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, eraseTime)
	defer cancel()
	began := Now()
	if err := w.keys.Advance(ctx); err != nil {
		w.failed("advance", began, err)
	}
	w.journal.write(entry{what: advanced, began: began})
}
