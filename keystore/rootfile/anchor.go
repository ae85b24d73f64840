package rootfile

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/oubli/oubli/keystore"
)

// compactAbove is the size in bytes from which a log is written anew when less than
// half of it still counts.
const compactAbove = 64 << 10

// Raise appends one record to every mirror's anchor and syncs it. Tombstones that
// another mirror holds are added too. It needs every mirror; what it wrote on others
// when one fails does no harm.
func (s *Store) Raise(ctx context.Context, a keystore.Anchor, ts []keystore.Tombstone) error {
	if err := checkTombstones(ts); err != nil {
		return err
	}
	if _, ok := decodeAnchorSection(anchorSection(a).data); !ok {
		return fmt.Errorf("raise the anchor: %w: %d counters are too many", keystore.ErrInvalid, len(a.Counters))
	}
	return s.change(ctx, func(v view) error {
		all := v.log()
		all.anchor = all.anchor.Higher(a)
		all.tombstones = missing(nil, append(all.tombstones, ts...))
		return s.onAnchors(v, "raise the anchor", func(m mirror) ([]section, *anchorLog) {
			if m.anchor == nil {
				return nil, all
			}
			next := *m.anchor
			next.anchor = all.anchor
			add := missing(m.anchor.tombstones, all.tombstones)
			next.tombstones = append(slices.Clone(m.anchor.tombstones), add...)
			return append([]section{anchorSection(all.anchor)}, tombstoneSections(add)...), &next
		}, true)
	})
}

// Trim notes in each anchor which tombstones are dropped. It does not sync: if a crash
// loses the note, the tombstones are back until the next Trim, which is harmless. Their
// bytes go when the log is written anew.
func (s *Store) Trim(ctx context.Context, final func(keystore.Tombstone) bool) error {
	return s.change(ctx, func(v view) error {
		all := v.log()
		all.tombstones = slices.DeleteFunc(all.tombstones, final)
		return s.onAnchors(v, "trim the tombstones", func(m mirror) ([]section, *anchorLog) {
			if m.anchor == nil {
				return nil, all
			}
			next := *m.anchor
			next.tombstones = nil
			var drop []keystore.Tombstone
			for _, t := range m.anchor.tombstones {
				if final(t) {
					drop = append(drop, t)
				} else {
					next.tombstones = append(next.tombstones, t)
				}
			}
			if len(drop) == 0 {
				return nil, nil
			}
			return []section{droppedSection(drop)}, &next
		}, false)
	})
}

// onAnchors brings each mirror's log to what next says, which returns the sections to
// append and the log as it then stands; no log means nothing to do. It goes on after a
// mirror that fails.
func (s *Store) onAnchors(v view, what string, next func(mirror) ([]section, *anchorLog), durable bool) error {
	var failed []error
	for _, m := range v {
		if m.root == nil {
			failed = append(failed, m.rootErr)
			continue
		}
		if m.anchor == nil && !errors.Is(m.anchorErr, keystore.ErrNotFound) {
			failed = append(failed, fmt.Errorf("%w; unlink it to have it made again from another mirror's", m.anchorErr))
			continue
		}
		sections, l := next(m)
		if l == nil {
			continue
		}
		var err error
		if m.anchor == nil || s.isSuspect(m.path) || wasteful(m.anchor, l) {
			err = s.replaceAnchor(m.path, l)
		} else {
			err = s.appendAnchor(m.path, m.anchor, sections, durable)
		}
		s.setSuspect(m.path, err != nil)
		if err != nil {
			failed = append(failed, unavailable(m.path, err))
		}
	}
	return notOn(what, failed)
}

// wasteful tells whether more than half of a large log is superseded.
func wasteful(is, next *anchorLog) bool {
	return is.size > compactAbove && next.needs() < is.size/2
}

// After a failed sync the kernel may hold the record for written although the disk
// does not: the next write makes the file anew.
func (s *Store) isSuspect(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.suspect[path]
}

func (s *Store) setSuspect(path string, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspect[path] = is
}

// missing returns those of ts whose event is not in have, each once.
func missing(have, ts []keystore.Tombstone) []keystore.Tombstone {
	seen := make(map[keystore.EventID]bool, len(have))
	for _, t := range have {
		seen[t.Event] = true
	}
	var out []keystore.Tombstone
	for _, t := range ts {
		if !seen[t.Event] {
			seen[t.Event] = true
			out = append(out, t)
		}
	}
	return out
}

// checkTombstones refuses what could be written but not read again.
func checkTombstones(ts []keystore.Tombstone) error {
	for _, section := range tombstoneSections(ts) {
		if t, ok := decodeTombstone(section.data); !ok {
			return fmt.Errorf("tombstone of %q, event %s: %w: it has no event, no subject or too long a list", t.Subject, t.Event, keystore.ErrInvalid)
		}
	}
	return nil
}
