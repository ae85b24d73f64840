package keystore

import (
	"context"
	"encoding/binary"
	"fmt"
)

// A page's change counter is raised by every transaction that changes a subject's
// state, which also puts an entry under the new number on the page's worklist. The
// worklist is what resuming, status and the advance drain.

const workVersion = 1

type workKind uint8

const (
	workPending    workKind = 1 // the subject is erasing
	workRestricted workKind = 2 // the subject is restricted
	workDestroyed  workKind = 3 // keys were destroyed; waits for an advance
	workNote       workKind = 4 // another change of state: raises the counter, leaves no entry
)

// work is an entry of a worklist.
type work struct {
	kind  workKind
	rev   Rev
	tomb  Tombstone // all of it for workDestroyed; else Event, Subject, Page, Counter, At
	shard uint16
}

func (w *work) encode() []byte {
	t := &w.tomb
	b := append([]byte{workVersion, byte(w.kind)}, t.Event[:]...)
	b = binary.BigEndian.AppendUint16(b, w.shard)
	b = appendTime(appendString(b, t.Subject.text), t.At)
	if w.kind != workDestroyed {
		return b
	}
	b = append(b, boolByte(t.Erased))
	b = binary.AppendUvarint(b, uint64(len(t.Keys)))
	for _, id := range t.Keys {
		b = binary.BigEndian.AppendUint32(b, id)
	}
	return appendStrings(appendStrings(b, t.Keep), t.Gone)
}

func parseWork(rec Record) (w work, err error) {
	bad := fmt.Errorf("%w: an entry of a worklist does not parse", ErrTampered)
	if len(rec.Key) != 10 {
		return w, bad
	}
	r := reader{b: rec.Value}
	if v := r.byte(); v != workVersion && !r.bad {
		return w, fmt.Errorf("%w: worklist entry of version %d; a newer oubli may read it", ErrTampered, v)
	}
	w.kind, w.rev = workKind(r.byte()), rec.Rev
	t := &w.tomb
	t.Page, t.Counter = rec.Key[0], binary.BigEndian.Uint64(rec.Key[2:])
	t.Event = EventID(r.fixed(16))
	w.shard = binary.BigEndian.Uint16(r.fixed(2))
	subject := r.string()
	t.At = r.time()
	if w.kind == workDestroyed {
		t.Erased = r.byte() == 1
		t.Keys = make([]uint32, r.count(4))
		for i := range t.Keys {
			t.Keys[i] = binary.BigEndian.Uint32(r.fixed(4))
		}
		t.Keep, t.Gone = r.strings(), r.strings()
	}
	if err := r.end("an entry of a worklist"); err != nil {
		return w, err
	}
	if t.Subject, err = ParseSubject(subject, AllowAt()); err != nil {
		return w, bad
	}
	return w, nil
}

// worklist reads the entries of a page with a counter above after, oldest first.
func (s *Store) worklist(ctx context.Context, page uint8, after uint64) (list []work, err error) {
	from, to := workKey(page, after+1), []byte{page, kindWork + 1}
	err = scanAll(ctx, s.backend, from, to, func(rec Record) error {
		w, err := parseWork(rec)
		if err == nil {
			list = append(list, w)
		}
		return err
	})
	return list, err
}

const scanBatch = 1000

// scanAll calls f for every record in a range, with flat memory.
func scanAll(ctx context.Context, b Backend, from, to []byte, f func(Record) error) error {
	for {
		recs, err := b.Scan(ctx, from, to, scanBatch)
		if err != nil {
			return err
		}
		for _, rec := range recs {
			if err := f(rec); err != nil {
				return err
			}
		}
		if len(recs) < scanBatch {
			return nil
		}
		from = append(append([]byte(nil), recs[len(recs)-1].Key...), 0)
	}
}

func encodeCounter(c uint64) []byte { return binary.AppendUvarint([]byte{1}, c) }

func parseCounter(rec Record) (uint64, error) {
	if rec.Rev == 0 {
		return 0, nil
	}
	r := reader{b: rec.Value}
	if r.byte() != 1 {
		r.bad = true
	}
	c := r.uvarint()
	return c, r.end("a change counter")
}

// counters reads the change counters of all pages.
func (s *Store) counters(ctx context.Context) ([]uint64, error) {
	keys := make([][]byte, s.layout.pages)
	for p := range keys {
		keys[p] = counterKey(uint8(p))
	}
	recs, err := s.backend.Get(ctx, keys)
	if err != nil {
		return nil, err
	}
	list := make([]uint64, len(recs))
	for p, rec := range recs {
		if list[p], err = parseCounter(rec); err != nil {
			return nil, err
		}
	}
	return list, nil
}
