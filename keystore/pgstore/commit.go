package pgstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oubli/oubli/keystore"
)

// maxKey is what surely fits into an entry of the primary key's index.
const maxKey = 2000

// maxJoined bounds the writes of a transaction into which groups are joined.
const maxJoined = 1 << 15

// Commit implements [keystore.Backend]. Groups are joined into one transaction, for one
// wait for the disk; when that meets a conflict, each half of them is tried by itself, so
// that the groups before the one that conflicts are committed.
func (s *Store) Commit(ctx context.Context, groups []keystore.Group) (done int, err error) {
	if err := s.usable(ctx); err != nil {
		return 0, s.explain("commit", err)
	}
	if s.readOnly {
		return 0, s.explain("commit", keystore.ErrReadOnly)
	}
	if err := validate(groups); err != nil {
		return 0, s.explain("commit", err)
	}
	for len(groups) > 0 {
		n, size := 0, 0
		for n < len(groups) && (n == 0 || size+len(groups[n]) <= maxJoined) {
			size += len(groups[n])
			n++
		}
		d, err := s.commitJoined(ctx, groups[:n])
		if done += d; err != nil {
			return done, s.explain("commit", err)
		}
		groups = groups[n:]
	}
	return done, nil
}

func validate(groups []keystore.Group) error {
	for _, g := range groups {
		for i := range g {
			w := &g[i]
			if len(w.Key) == 0 || len(w.Key) > maxKey {
				return fmt.Errorf("%w: a key has %d bytes, 1 to %d are allowed", keystore.ErrInvalid, len(w.Key), maxKey)
			}
			if w.Op == keystore.Put && w.Rev == 0 {
				return fmt.Errorf("%w: record %x is written with revision 0", keystore.ErrInvalid, w.Key)
			}
		}
	}
	return nil
}

func (s *Store) commitJoined(ctx context.Context, groups []keystore.Group) (done int, err error) {
	if len(groups) == 0 {
		return 0, nil
	}
	t, possible := join(groups)
	if possible < len(groups) {
		// The next group contradicts those before it.
		done, err = s.commitJoined(ctx, groups[:possible])
		if err == nil {
			err = fmt.Errorf("group %d: %w", possible, keystore.ErrConflict)
		}
		return done, err
	}
	err = s.try(ctx, func(ctx context.Context, c *pgconn.PgConn) (bool, error) { return s.transact(ctx, c, t) })
	switch {
	case err == nil:
		return len(groups), nil
	case !errors.Is(err, keystore.ErrConflict) || len(groups) == 1:
		return 0, err
	}
	half := len(groups) / 2
	done, err = s.commitJoined(ctx, groups[:half])
	if err != nil {
		return done, err
	}
	rest, err := s.commitJoined(ctx, groups[half:])
	return done + rest, err
}

// transact runs a transaction. again is true where nothing was applied.
func (s *Store) transact(ctx context.Context, c *pgconn.PgConn, t []step) (again bool, err error) {
	complete, err := s.run(ctx, c, t, nil)
	if err == nil || errors.Is(err, keystore.ErrConflict) {
		if w := sessionOf(c).warning; w != "" {
			// As when the wait for a synchronous standby was canceled.
			return false, fmt.Errorf("%w: the server commits with a warning: %s", keystore.ErrUnavailable, w)
		}
		return false, err
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch {
		case strings.Contains(pg.Message, reasonConflict), pg.Code == "23505": // inserted meanwhile
			return false, fmt.Errorf("a record has changed: %w", keystore.ErrConflict)
		case strings.Contains(pg.Message, reasonFsync):
			return false, errFsync
		}
	}
	if undone(c, len(t), complete, err) {
		return true, err
	}
	return false, fmt.Errorf("%w; whether it was applied is not known, a read will tell", s.cause(err))
}

// change is what a joined list of groups does to a record.
type change struct {
	key   []byte
	first keystore.Rev // what it must be before
	now   keystore.Rev // what it is after
	value []byte
	wrote bool
}

// join makes one transaction of the first groups of a list, as many as can succeed
// together; possible is their number. What later groups name of earlier ones is checked
// here, so that the database checks each record once.
func join(groups []keystore.Group) (t []step, possible int) {
	var list []change
	if len(groups) == 1 {
		list = make([]change, 0, len(groups[0]))
		for i := range groups[0] {
			n := change{key: groups[0][i].Key, first: groups[0][i].If}
			n.apply(&groups[0][i])
			list = append(list, n)
		}
		possible = 1
	} else {
		at := make(map[string]int)
		for _, g := range groups {
			if slices.ContainsFunc(g, func(w keystore.Write) bool {
				i, known := at[string(w.Key)]
				return known && list[i].now != w.If
			}) {
				break
			}
			for i := range g {
				w := &g[i]
				n, known := at[string(w.Key)]
				if !known {
					n = len(list)
					at[string(w.Key)] = n
					list = append(list, change{key: w.Key, first: w.If})
				}
				list[n].apply(w)
			}
			possible++
		}
	}
	slices.SortFunc(list, func(a, b change) int { return bytes.Compare(a.key, b.key) })
	return steps(list), possible
}

func (n *change) apply(w *keystore.Write) {
	switch w.Op {
	case keystore.Guard:
		n.now = w.If
	case keystore.Put:
		n.now, n.value, n.wrote = w.Rev, w.Value, true
	case keystore.Delete:
		n.now, n.value, n.wrote = 0, nil, true
	}
}

func (n *change) isGuard() bool { return n.first != 0 && !n.wrote }
func (n *change) isNew() bool   { return n.first == 0 && n.now != 0 }

// steps writes list, in key order, as statements: first those that lock and check. Guards
// are locked before what is written, each in key order. Whoever writes a record that
// others guard writes it before the records that they write next to that guard, since
// pages stand before their rings; so nobody waits in a circle. Should somebody, then the
// server ends one of them, who tries again.
//
// A record that must stay absent until the commit is kept so by a place-holder.
func steps(list []change) []step {
	if len(list) == 2 && list[0].isGuard() && list[1].isNew() {
		g, n := &list[0], &list[1]
		return []step{{&createStatement, [][]byte{
			int16Value(pageOf(g.key)), restOf(g.key), int64Value(int64(g.first)),
			int16Value(pageOf(n.key)), restOf(n.key), int64Value(int64(n.now)), append([]byte{}, n.value...)}, 1}}
	}
	var guards, absent, replaced, updates, inserts, deletes rows
	var holders, held rows
	for i := range list {
		n := &list[i]
		switch {
		case n.isGuard():
			guards.addKey(n.key)
			guards.addRev(n.first)
			continue
		case n.first != 0:
			replaced.addKey(n.key)
			replaced.addRev(n.first)
		default:
			absent.addKey(n.key)
		}
		switch {
		case n.now == 0 && n.first != 0:
			deletes.addKey(n.key)
		case n.now == 0:
			holders.addPut(n.key, 0, nil)
			held.addKey(n.key)
		case n.first != 0:
			updates.addPut(n.key, n.now, n.value)
		default:
			inserts.addPut(n.key, n.now, n.value)
		}
	}
	t := []step{{&beginStatement, append(guards.named(), absent.keyed()...), 0}}
	for _, next := range []struct {
		statement *statement
		rows      *rows
		args      func(*rows) [][]byte
	}{
		{&lockStatement, &replaced, (*rows).named},
		{&insertStatement, &holders, (*rows).put},
		{&insertStatement, &inserts, (*rows).put},
		{&updateStatement, &updates, (*rows).put},
		{&deleteStatement, &deletes, (*rows).keyed},
		{&deleteStatement, &held, (*rows).keyed},
	} {
		if next.rows.n > 0 {
			t = append(t, step{next.statement, next.args(next.rows), 0})
		}
	}
	return t
}
